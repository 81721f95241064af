"""What of a history is sent to a model: the last column of the table of states in ARCHITECTURE.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from afkcli.core.contract.errors import HISTORY_REFUSED, REFUSED_KINDS, ErrorKind
from afkcli.core.contract.limits import CUT_WHY
from afkcli.core.contract.messages import Message, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart
from afkcli.core.contract.result import RunState
from afkcli.core.thread.changes import Compaction
from afkcli.core.thread.compactions import message_of
from afkcli.core.thread.history import History
from afkcli.core.thread.turns import SealedTurn, TurnContext, resumed_by

_CUT_BY_STATE = {
    RunState.DEGRADED: "a limit was reached",
    RunState.FAILED: "the connection broke",
    RunState.CANCELLED: "it was cancelled",
    RunState.INTERRUPTED: "the program was interrupted",
}


class SentTurn(NamedTuple):
    """What is sent of the turn with the number `turn`, its model, and what was known of the conversation at its end.

    `system` is the system prompt that an imported turn begins with; it is sent with the instructions (since 0.2).
    `compaction` is the id of the compaction that this is sent of, in place of all turns up to `turn`. One of a server
    (`is_native`) comes behind these turns, because only the model that made it takes it (both since 0.2).
    """

    turn: int
    messages: tuple[Message, ...]
    model: str = ""
    context: TurnContext | None = None
    system: str = ""
    compaction: str | None = None
    is_native: bool = False


def sent_turns(history: History, resumes: str | None = None) -> list[SentTurn]:
    """Return what the next turn sends of the turns of `history` before its own messages.

    Where a compaction is used, it is the first of them. Those that servers made when they were asked are among them.

    Args:
        history: the thread's history.
        resumes: the run that the next turn resumes, if it does; its messages are left out.
    """
    seen, compaction = history.seen, history.compaction
    resumed, through = resumed_by(seen), compaction.through if compaction is not None else 0
    turns = (turn for position, turn in enumerate(seen) if position not in resumed and turn.turn > through)
    sent = [_sent(turn) for turn in turns if resumes is None or turn.run_id != resumes]
    for made in history.native_compactions:
        if made.through > through:
            sent.insert(sum(turn.turn <= made.through for turn in sent), _sent_behind(made))
    return sent if compaction is None else [_sent_in_place(compaction), *sent]


def _sent_behind(compaction: Compaction) -> SentTurn:
    """Return the compaction of a server, to be sent in place of what comes before it."""
    part = ReasoningPart(text="", provider_data=compaction.provider_data, compacts=True)
    return SentTurn(
        turn=compaction.through,
        messages=(Message(role=Role.ASSISTANT, parts=(part,)),),
        model=compaction.model,
        compaction=compaction.id,
        is_native=True,
    )


def _sent_in_place(compaction: Compaction) -> SentTurn:
    return SentTurn(
        turn=compaction.through,
        messages=(message_of(compaction),),
        model=compaction.model,
        system=compaction.system,
        compaction=compaction.id,
    )


def _sent(turn: SealedTurn) -> SentTurn:
    messages, system = messages_to_send(turn), ""
    if len(messages) > 1 and messages[1].role is Role.SYSTEM:  # some APIs take one at the beginning alone
        system, messages = messages[1].text, (messages[0], *messages[2:])
    return SentTurn(turn.turn, messages, turn.model, turn.context, system)


def turns_to_send(history: History) -> set[int]:
    """Return the numbers of the turns of which the next turn sends something: no others have to become messages."""
    seen, compaction = history.seen, history.compaction
    resumed, through = resumed_by(seen), compaction.through if compaction is not None else 0
    sent = (turn for position, turn in enumerate(seen) if position not in resumed and turn.turn > through)
    return {turn.turn for turn in sent if not (turn.state is RunState.FAILED and was_refused(turn))}


def history_warnings(history: History) -> list[tuple[str, str]]:
    """Return the code and the line of each warning about what the next turn sends of `history`."""
    warnings = [("damaged_record", line) for line in history.damage]
    last = history.seen[-1] if history.seen else None
    if last is not None and was_refused(last):
        line = f"the message of turn {last.turn} was refused ({last.error_kind}) and is left out from here on"
        warnings.append(("question_left_out", line))
    return warnings


def was_refused(turn: SealedTurn) -> bool:
    """Return whether an API refused the turn's own messages, so that they are not sent again."""
    return turn.error_kind in REFUSED_KINDS and turn.reason != HISTORY_REFUSED


def messages_to_send(turn: SealedTurn) -> tuple[Message, ...]:
    """Return what the next turn sends of `turn`: all of it, the question alone, or nothing (the table of states)."""
    if turn.state is RunState.COMPLETED or turn.error_kind is ErrorKind.INVALID_OUTPUT:
        return turn.messages if _is_plain(turn.messages) else tuple(pair_tool_calls(turn.messages))
    if turn.state is RunState.FAILED:
        if was_refused(turn):
            return ()
        acted = any(message.role is Role.TOOL for message in turn.messages)  # what tools did must not look undone
        went_on = turn.resumed and len(turn.messages) > 1  # nor what had been said before
        if turn.error_kind is not ErrorKind.TRUNCATED and not acted and not went_on:
            return turn.messages[:1]
    if not turn.messages:  # its question was damaged
        return ()
    return mark_cut(turn.messages, cut_reason(turn))


def _is_plain(messages: Sequence[Message]) -> bool:
    """Return whether nothing but text was said, so that there is no call to pair."""
    return all(message.is_text and message.role is not Role.TOOL for message in messages)


def cut_reason(turn: SealedTurn) -> str:
    """Return why the answer of a turn that is not completed was cut, for the model."""
    return CUT_WHY.get(turn.reason or "", _CUT_BY_STATE[turn.state])


def mark_cut(messages: Sequence[Message], reason: str) -> tuple[Message, ...]:
    """Return `messages` with a note for the model that the answer was cut, every tool call with a result."""
    note = TextPart(text=f"[This answer was cut off here: {reason}.]")
    paired = list(pair_tool_calls(messages))
    if paired and paired[-1].role is Role.ASSISTANT:
        last = paired.pop()
        spoken = [part for part in last.parts if not isinstance(part, TextPart) or part.text]
        paired.append(Message(role=Role.ASSISTANT, parts=(*spoken, note)))
    else:
        paired.append(Message(role=Role.ASSISTANT, parts=(note,)))
    return tuple(paired)


def pair_tool_calls(messages: Sequence[Message]) -> Iterable[Message]:
    """Yield `messages`; each message with tool calls is followed by one message with a result for every call.

    A call without a result gets an error result. A result belongs to the step before it, because ids may repeat.
    """
    for position, message in enumerate(messages):
        if message.role is Role.TOOL:
            continue
        yield message
        calls = message.tool_calls
        if calls:
            following = list(_results_after(messages, position))
            answers = [part for later in following for part in later.parts if isinstance(part, ToolResultPart)]
            parts = tuple(_take_result(call, answers) for call in calls)
            # The same object where nothing is missing: what was made of it is not made again.
            complete = [later.parts for later in following] == [parts]
            yield following[0] if complete else Message(role=Role.TOOL, parts=parts)


def _results_after(messages: Sequence[Message], position: int) -> Iterator[Message]:
    """Yield the messages with results that directly follow the one at `position`."""
    for later in range(position + 1, len(messages)):
        if messages[later].role is not Role.TOOL:
            return
        yield messages[later]


def _take_result(call: ToolCallPart, answers: list[ToolResultPart]) -> ToolResultPart:
    for position, answer in enumerate(answers):
        if answer.id == call.id:
            return answers.pop(position)
    return unfinished_result(call)


def unfinished_result(call: ToolCallPart) -> ToolResultPart:
    """Return the result of a call that was cut off before it had one."""
    text = TextPart(text="The tool did not finish: the turn was cut off.")
    return ToolResultPart(id=call.id, name=call.name, parts=(text,), is_error=True)

"""How a run resumes a turn that was interrupted, or asks the last question again: what it begins with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from afkcli.core.contract.errors import ErrorKind, UsageError
from afkcli.core.contract.messages import Message, Role, TextPart, ToolCallPart, ToolResultPart, text_message
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import replace
from afkcli.core.thread.sending import cut_reason, mark_cut, pair_tool_calls, was_refused
from afkcli.core.thread.set_aside import asked_last
from afkcli.core.thread.turns import Beginning, SealedTurn

GO_ON = "[Go on exactly where your answer was cut off; repeat nothing of it.]"
"""The message that follows the interrupted text in a resumed turn."""


def beginning_of_resumed(thread: ThreadInfo, turns: Sequence[SealedTurn]) -> Beginning:
    """Return the beginning of a turn that resumes the last one of `turns`.

    It begins with all messages of the last turn, which it replaces. Interrupted text is followed by a message to
    continue, an answer that did not fit its schema by one that says so; after tool calls no message is needed. An
    unanswered question is sent again unchanged.

    Raises:
        UsageError: there is nothing to resume.
    """
    if not turns:
        raise UsageError(f"there is nothing to resume: the thread {thread.name!r} has no turn")
    turn = turns[-1]
    if turn.state is RunState.COMPLETED:
        raise UsageError(f"there is nothing to resume: turn {turn.turn} of thread {thread.name!r} is completed")
    if was_refused(turn):
        raise UsageError(
            f"there is nothing to resume: turn {turn.turn} of thread {thread.name!r} was refused ({turn.error_kind}); "
            "ask in another way with `afk run`"
        )
    if not turn.messages:
        raise UsageError(f"turn {turn.turn} of thread {thread.name!r} cannot be resumed: its question is damaged")
    if turn.error_kind is ErrorKind.INVALID_OUTPUT:
        from afkcli.core.contract.structured import correction

        again = correction(turn.error or "it was not valid")
        return Beginning(messages=(*pair_tool_calls(turn.messages), again), resumes=turn.run_id)
    results = tuple(itertools.takewhile(lambda message: message.role is Role.TOOL, reversed(turn.messages)))[::-1]
    before = turn.messages[: len(turn.messages) - len(results)]
    last = before[-1]
    if last.tool_calls:
        messages = (*pair_tool_calls(before[:-1]), last, *results)
        return Beginning(messages=messages, unfinished=_unanswered(last, results), resumes=turn.run_id)
    if last.role is not Role.ASSISTANT:
        return Beginning(messages=tuple(pair_tool_calls(before)), resumes=turn.run_id)
    if not last.text:  # it was cut while the model was still reasoning
        return Beginning(messages=tuple(pair_tool_calls(before[:-1])), resumes=turn.run_id)
    cut = mark_cut(before, cut_reason(turn))
    return Beginning(messages=(*cut, text_message(Role.USER, GO_ON)), resumes=turn.run_id)


def beginning_again(
    thread: ThreadInfo, turns: Sequence[SealedTurn], replaces: Literal["last"] | int, message: Message | None
) -> Beginning:
    """Return the beginning of a turn that asks the last question of `turns` again, and takes the place of its answer.

    Args:
        thread: the thread.
        turns: its turns that are not set aside.
        replaces: the number of the turn whose question it is, which has to be the last one; "last" for whichever is.
        message: a message in place of the question; the attachments of the question stay.

    Raises:
        UsageError: there is no question, or another one is the last by now.
    """
    group = asked_last(turns)
    if not group:
        raise UsageError(f"there is nothing to ask again: the thread {thread.name!r} has no turn")
    last = group[-1]
    if replaces not in ("last", last.turn):
        raise UsageError(
            f"nothing was asked: the last turn of the thread {thread.name!r} is turn {last.turn} by now, not {replaces}"
        )
    if not last.messages:
        raise UsageError(f"turn {last.turn} of thread {thread.name!r} cannot be asked again: its question is damaged")
    question = last.messages[0]
    if message is not None:
        parts = list(question.parts)
        at = next((number for number, part in enumerate(parts) if isinstance(part, TextPart)), len(parts))
        kept = [[part for part in some if not isinstance(part, TextPart)] for some in (parts[:at], parts[at:])]
        question = replace(message, parts=(*kept[0], *message.parts, *kept[1]))
    return Beginning(messages=(question,), replaces=tuple(turn.turn for turn in group))


def _unanswered(asked: Message, results: Sequence[Message]) -> tuple[ToolCallPart, ...]:
    """Return the calls of `asked` without a result in `results`; ids may repeat."""
    answers = [part.id for message in results for part in message.parts if isinstance(part, ToolResultPart)]
    open_calls: list[ToolCallPart] = []
    for call in asked.tool_calls:
        if call.id in answers:
            answers.remove(call.id)
        else:
            open_calls.append(call)
    return tuple(open_calls)

"""Turns: how one begins, its sealed form and JSON, and a turn that is put together from its journal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

from afkcli.core.contract.codecs import usage_to_json
from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.growing import GrowingText
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonError, JsonObject, loads_object
from afkcli.core.contract.limits import MAX_TURN_MB, MB
from afkcli.core.contract.messages import Message, ReasoningPart, Role, TextPart, ToolCallPart, message_from_json
from afkcli.core.contract.protocols import OpenTurn, Record, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState, Usage, usage_from_json
from afkcli.core.contract.structs import FrozenStruct, field, replace
from afkcli.core.contract.typed_json import from_json


class Beginning(FrozenStruct, kw_only=True):
    """What a turn begins with: a question, or all messages of the turn of the run `resumes`, which was interrupted.

    `unfinished` are the tool calls of its last step that have no result. `replaces` are the numbers of the turns whose
    question is asked again, and whose place this turn takes.
    """

    messages: tuple[Message, ...]
    unfinished: tuple[ToolCallPart, ...] = ()
    resumes: str | None = None
    replaces: tuple[int, ...] = ()


class TurnContext(FrozenStruct, kw_only=True):
    """The conversation at the end of a turn, as its model took it.

    Args:
        tokens: its size, as the server counted it.
        window: the window of the model, where neither the config nor the provider says it: by the server's refusal,
            which named it, or by a list.
        dropped_through: the last turn that was left out of the requests.
        marked_through: the last turn of which the results of tools were left out.
        compaction: the id of the compaction that was sent; `tokens` counts with it alone.

    Since: 0.2.
    """

    tokens: int | None = None
    window: int | None = None
    dropped_through: int | None = None
    marked_through: int | None = None
    compaction: str | None = None


class SealedTurn(FrozenStruct, kw_only=True):
    """One finished turn as the store keeps it. Times are RFC 3339.

    A turn with `resumed` contains all messages of the turn of the run `parent_run_id`, and replaces it.
    `context` is what was known of the size of the conversation at its end; None if nothing was (since 0.2).
    """

    turn: int
    run_id: str
    state: RunState
    reason: str | None
    error: str | None
    error_kind: ErrorKind | None
    agent: str
    model: str
    started: str
    sealed: str
    messages: tuple[Message, ...]
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    steps: int = 0
    parent_run_id: str | None = None
    resumed: bool = False
    context: TurnContext | None = None


def turn_to_json(turn: SealedTurn) -> JsonObject:
    """Return the body of the turn's seal."""
    form: JsonObject = {"v": 1, **{name: getattr(turn, name) for name in SealedTurn.__struct_fields__}}
    form["messages"] = [message_to_json(message) for message in turn.messages]
    form["usage"] = usage_to_json(turn.usage)
    return form


def turn_from_json(form: JsonObject) -> SealedTurn:
    """Return the turn in the body of a seal; fields that are not known are ignored.

    Raises:
        JsonError: a field is missing or of a wrong type.
    """
    # A count that a provider reported in a wrong form must not cost the turn, so the usage is read leniently.
    return from_json(SealedTurn, {**form, "usage": usage_to_json(usage_from_json(form.get("usage")))})


def after_seal(thread: ThreadInfo, turn: SealedTurn) -> ThreadInfo:
    """Return the metadata of `thread` after `turn` was sealed."""
    cost = None if thread.cost_usd is None or turn.cost_usd is None else round(thread.cost_usd + turn.cost_usd, 12)
    return replace(
        thread,
        open_turn=None,
        last_state=turn.state,
        last_run_id=turn.run_id,
        used=turn.sealed,
        usage=thread.usage + turn.usage,
        cost_usd=cost,
    )


def resumed_by(turns: Sequence[SealedTurn]) -> dict[int, SealedTurn]:
    """Return the turns that resume others, by the position in `turns` of the turn that each replaces."""
    taken: dict[int, SealedTurn] = {}
    for position, turn in enumerate(turns):
        if turn.resumed:
            for earlier in range(position - 1, -1, -1):
                if turns[earlier].run_id == turn.parent_run_id:
                    taken[earlier] = turn
                    break
    return taken


def interrupted_turn(thread: ThreadInfo, opened: OpenTurn, records: Iterable[Record]) -> SealedTurn:
    """Return the turn that its question and its journal `records` describe."""
    agent, model = thread.agent or "", thread.model or ""
    parent_run_id, resumed, steps = None, False, 0
    journal = _Journal()
    for record in records:  # one body at a time: together they may be large
        body = loads_object(record.body)
        journal.add(body)
        if record.kind is RecordKind.QUESTION:
            agent, model = body.get("agent", agent), body.get("model", model)
            parent_run_id, resumed = body.get("parent_run_id"), body.get("resumed") is True
            steps -= _count_steps(body.get("messages", ()))  # what it resumes was counted there
    messages = journal.messages()
    return SealedTurn(
        turn=opened.turn,
        run_id=opened.run_id,
        state=RunState.INTERRUPTED,
        reason=None,
        error=None,
        error_kind=None,
        agent=agent,
        model=model,
        started=opened.started,
        sealed=rfc3339(time.time()),
        messages=tuple(messages),
        steps=steps + sum(message.role is Role.ASSISTANT for message in messages),
        parent_run_id=parent_run_id,
        resumed=resumed,
    )


def journaled_messages(bodies: Iterable[JsonObject]) -> list[Message]:
    """Return the messages in the bodies of journal records; the last one may be incomplete."""
    journal = _Journal()
    for body in bodies:
        journal.add(body)
    return journal.messages()


class _Journal:
    """The messages of an open turn, put together from the bodies of its records."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._text = _BoundedText()
        self._reasoning = _BoundedText()

    def add(self, body: JsonObject) -> None:
        for form in body.get("messages", ()):
            with contextlib.suppress(JsonError):  # of a part that this version does not know, the rest is kept
                self._messages.append(message_from_json(form))
            self._text, self._reasoning = _BoundedText(), _BoundedText()
        self._text.append(str(body.get("text", "")))
        self._reasoning.append(str(body.get("reasoning", "")))

    def messages(self) -> list[Message]:
        return [*self._messages, *partial_message(str(self._text), str(self._reasoning))]


class _BoundedText(GrowingText):
    """Text of a journal, as much as a turn can hold; an earlier afk had no such limit."""

    __slots__ = ("_room",)

    def __init__(self) -> None:
        super().__init__()
        self._room = (MAX_TURN_MB + 2) * MB

    def append(self, piece: str) -> None:
        if self._room > 0:
            super().append(piece[: self._room])
            self._room -= len(piece)


def partial_message(text: str, reasoning: str) -> list[Message]:
    """Return the assistant's message with the text streamed so far; an empty list if there is none."""
    parts: list[ReasoningPart | TextPart] = []
    if reasoning:
        parts.append(ReasoningPart(text=reasoning))
    if text:
        parts.append(TextPart(text=text))
    return [Message(role=Role.ASSISTANT, parts=tuple(parts))] if parts else []


def _count_steps(forms: Iterable[JsonObject]) -> int:
    return sum(isinstance(form, dict) and form.get("role") == Role.ASSISTANT for form in forms)

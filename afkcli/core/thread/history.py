"""A thread's memory on top of a store: names, records, the history that a model is sent, and the open turn."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from afkcli.core.contract.errors import REFUSED_KINDS, ErrorKind, InvalidNameError, LeaseLostError, StoreError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonError, JsonObject, dumps, loads_object
from afkcli.core.contract.limits import CUT_WHY
from afkcli.core.contract.messages import (
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    message_from_json,
)
from afkcli.core.contract.protocols import (
    KEPT_KINDS,
    NO_CONTENTS,
    RENEW_SECONDS,
    Lease,
    OpenTurn,
    Record,
    RecordKind,
    Store,
    ThreadInfo,
)
from afkcli.core.contract.result import RunState, Usage, usage_from_json

MAX_NAME = 200

_CUT_BY_STATE = {
    RunState.DEGRADED: "a limit was reached",
    RunState.FAILED: "the connection broke",
    RunState.CANCELLED: "it was cancelled",
    RunState.INTERRUPTED: "the program was interrupted",
}


def check_name(name: str) -> str:
    """Return `name` in NFC if it may name a thread: 1 to 200 printable characters, not blank, no leading `-`.

    Raises:
        InvalidNameError: otherwise, saying what is wrong.
    """
    name = unicodedata.normalize("NFC", name)
    rule = "1 to 200 printable characters, no leading '-'"
    if not name.strip():
        raise InvalidNameError(f"a thread name is empty; use {rule}")
    if len(name) > MAX_NAME:
        raise InvalidNameError(f"a thread name of {len(name)} characters is too long; use {rule}")
    if name.startswith("-"):
        raise InvalidNameError(f"the thread name {name!r} starts with '-'; use {rule}")
    if not name.isprintable():
        raise InvalidNameError(f"the thread name {name!a} has a character that cannot be printed; use {rule}")
    return name


def record_hash(key: str, record: Record) -> str:
    """Return the SHA-256 (hex) over the thread's key and all fields of `record` but its hash."""
    head = f"{key}\n{record.index}\n{record.kind}\n{record.turn}\n{record.prev}\n"
    return hashlib.sha256((head + record.body).encode("utf-8")).hexdigest()


def next_record(thread: ThreadInfo, kind: RecordKind, turn: int, body: JsonObject) -> Record:
    """Return the record that follows the last one of `thread`."""
    prev = thread.kept_head if kind in KEPT_KINDS else thread.head
    record = Record(index=thread.next_index, kind=kind, turn=turn, prev=prev, body=dumps(body), hash="")
    return replace(record, hash=record_hash(thread.key, record))


def advance(thread: ThreadInfo, record: Record) -> ThreadInfo:
    """Return `thread` as it is after `record` was appended."""
    kept = record.hash if record.kind in KEPT_KINDS else thread.kept_head
    return replace(thread, head=record.hash, kept_head=kept, next_index=record.index + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a turn begins with: a question, or all of the turn of the run `resumes`, which was cut.

    `unfinished` are the tool calls of its last step that have no result.
    """

    messages: tuple[Message, ...]
    unfinished: tuple[ToolCallPart, ...] = ()
    resumes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTurn:
    """One finished turn as the store keeps it. Times are RFC 3339.

    A turn that was `resumed` holds all that the turn of the run `parent_run_id` holds, and stands in its place.
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


def turn_to_json(turn: SealedTurn) -> JsonObject:
    """Return the body of the turn's seal."""
    form: JsonObject = {"v": 1}
    for name in SealedTurn.__slots__:
        value = getattr(turn, name)
        form[name] = [message_to_json(message) for message in value] if name == "messages" else value
    return form


def turn_from_json(form: JsonObject) -> SealedTurn:
    """Return the turn in the body of a seal; `JsonError` if it is not one."""
    try:
        return SealedTurn(
            turn=form["turn"],
            run_id=form["run_id"],
            state=RunState(form["state"]),
            reason=form.get("reason"),
            error=form.get("error"),
            error_kind=ErrorKind(form["error_kind"]) if form.get("error_kind") else None,
            agent=form["agent"],
            model=form["model"],
            started=form["started"],
            sealed=form["sealed"],
            messages=tuple(message_from_json(message) for message in form["messages"]),
            usage=usage_from_json(form.get("usage")),
            cost_usd=form.get("cost_usd"),
            steps=form.get("steps", 0),
            parent_run_id=form.get("parent_run_id"),
            resumed=form.get("resumed") is True,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise JsonError(f"a seal is not complete: {error}") from None


def messages_to_send(turn: SealedTurn) -> tuple[Message, ...]:
    """Return what the next turn sends of `turn`: all of it, the question alone, or nothing (the table of states)."""
    if turn.state is RunState.COMPLETED or turn.error_kind is ErrorKind.INVALID_OUTPUT:
        return tuple(pair_tool_calls(turn.messages))
    if turn.state is RunState.FAILED:
        if turn.error_kind in REFUSED_KINDS:
            return ()
        acted = any(message.role is Role.TOOL for message in turn.messages)  # what tools did must not look undone
        went_on = turn.resumed and len(turn.messages) > 1  # nor what had been said before
        if turn.error_kind is not ErrorKind.TRUNCATED and not acted and not went_on:
            return turn.messages[:1]
    if not turn.messages:  # its question was damaged
        return ()
    return mark_cut(turn.messages, cut_reason(turn))


def cut_reason(turn: SealedTurn) -> str:
    """Return why the answer of a turn that is not completed was cut, for the model."""
    return CUT_WHY.get(turn.reason or "", _CUT_BY_STATE[turn.state])


def resumed_by(turns: Sequence[SealedTurn]) -> dict[int, SealedTurn]:
    """Return the turns that stand in the place of others, by the position of the other in `turns`."""
    taken: dict[int, SealedTurn] = {}
    for position, turn in enumerate(turns):
        if turn.resumed:
            for earlier in range(position - 1, -1, -1):
                if turns[earlier].run_id == turn.parent_run_id:
                    taken[earlier] = turn
                    break
    return taken


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
    """Yield `messages`, each with tool calls followed by one message with a result of every call of it.

    A call that has none gets an error result. Results belong to the step before them, because ids may repeat.
    """
    for position, message in enumerate(messages):
        if message.role is Role.TOOL:
            continue
        yield message
        if message.tool_calls:
            following = itertools.takewhile(lambda later: later.role is Role.TOOL, messages[position + 1 :])
            answers = [part for later in following for part in later.parts if isinstance(part, ToolResultPart)]
            yield Message(role=Role.TOOL, parts=tuple(_take_result(call, answers) for call in message.tool_calls))


def _take_result(call: ToolCallPart, answers: list[ToolResultPart]) -> ToolResultPart:
    for position, answer in enumerate(answers):
        if answer.id == call.id:
            return answers.pop(position)
    return unfinished_result(call)


def unfinished_result(call: ToolCallPart) -> ToolResultPart:
    """Return the result of a call that was cut off before it had one."""
    text = TextPart(text="The tool did not finish: the turn was cut off.")
    return ToolResultPart(id=call.id, name=call.name, parts=(text,), is_error=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a thread's records say. `damage` names each thing that is damaged or missing, a line each."""

    turns: tuple[SealedTurn, ...]
    damage: tuple[str, ...]
    open_records: tuple[Record, ...]

    def warnings(self) -> list[tuple[str, str]]:
        """Return the code and line of each thing that the user should know of what the next turn sends."""
        warnings = [("damaged_record", line) for line in self.damage]
        last = self.turns[-1] if self.turns else None
        if last is not None and last.error_kind in REFUSED_KINDS:
            line = f"the message of turn {last.turn} was refused ({last.error_kind}) and is left out from here on"
            warnings.append(("question_left_out", line))
        return warnings

    def messages(self, resumes: str | None = None) -> list[Message]:
        """Return the messages that the next turn sends before its own, those of the run that it `resumes` left out."""
        resumed = resumed_by(self.turns)
        turns = (turn for position, turn in enumerate(self.turns) if position not in resumed)
        sent = (turn for turn in turns if resumes is None or turn.run_id != resumes)
        return [message for turn in sent for message in messages_to_send(turn)]


def read_history(thread: ThreadInfo, records: Iterable[Record]) -> History:
    """Check the records' hashes and their chain, and return the turns; damaged ones are named and left out."""
    turns: list[SealedTurn] = []
    damage: list[str] = []
    open_records: list[Record] = []
    kept_head = head = ""
    for record in records:
        label = f"turn {record.turn} of thread {thread.name!r} (record {record.index})"
        kept = record.kind in KEPT_KINDS
        before = kept_head if kept else head
        head = record.hash
        kept_head = head if kept else kept_head
        if record_hash(thread.key, record) != record.hash:
            damage.append(f"{label} is damaged: its checksum does not match")
            continue
        if record.prev != before:
            damage.append(f"a record before {label} is missing or damaged")
        try:
            body = loads_object(record.body)
            if record.kind is RecordKind.SEAL:
                turns.append(turn_from_json(body))
            elif not kept:
                open_records.append(record)
        except JsonError as error:
            damage.append(f"{label} cannot be read: {error}")
    if kept_head != thread.kept_head or head != thread.head:
        damage.append(f"the last record of thread {thread.name!r} is missing")
    return History(turns=tuple(turns), damage=tuple(damage), open_records=tuple(open_records))


def load_history(store: Store, thread: ThreadInfo) -> History:
    """Read and check all records of `thread`."""
    return read_history(thread, store.load(thread.key))


def seal_interrupted(store: Store, lease: Lease, history: History) -> tuple[Lease, History]:
    """Seal the turn that a dead owner left open as `interrupted`; see `seal_open_turn`."""
    return seal_open_turn(store, lease, history, RunState.INTERRUPTED)


def seal_open_turn(store: Store, lease: Lease, history: History, state: RunState) -> tuple[Lease, History]:
    """Seal the turn that is open, with its question and the text that was journaled.

    Returns the lease and the history as they are afterwards; both unchanged if no turn is open.
    """
    thread = lease.thread
    if thread.open_turn is None:
        return lease, history
    turn = replace(interrupted_turn(thread, thread.open_turn, history.open_records), state=state)
    record = next_record(thread, RecordKind.SEAL, turn.turn, turn_to_json(turn))
    sealed = after_seal(advance(thread, record), turn)
    store.append(sealed, [record], thread.head, lease)
    return replace(lease, thread=sealed), replace(history, turns=(*history.turns, turn), open_records=())


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


def interrupted_turn(thread: ThreadInfo, opened: OpenTurn, records: Iterable[Record]) -> SealedTurn:
    """Put the turn together that its question and journal `records` tell of."""
    agent, model = thread.agent or "", thread.model or ""
    parent_run_id, resumed, steps = None, False, 0
    bodies: list[JsonObject] = []
    for record in records:
        body = loads_object(record.body)
        bodies.append(body)
        if record.kind is RecordKind.QUESTION:
            agent, model = body.get("agent", agent), body.get("model", model)
            parent_run_id, resumed = body.get("parent_run_id"), body.get("resumed") is True
            steps -= _count_steps(body.get("messages", ()))  # what it resumes was counted there
    messages = messages_told(bodies)
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


def messages_told(bodies: Iterable[JsonObject]) -> list[Message]:
    """Return the messages that the bodies of journal records tell of, the last one as far as it had come."""
    messages: list[Message] = []
    text: list[str] = []
    reasoning: list[str] = []
    for body in bodies:
        for form in body.get("messages", ()):
            with contextlib.suppress(JsonError):  # of a part that this version does not know, the rest is kept
                messages.append(message_from_json(form))
            text.clear()
            reasoning.clear()
        text.append(str(body.get("text", "")))
        reasoning.append(str(body.get("reasoning", "")))
    return [*messages, *partial_message("".join(text), "".join(reasoning))]


def _count_steps(forms: Iterable[JsonObject]) -> int:
    return sum(isinstance(form, dict) and form.get("role") == Role.ASSISTANT for form in forms)


def partial_message(text: str, reasoning: str) -> list[Message]:
    """Return the assistant's message of what was streamed so far, or none if nothing was."""
    parts: list[ReasoningPart | TextPart] = []
    if reasoning:
        parts.append(ReasoningPart(text=reasoning))
    if text:
        parts.append(TextPart(text=text))
    return [Message(role=Role.ASSISTANT, parts=tuple(parts))] if parts else []


class Journal:
    """Puts aside what an open turn has said, until it is written; may be called from anywhere."""

    def __init__(self) -> None:
        self._pending: deque[tuple[str, str] | Message] = deque()
        self._unwritten: list[tuple[str, str] | Message] = []

    def journal_text(self, text: str) -> None:
        self._pending.append(("text", text))

    def journal_reasoning(self, text: str) -> None:
        self._pending.append(("reasoning", text))

    def journal_message(self, message: Message) -> None:
        """Put a whole message aside; it stands for the text and reasoning that were journaled before it."""
        self._pending.append(message)

    def _body(self) -> JsonObject | None:
        """Return what was put aside, as the body of a journal record; it is `_unwritten` until that is cleared."""
        while self._pending:
            self._unwritten.append(self._pending.popleft())
        if not self._unwritten:
            return None
        messages: list[JsonObject] = []
        streamed: dict[str, list[str]] = {"text": [], "reasoning": []}
        for piece in self._unwritten:
            if isinstance(piece, Message):
                messages.append(message_to_json(piece))
                streamed = {"text": [], "reasoning": []}
            else:
                streamed[piece[0]].append(piece[1])
        return {"v": 1, "messages": messages, **{name: "".join(texts) for name, texts in streamed.items()}}


class TurnWriter(Journal):
    """Writes one turn: the question, the journal while it streams, the seal. Holds the lease.

    `open`, `tick`, `seal` and `release` belong to the store's thread; `journal_text`, `journal_reasoning` and
    `journal_message` only put aside what the next tick writes and may be called from anywhere.

    Args:
        store: where the thread is kept.
        lease: the thread's lease.
        run_id: the run that writes this turn.
        on_problem: called on the store's thread with the `LeaseLostError` or the first other error of a tick.
    """

    def __init__(self, store: Store, lease: Lease, run_id: str, on_problem: Callable[[Exception], None]) -> None:
        super().__init__()
        self.store = store
        self.lease = lease
        self.thread = lease.thread
        self.turn = lease.thread.turns + 1
        self.run_id = run_id
        self.lost = False
        self._failed = False
        self._ticking = False
        self._on_problem = on_problem
        self._renewed = time.monotonic()

    def open(
        self,
        beginning: Beginning,
        *,
        agent: str,
        model: str,
        now: str,
        remember_model: bool = True,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        """Make the question, and what came before a resumption, durable; the turn is open from here on.

        Args:
            contents: what is attached to the question, by its hash.
            remember_model: whether `model` is the thread's from here on, or that of this turn only.

        Raises:
            StoreError, LeaseLostError: nothing was written.
        """
        body: JsonObject = {
            "v": 1,
            "run_id": self.run_id,
            "agent": agent,
            "model": model,
            "parent_run_id": beginning.resumes,
            "resumed": beginning.resumes is not None,
            "messages": [message_to_json(message) for message in beginning.messages],
        }
        record = next_record(self.thread, RecordKind.QUESTION, self.turn, body)
        opened = OpenTurn(turn=self.turn, run_id=self.run_id, index=record.index, started=now)
        title = self.thread.title or " ".join(beginning.messages[0].text.split())[:80] or None
        thread = replace(
            advance(self.thread, record),
            open_turn=opened,
            turns=self.turn,
            used=now,
            agent=agent,
            model=model if remember_model else self.thread.model,
            title=title,
        )
        self._append(thread, record, contents)

    def tick(self) -> None:
        """Write what was put aside as one journal record, and renew the lease when it is time."""
        if not self._ticking:  # else a call of a tick waits, and all writers are ticked meanwhile
            self._ticking = True
            self._tick()
            self._ticking = False

    def _tick(self) -> None:
        for step in (self._write_journal, self._renew):
            if self.lost:
                return
            try:
                step()
            except LeaseLostError as error:
                self.lost = True
                self._on_problem(error)
            except BaseException as error:  # a store may be anybody's plugin; the next tick tries again
                if not self._failed:
                    self._failed = True
                    self._on_problem(error if isinstance(error, Exception) else StoreError(repr(error)))

    def seal(self, turn: SealedTurn) -> None:
        """Seal the turn, durably.

        Raises:
            StoreError, LeaseLostError: it was not sealed.
        """
        record = next_record(self.thread, RecordKind.SEAL, self.turn, turn_to_json(turn))
        self._append(after_seal(advance(self.thread, record), turn), record)

    def release(self) -> None:
        """Give the lease back, so that the next run need not wait."""
        self.store.release(self.lease)

    def _renew(self) -> None:
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            self.lease = self.store.renew(self.lease)
            self._renewed = time.monotonic()

    def _write_journal(self) -> None:
        body = self._body()
        if body is not None:
            record = next_record(self.thread, RecordKind.JOURNAL, self.turn, body)
            self._append(advance(self.thread, record), record)
            self._unwritten.clear()

    def _append(self, thread: ThreadInfo, record: Record, contents: Mapping[str, bytes] = NO_CONTENTS) -> None:
        self.store.append(thread, [record], self.thread.head, self.lease, contents)
        self.thread = thread


class RescueWriter(Journal):
    """Journals a turn that its store cannot take; belongs to the store's thread like `TurnWriter`.

    Args:
        write: keeps the body of a journal record, so that it survives the process.
        on_problem: called on the store's thread with the first error.
    """

    def __init__(self, write: Callable[[JsonObject], None], on_problem: Callable[[Exception], None]) -> None:
        super().__init__()
        self._write = write
        self._on_problem = on_problem
        self._failed = False

    def tick(self) -> None:
        """Write what was put aside."""
        try:
            body = self._body()
            if body is not None:
                self._write(body)
                self._unwritten.clear()
        except Exception as error:  # the next tick tries again
            if not self._failed:
                self._failed = True
                self._on_problem(error)

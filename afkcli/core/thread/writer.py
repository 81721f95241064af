"""Writes the turn that is open: its question, its journal while it streams, and its seal."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from afkcli.core.contract.errors import LeaseLostError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import Message
from afkcli.core.contract.protocols import (
    NO_CONTENTS,
    RENEW_SECONDS,
    Append,
    Lease,
    OpenTurn,
    Operation,
    OperationResult,
    Record,
    RecordKind,
    Release,
    Renew,
    Store,
    ThreadInfo,
)
from afkcli.core.contract.structs import replace
from afkcli.core.thread.attachments import attached_parts
from afkcli.core.thread.batch import Batch, Steps, apply, make_alone, one
from afkcli.core.thread.changes import Compaction, Permission
from afkcli.core.thread.compactions import with_compaction
from afkcli.core.thread.fitting import fitted
from afkcli.core.thread.names import title_of
from afkcli.core.thread.permissions import with_permission
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import Beginning, SealedTurn, after_seal, turn_to_json
from afkcli.core.thread.undoing import replacement


class _Piece(NamedTuple):
    """A piece of streamed `text` or `reasoning`."""

    kind: str
    text: str


class _Whole(NamedTuple):
    """A whole message, and the contents that come with it."""

    message: Message
    contents: Mapping[str, bytes]


class Journal:
    """Collects the output of an open turn until it is written; may be called from anywhere."""

    def __init__(self) -> None:
        self._pending: deque[_Piece | _Whole] = deque()
        self._unwritten: list[_Piece | Message] = []
        self._contents: dict[str, bytes] = {}
        self._unwritten_contents: dict[str, bytes] = {}

    def journal_text(self, text: str) -> None:
        self._pending.append(_Piece("text", text))

    def journal_reasoning(self, text: str) -> None:
        self._pending.append(_Piece("reasoning", text))

    def journal_message(self, message: Message, contents: Mapping[str, bytes] = NO_CONTENTS) -> None:
        """Add a whole message; it replaces the text and reasoning that were added before it.

        Args:
            message: the message.
            contents: those of the images that it is the first to name, by hash.
        """
        self._pending.append(_Whole(message, contents))

    def _collect(self) -> None:
        """Move the collected output to `_unwritten`, and what it is the first to name to `_unwritten_contents`."""
        while self._pending:
            piece = self._pending.popleft()
            if isinstance(piece, _Whole):
                self._unwritten.append(piece.message)
                self._unwritten_contents |= piece.contents
                self._contents |= piece.contents
            else:
                self._unwritten.append(piece)

    def _body(self) -> JsonObject | None:
        """Return the collected output as the body of a journal record; it stays in `_unwritten` for now."""
        self._collect()
        if not self._unwritten:
            return None
        messages: list[JsonObject] = []
        streamed: dict[str, list[str]] = {"text": [], "reasoning": []}
        for collected in self._unwritten:
            if isinstance(collected, Message):
                messages.append(message_to_json(collected))
                streamed = {"text": [], "reasoning": []}
            else:
                streamed[collected.kind].append(collected.text)
        return {"v": 1, "messages": messages, **{name: "".join(texts) for name, texts in streamed.items()}}


class TurnWriter(Journal):
    """Writes one turn: the question, the journal while it streams, the seal. Holds the lease.

    `open`, `tick` and `seal` belong to the store's worker; `journal_text`, `journal_reasoning` and
    `journal_message` only collect what the next tick writes and may be called from anywhere.

    Args:
        store: where the thread is kept.
        lease: the thread's lease.
        run_id: the run that writes this turn.
        on_problem: called by the store's worker with the `LeaseLostError` or the first other error of a tick.
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
        self._writing = False
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
    ) -> Steps[None]:
        """Make the question (and the messages of a resumed turn) durable; the turn is open from here on.

        That the turn replaces others becomes durable with it.

        Args:
            contents: what is attached to the question, by its hash.
            remember_model: whether `model` becomes the thread's model, or is that of this turn only.

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
        before, records = self.thread, list[Record]()
        if beginning.replaces:
            before, replaced = replacement(before, beginning.replaces, self.turn)
            records.append(replaced)
        record = next_record(before, RecordKind.QUESTION, self.turn, body)
        opened = OpenTurn(turn=self.turn, run_id=self.run_id, index=record.index, started=now)
        title = self.thread.title or title_of(beginning.messages[0].text)
        thread = replace(
            advance(before, record),
            open_turn=opened,
            turns=self.turn,
            used=now,
            agent=agent,
            model=model if remember_model else self.thread.model,
            title=title,
        )
        yield from self._append(thread, [*records, record], contents)

    def tick(self) -> None:
        """Write the collected output as one journal record, and renew the lease when it is time."""
        write_due((self,))

    def due(self) -> list[Operation]:
        """Return what has to be written now; until `done` is called with the results, nothing else is due."""
        if self._writing or self.lost:  # a call of this writer waits, and all writers are looked at meanwhile
            return []
        operations: list[Operation] = []
        try:
            operations += self._append_of_journal()
        except Exception as error:  # a message of a plugin that is not JSON; the lease is renewed all the same
            self._take_failure(error)
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            operations.append(Renew(lease=self.lease))
        self._writing = bool(operations)
        return operations

    def _append_of_journal(self) -> list[Operation]:
        body = self._body()
        if body is None:
            return []
        record = next_record(self.thread, RecordKind.JOURNAL, self.turn, body)
        thread = advance(self.thread, record)
        contents = dict(self._unwritten_contents)
        return [Append(thread, (record,), expected_head=self.thread.head, lease=self.lease, contents=contents)]

    def done(self, operations: Sequence[Operation], results: Sequence[OperationResult]) -> None:
        """Take over what became of the operations that were due; what failed is due again, unless the lease is lost."""
        self._writing = False
        for operation, result in zip(operations, results, strict=True):
            if isinstance(result, Exception):
                self._take_failure(result)
            elif isinstance(operation, Append):
                self.thread = operation.thread
                self._unwritten.clear()
                self._unwritten_contents.clear()
            elif isinstance(result, Lease):
                self.lease = result
                self._renewed = time.monotonic()

    def _take_failure(self, error: Exception) -> None:
        """Report that the lease is lost, or the first other failure, once."""
        lost = isinstance(error, LeaseLostError)
        if self.lost or (self._failed and not lost):
            return
        self.lost, self._failed = lost, True
        self._on_problem(error)

    def compact(self, compaction: Compaction) -> None:
        """Record, durably, what takes the place of old turns; its cost is the thread's from here on.

        Raises:
            StoreError, LeaseLostError: it was not recorded.
        """
        self._change(*with_compaction(self.thread, compaction, self.thread.turns))

    def allow(self, permission: Permission) -> None:
        """Record, durably, what a person allowed for the whole thread.

        Raises:
            StoreError, LeaseLostError: it was not recorded.
        """
        self._change(*with_permission(self.thread, permission))

    def _change(self, thread: ThreadInfo, record: Record) -> None:
        """Append a record of the kind `meta` now, while the turn is open."""
        self._writing = True  # a tick while the store waits would write what the record does not follow
        try:
            make_alone(self._append(thread, [record], NO_CONTENTS))  # not in steps: the same, between them
        finally:
            self._writing = False

    def seal(self, turn: SealedTurn) -> Steps[None]:
        """Seal the turn (as much of it as a record may hold), durably, with the contents of its images.

        The lease is given back with it, also if it was not sealed, so that the next run need not wait. If that fails it
        ends by itself, and the turn is as it is.

        The contents came with the journal already. They come again, for a store that keeps contents with durable
        records only, and because a journal that failed may not have been written since.

        Raises:
            StoreError, LeaseLostError: it was not sealed.
        """
        try:
            append = self._append_of_seal(turn)
        except BaseException:
            yield Batch(self.store, (Release(self.lease),))
            raise
        sealed, _ = yield Batch(self.store, (append, Release(self.lease)))
        if isinstance(sealed, Exception):
            raise sealed
        self.thread = append.thread

    def _append_of_seal(self, turn: SealedTurn) -> Append:
        record = next_record(self.thread, RecordKind.SEAL, self.turn, turn_to_json(fitted(turn)))
        self._collect()  # what no tick took yet
        named = {part.sha256 for part in attached_parts(turn.messages)}
        contents = {sha256: data for sha256, data in self._contents.items() if sha256 in named}
        thread = after_seal(advance(self.thread, record), turn)
        return Append(thread, [record], self.thread.head, self.lease, contents)

    def _append(self, thread: ThreadInfo, records: Sequence[Record], contents: Mapping[str, bytes]) -> Steps[None]:
        yield from one(self.store, Append(thread, records, self.thread.head, self.lease, contents))
        self.thread = thread


class RescueWriter(Journal):
    """Journals a turn that its store cannot save; belongs to the store's worker like `TurnWriter`.

    Args:
        write: keeps the body of a journal record and the contents that it is the first to name, so that they survive
            the process.
        on_problem: called by the store's worker with the first error.
    """

    def __init__(
        self, write: Callable[[JsonObject, Mapping[str, bytes]], None], on_problem: Callable[[Exception], None]
    ) -> None:
        super().__init__()
        self._write = write
        self._on_problem = on_problem
        self._failed = False

    def tick(self) -> None:
        """Write the collected output."""
        try:
            body = self._body()
            if body is not None:
                self._write(body, self._unwritten_contents)
                self._unwritten.clear()
                self._unwritten_contents.clear()
        except Exception as error:  # the next tick tries again
            if not self._failed:
                self._failed = True
                self._on_problem(error)


def write_due(writers: Iterable[TurnWriter | RescueWriter]) -> None:
    """Write what is due of all `writers`: for each store in one transaction, if it can."""
    by_store: dict[int, list[tuple[TurnWriter, list[Operation]]]] = {}
    for writer in writers:
        if isinstance(writer, RescueWriter):
            writer.tick()
        elif operations := writer.due():
            by_store.setdefault(id(writer.store), []).append((writer, operations))
    for due in by_store.values():
        results = iter(apply(due[0][0].store, [operation for _, operations in due for operation in operations]))
        for writer, operations in due:
            writer.done(operations, list(itertools.islice(results, len(operations))))

"""Writes the turn that is open: its question, its journal while it streams, and its seal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from afkcli.core.contract.errors import LeaseLostError, StoreError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import Message
from afkcli.core.contract.protocols import (
    NO_CONTENTS,
    RENEW_SECONDS,
    Lease,
    OpenTurn,
    Record,
    RecordKind,
    Store,
    ThreadInfo,
)
from afkcli.core.thread.names import title_of
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import Beginning, SealedTurn, after_seal, turn_to_json


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
        title = self.thread.title or title_of(beginning.messages[0].text)
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

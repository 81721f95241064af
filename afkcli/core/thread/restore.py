"""Puts exported threads and rescued turns into a store. It only adds to what is in the store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Literal

from afkcli.core.contract.errors import ConflictError, ThreadBusyError
from afkcli.core.contract.protocols import KEPT_KINDS, Lease, Owner, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.thread.exchange import ExportedThread, RescuedTurn
from afkcli.core.thread.fitting import fitted
from afkcli.core.thread.history import load_history
from afkcli.core.thread.names import numbered_names, title_of
from afkcli.core.thread.operations import seal_interrupted
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_to_json


class Restored(FrozenStruct, kw_only=True):
    """What was done with a thread or a turn: it was imported, appended to its thread, or already present."""

    outcome: Literal["imported", "appended", "present"]
    thread: ThreadInfo


class Restorer:
    """Adds to a store.

    Args:
        store: where to.
        owner: returns who holds the leases that this takes.
        rename: whether a name that is taken gets a suffix; else the thread is refused.
    """

    def __init__(self, store: Store, owner: Callable[[], Owner], *, rename: bool) -> None:
        self._store = store
        self._owner = owner
        self._rename = rename
        self._known = {info.key: info for info in store.list()}

    def thread(self, exported: ExportedThread) -> Restored:
        """Add a thread as it was exported, with its key and its records to the letter.

        If the thread is here with fewer turns and `exported` may extend it, the turns that follow are appended.

        Raises:
            ConflictError: another thread has its name and renaming is not allowed, or the same thread has
                different turns here.
            StoreError: the store failed.
        """
        thread = exported.thread
        there = self._known.get(thread.key)
        if there is not None:
            if self._grew(there, exported):
                return self._continued(there, exported)
            if not self._holds(there, exported):
                raise ConflictError(
                    f"the thread {exported.thread.name!r} is {there.name!r} here, and has different turns; to "
                    "have this one, export that one and delete it first"
                )
            return Restored(outcome="present", thread=there)
        lease = self._new(thread.name, thread.key)
        thread = replace(thread, name=lease.thread.name)
        try:
            self._store.append(thread, exported.records, lease.thread.head, lease, exported.contents)
        finally:
            self._store.release(lease)
        self._known[thread.key] = thread
        return Restored(outcome="imported", thread=thread)

    def rescued(self, rescued: RescuedTurn) -> Restored:
        """Add a turn that could not be saved to its thread if no turn came after it, else to a new thread.

        It replaces a turn of the same run that was left open or sealed as interrupted.

        Raises:
            ConflictError: the thread has newer turns, and renaming is not allowed.
            ThreadBusyError: a run holds the thread.
            StoreError: the store failed.
        """
        there = self._store.find(rescued.thread_id)
        if there is None:
            return self._as_new(rescued)
        lease = self._store.acquire(there.name, self._owner(), create=False)
        if lease is None:
            raise ThreadBusyError(f"the thread {there.name!r} is in use; import again when its run has ended")
        try:
            lease, history = seal_interrupted(self._store, lease, load_history(self._store, lease.thread))
            number = _number_of(rescued.turn, history.turns, lease.thread)
            left = any(turn.run_id == rescued.turn.run_id for turn in history.turns)
            if number == 0:
                return Restored(outcome="present", thread=lease.thread)
            if number is not None:
                run_id = rescued.turn.run_id
                turn = replace(rescued.turn, resumed=True, parent_run_id=run_id) if left else rescued.turn
                thread = self._append(lease, turn, number, rescued.contents)
                return Restored(outcome="appended", thread=thread)
        finally:
            self._store.release(lease)
        if not self._rename:
            raise ConflictError(
                f"the thread {there.name!r} has newer turns; --rename imports this turn as a thread of its own"
            )
        return self._as_new(rescued)

    def _as_new(self, rescued: RescuedTurn) -> Restored:
        for there in self._known.values():
            if there.last_run_id == rescued.turn.run_id:
                return Restored(outcome="present", thread=there)
        lease = self._new(rescued.thread_id, None)
        try:
            thread = self._append(lease, rescued.turn, 1, rescued.contents)
        finally:
            self._store.release(lease)
        self._known[thread.key] = thread
        return Restored(outcome="imported", thread=thread)

    def _append(self, lease: Lease, turn: SealedTurn, number: int, contents: Mapping[str, bytes]) -> ThreadInfo:
        """Append `turn` as turn `number`, with what is attached, and return the thread as it is then."""
        turn = fitted(replace(turn, turn=number))
        thread = lease.thread
        record = next_record(thread, RecordKind.SEAL, number, turn_to_json(turn))
        title = thread.title or title_of(turn.messages[0].text)
        thread = replace(advance(thread, record), turns=number, agent=turn.agent, model=turn.model, title=title)
        thread = after_seal(thread, turn)
        self._store.append(thread, [record], lease.thread.head, lease, contents)
        return thread

    def _grew(self, there: ThreadInfo, exported: ExportedThread) -> bool:
        """Return whether the exported thread has all that is here, to the letter, and sealed turns that follow it."""
        if not exported.may_extend or there.open_turn is not None:
            return False
        return any(record.hash == there.head for record in exported.records[:-1])

    def _continued(self, there: ThreadInfo, exported: ExportedThread) -> Restored:
        """Append the records that follow the last one that is here."""
        lease = self._store.acquire(there.name, self._owner(), create=False)
        if lease is None:
            raise ThreadBusyError(f"the thread {there.name!r} is in use; import again when its run has ended")
        try:
            head = lease.thread.head
            if (lease.thread.key, head) != (there.key, there.head):
                raise ConflictError(f"the thread {there.name!r} was changed meanwhile; import again")
            known = [record.hash for record in exported.records].index(head) + 1
            thread = replace(exported.thread, name=lease.thread.name, created=lease.thread.created)
            self._store.append(thread, exported.records[known:], head, lease, exported.contents)
        finally:
            self._store.release(lease)
        self._known[thread.key] = thread
        return Restored(outcome="appended", thread=thread)

    def _holds(self, there: ThreadInfo, exported: ExportedThread) -> bool:
        """Return whether the thread in the store has all that was exported; it may have newer turns too."""
        if there.head == exported.thread.head:
            return True
        records = self._store.load(there.key)
        hashes = {record.hash for record in records}
        if any(record.hash not in hashes for record in exported.records if record.kind in KEPT_KINDS):
            return False
        opened = exported.thread.open_turn
        if opened is None or any(record.hash in hashes for record in exported.records if record.turn == opened.turn):
            return True
        return any(turn.run_id == opened.run_id for turn in load_history(self._store, there).turns)

    def _new(self, name: str, key: str | None) -> Lease:
        """Return the lease of a new thread `name`, with a suffix if the name is taken and renaming is allowed."""
        for wanted in itertools.chain((name,), numbered_names(name)) if self._rename else (name,):
            lease = self._store.acquire(wanted, self._owner(), key=key)
            if lease is not None and not lease.thread.head and lease.thread.key != (key or lease.thread.key):
                self._store.release(lease)  # a failed start left it behind; it is dropped with its lease
                lease = self._store.acquire(wanted, self._owner(), key=key)
            if lease is not None and not lease.thread.head:
                return lease
            if lease is not None:
                self._store.release(lease)
        raise ConflictError(f"there is already a thread {name!r}; --rename imports this one under another name")


def _number_of(turn: SealedTurn, turns: tuple[SealedTurn, ...], thread: ThreadInfo) -> int | None:
    """Return the number of a rescued turn in a thread: 0 if the thread has it, None if other turns came after it.

    The number in the file is ignored: a run that could not read its thread counts from 1.
    """
    same = [there for there in turns if there.run_id == turn.run_id]
    if any(there.state is not RunState.INTERRUPTED or there.messages == turn.messages for there in same):
        return 0
    if same:
        return thread.turns + 1 if same[-1] is turns[-1] else None
    return thread.turns + 1 if not turns or turns[-1].sealed <= turn.started else None

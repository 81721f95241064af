"""The last turns of a thread, read from its end, so that looking at them does not cost the whole thread.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from afkcli.core.contract.protocols import Record, Store
from afkcli.core.thread.export import Snapshot
from afkcli.core.thread.history import History, fold, latest
from afkcli.core.thread.records import record_hash

_MOST_RECORDS = 512
_MOST_BYTES = 32 << 20


class LastTurns(NamedTuple):
    """The last turns of a thread with their messages, and the records that they were read from."""

    history: History
    records: tuple[Record, ...]


def last_turns(store: Store, taken: Snapshot, first: int, enough: Callable[[History], bool]) -> LastTurns | None:
    """Return the last turns of a thread, read from its end until they are enough.

    Args:
        store: where it is kept.
        taken: the thread as it is at one moment.
        first: how many records to try first.
        enough: returns whether a history has all turns that are wanted; it is asked with more and more of them.

    Returns:
        The turns, more than are wanted where they were read together. None if they take too many records to be in
        memory at once, or if they are damaged: then the thread has to be read from its beginning.

    Raises:
        UnsupportedRecordError: a newer afk changed the thread.
    """
    thread, opened = taken.thread, taken.thread.open_turn
    end = opened.index if opened is not None else thread.next_index
    limit = first
    while limit <= _MOST_RECORDS:
        found = store.load(thread.key, limit=limit + len(taken.opened), reverse=True)
        sealed = [record for record in reversed(found) if record.index < end]
        records = (*sealed, *taken.opened)
        if len(found) < limit + len(taken.opened):
            return LastTurns(fold(thread, records), records)
        if any(record_hash(thread.key, record) != record.hash for record in sealed):
            return None
        history = latest(thread, records)
        if enough(history):
            return LastTurns(history, records)
        size = sum(len(record.body) for record in records) // len(records)
        limit *= 4
        if limit * size > _MOST_BYTES:
            return None
    return None

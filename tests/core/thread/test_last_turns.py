"""The last turns of a thread are read from its end: as many records as are shown, however long the thread is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from afkcli.core.contract.protocols import Record
from afkcli.core.thread.export import snapshot
from afkcli.core.thread.last_turns import last_turns
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.undoing import undo
from afkcli.testing.store_steps import acquired, save_turn


class CountingStore(MemoryStore):
    """A store that counts the records that it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        found = super().load(key, after=after, limit=limit, reverse=reverse)
        self.read += len(found)
        return found


@pytest.mark.parametrize("turns", [40, 400])
def test_as_many_records_are_read_as_are_shown(turns: int) -> None:
    store = CountingStore()
    lease = acquired(store, "long")
    for number in range(turns):
        lease = save_turn(store, lease, f"question {number}", "answer", number % 60)
    taken = snapshot(store, lease.thread)
    for count in (1, 3, 10):
        store.read = 0
        found = last_turns(store, taken, count, lambda history, count=count: len(history.seen) >= count)
        assert found is not None
        assert [turn.turn for turn in found.history.seen] == list(range(turns - count + 1, turns + 1))
        assert (store.read, found.history.damage) == (count, ())


def test_turns_that_are_set_aside_are_known_from_the_end_alone() -> None:
    store = CountingStore()
    lease = acquired(store, "long")
    for number in range(30):
        lease = save_turn(store, lease, f"question {number}", "answer", number)
    lease = undo(store, lease, 2).lease
    taken = snapshot(store, lease.thread)
    store.read = 0
    found = last_turns(store, taken, 2, lambda history: len(history.seen) >= 2)
    assert found is not None
    assert [turn.turn for turn in found.history.seen][-2:] == [27, 28]
    assert store.read <= 2 + 8

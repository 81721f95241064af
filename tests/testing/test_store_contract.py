"""The contract suite of stores finds faults that only several processes, a killed process or a long thread show.

The good store passes the whole suite in tests/old_plugins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from afkcli.core.contract.protocols import NO_CONTENTS, Lease, Owner, Record, Store, ThreadInfo
from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_processes import CAN_FORK
from afkcli.testing.store_steps import ShiftedTime
from tests.old_plugins.outside_store import SqliteStore
from tests.seeded_stores import Test, in_processes, on_a_store

pytestmark = [
    pytest.mark.skipif(not CAN_FORK, reason="the processes are forked"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the good store is a plugin of version 0.1
]


class UnlockedStore(SqliteStore):
    """Makes what is named in `unlocked` without a transaction: it reads, and then writes what it has read."""

    unlocked: Sequence[str] = ()
    _in_call = ""

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._in_call in self.unlocked:
            yield self._db
        else:
            with super()._transaction() as db:
                yield db

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        self._in_call = "acquire"
        try:
            return super().acquire(name, owner, create=create, key=key)
        except sqlite3.IntegrityError:  # two have created the thread at once
            return super().acquire(name, owner, create=create, key=key)

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        self._in_call = "append"
        super().append(thread, records, expected_head, lease, contents)

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        self._in_call = "add"
        return super().add(counter, amount, limit)


class UnlockedCounter(UnlockedStore):
    unlocked = ("add",)


class UnlockedAcquire(UnlockedStore):
    unlocked = ("acquire",)


class UnlockedAppend(UnlockedStore):
    unlocked = ("append",)


class NeverDurableStore(SqliteStore):
    """Keeps all in memory until it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__(":memory:")
        self._path = path
        with sqlite3.connect(path) as kept:
            kept.backup(self._db)

    def close(self) -> None:
        with sqlite3.connect(self._path) as kept:
            self._db.backup(kept)
        super().close()


class StaleStore(SqliteStore):
    """Finds threads as they were when this opening last read or wrote them."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._known: dict[str, ThreadInfo] = {}

    def find(self, name: str) -> ThreadInfo | None:
        if name not in self._known:
            found = super().find(name)
            if found is None:
                return None
            self._known[name] = found
        return self._known[name]

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        super().append(thread, records, expected_head, lease, contents)
        self._known.clear()


class ReadingStore(SqliteStore):
    """Reads the whole thread before it appends to it."""

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        self.load(thread.key)
        super().append(thread, records, expected_head, lease, contents)


class Contract(StoreContract):
    """The contract of a store in one file; the class of the store is given to each."""

    __test__ = False

    def __init__(self, kind: type[SqliteStore]) -> None:
        self._kind = kind
        self._time = ShiftedTime()

    def make_store(self, path: Path) -> Store:
        path.mkdir(exist_ok=True)
        return self._kind(str(path / "threads.db"))


FAULTS: Mapping[type[SqliteStore], Test] = {
    UnlockedCounter: StoreContract.test_no_addition_of_several_processes_is_lost,
    UnlockedAcquire: StoreContract.test_of_several_processes_that_want_a_thread_one_gets_it,
    UnlockedAppend: StoreContract.test_of_several_appends_behind_one_record_one_is_made,
    NeverDurableStore: in_processes(StoreContract.test_what_a_killed_process_wrote_is_there),
    StaleStore: StoreContract.test_what_another_opening_changed_is_found_at_once,
    ReadingStore: on_a_store(StoreContract.test_an_append_reads_nothing_of_the_turns_before_it),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_store_with_one_fault_fails_the_test_of_it(kind: type[SqliteStore], tmp_path: Path) -> None:
    with pytest.raises((AssertionError, sqlite3.IntegrityError)):
        FAULTS[kind](Contract(kind), tmp_path / "store")

"""Operations of many turns go into one transaction of the database, each with the durability that it needs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.plugin import (
    Acquire,
    Add,
    Lease,
    LeaseLostError,
    Operation,
    Release,
    Renew,
    Role,
    StoreError,
    current_owner,
    text_message,
)
from afkcli.testing.store_steps import acquired, appended, asked, with_journal, with_seal

Committed = Callable[[list[Operation]], list[str]]


@pytest.fixture
def committed(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> Committed:
    """Return a function that carries out operations, and returns the durability of each transaction of it."""

    def carried_out(operations: list[Operation]) -> list[str]:
        levels: list[str] = []
        with monkeypatch.context() as patch:
            store._cache._con.set_trace_callback(lambda sql: levels.append("NORMAL") if sql == "COMMIT" else None)
            patch.setattr("afk_store_disk.cache.sync", lambda descriptor: levels.append(f"{levels.pop()} and synced"))
            store.apply(operations)
            store._cache._con.set_trace_callback(None)
        return levels

    return carried_out


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the write lock, as a process does that is stopped while it writes."""
    holder = sqlite3.connect(folder / "threads.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_many_turns_are_journaled_in_one_transaction(store: DiskStore, committed: Committed) -> None:
    leases = [asked(store, f"t-{number}") for number in range(20)]
    operations: list[Operation] = [appended(lease, with_journal(lease.thread, "text")) for lease in leases]
    operations += [Renew(lease) for lease in leases]
    assert committed([*operations, Add("budget", 1)]) == ["NORMAL"]
    assert all(len(store.load(lease.thread.key)) == 2 for lease in leases)


def test_a_transaction_with_a_seal_survives_power_loss(store: DiskStore, committed: Committed) -> None:
    one, two = asked(store, "one"), asked(store, "two")
    operations = [appended(one, with_journal(one.thread, "text")), appended(two, with_seal(two.thread, []))]
    assert committed(operations) == ["NORMAL and synced"]


def test_turns_are_put_aside_while_the_database_is_locked(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._cache.lock, "timeout", 0.1)
    one, two, three = asked(store, "one"), asked(store, "two"), asked(store, "three")
    with locked(folder):
        results = store.apply(
            [
                appended(one, with_journal(one.thread, "text")),
                appended(two, with_journal(two.thread, "text")),
                appended(three, with_journal(three.thread, "text")),
                Renew(one),
                Add("budget", 1),
            ]
        )
        assert len(store.load(one.thread.key)) == 2
        assert len(list((folder / "spool").iterdir())) == 3
    assert results[:3] == [None, None, None]
    assert isinstance(results[4], StoreError)  # a counter cannot be put aside
    store.apply([Renew(one), Renew(two), Renew(three)])
    assert list((folder / "spool").iterdir()) == []
    assert [len(store.load(lease.thread.key)) for lease in (one, two, three)] == [2, 2, 2]


def test_only_what_does_not_fit_on_a_full_disk_fails(store: DiskStore, folder: Path) -> None:
    one, two, three, four = (asked(store, name) for name in ("one", "two", "three", "four"))
    con = store._cache._con
    ((pages,),) = con.execute("PRAGMA page_count")
    con.execute(f"PRAGMA max_page_count = {pages + 4}")  # what SQLite says then is what it says when a disk is full
    sealed = with_seal(two.thread, [text_message(Role.USER, "question")])
    results = store.apply(
        [
            appended(one, with_journal(one.thread, "a")),
            appended(two, sealed),
            Release(two),
            appended(three, with_journal(three.thread, "large" * 50_000)),
            Release(three),
            Renew(four),
            Acquire("new", current_owner("run")),
        ]
    )
    assert [type(result) for result in results] == [
        type(None),
        type(None),
        type(None),
        StoreError,
        type(None),
        Lease,
        Lease,
    ]
    assert "full" in str(results[3])
    con.execute("PRAGMA max_page_count = 1000000")
    again = DiskStore(folder)
    assert [len(again.load(lease.thread.key)) for lease in (one, two, three, four)] == [2, 1, 1, 1]
    assert again.find("two") == sealed[0]
    assert acquired(again, "three").thread == three.thread
    again.close()


def test_a_row_that_is_too_large_fails_alone(store: DiskStore) -> None:
    one, two = asked(store, "one"), asked(store, "two")
    store._cache._con.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    results = store.apply(
        [
            appended(one, with_journal(one.thread, "x" * 200_000)),
            appended(two, with_seal(two.thread, [])),
            Release(two),
            Add("budget", 1),
        ]
    )
    assert "too large" in str(results[0])
    assert results[1:] == [None, None, 1]


def test_a_seal_and_the_end_of_its_lease_are_one_transaction(store: DiskStore, committed: Committed) -> None:
    lease = asked(store)
    assert committed([appended(lease, with_seal(lease.thread, [])), Release(lease)]) == ["NORMAL and synced"]
    assert store.holder("t-42") is None


def test_leases_of_new_threads_are_taken_in_one_transaction(store: DiskStore, committed: Committed) -> None:
    assert committed([Acquire(f"t-{number}", current_owner("run")) for number in range(20)]) == ["NORMAL"]
    assert all(store.holder(f"t-{number}") is not None for number in range(20))


def test_to_ask_for_threads_that_are_held_locks_nothing(store: DiskStore, committed: Committed) -> None:
    """As runs of one process do that wait for the same thread."""
    asked(store)
    assert committed([Acquire("t-42", current_owner("run")), Acquire("t-42", current_owner("other"))]) == []


def test_what_cannot_be_put_aside_waits_together_for_the_lock(store: DiskStore, folder: Path) -> None:
    journaled, sealed, released = asked(store, "journaled"), asked(store, "sealed"), asked(store, "released")
    operations: list[Operation] = [
        appended(journaled, with_journal(journaled.thread, "text")),
        appended(sealed, with_seal(sealed.thread, [])),
        Release(sealed),
        Acquire("new", current_owner("run")),
        Release(released),
        Add("budget", 1),
    ]
    with ThreadPoolExecutor() as pool, locked(folder):
        done = pool.submit(lambda: DiskStore(folder).apply(operations))
        spool = folder / "spool"
        while not (spool.exists() and len(list(spool.iterdir())) == 3):  # the seal too, for it may be killed here
            time.sleep(0.01)
        while store.holder("released") is not None:  # its file is there before it says so
            time.sleep(0.01)
        assert not done.done()
        assert store.find("journaled") == operations[0].thread  # type: ignore[union-attr]
    results = done.result()
    assert results[:3] == [None, None, None]
    assert isinstance(results[3], Lease)
    assert results[4:] == [None, 1]
    assert store.find("sealed") == operations[1].thread  # type: ignore[union-attr]
    assert store.holder("sealed") is None
    assert len(store.load(journaled.thread.key)) == 2


def test_what_waits_too_long_for_the_lock_fails_and_what_was_put_aside_does_not(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._cache.lock, "timeout", 0.1)
    one, two = asked(store, "one"), asked(store, "two")
    with locked(folder):
        results = store.apply(
            [
                appended(one, with_journal(one.thread, "text")),
                appended(two, with_seal(two.thread, [])),
                Release(two),
                Acquire("new", current_owner("run")),
            ]
        )
    assert results[0] is None
    assert all("locked" in str(result) for result in results[1:])
    assert len(store.load(one.thread.key)) == 2
    assert store.find("new") is None
    assert store.find("two").open_turn is None  # type: ignore[union-attr]  # it was put aside, and comes in with its lease


def test_a_body_that_cannot_be_stored_fails_alone(store: DiskStore) -> None:
    one, two = asked(store, "one"), asked(store, "two")
    thread, record = with_journal(one.thread, "a")
    bad = appended(one, (thread, replace(record, body="\ud800")))
    results = store.apply([bad, appended(two, with_journal(two.thread, "b")), Renew(one)])
    assert isinstance(results[0], StoreError)
    assert not isinstance(results[0], LeaseLostError)
    assert results[1] is None
    assert [len(store.load(lease.thread.key)) for lease in (one, two)] == [1, 2]

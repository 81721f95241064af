"""Operations of many turns go into one transaction of the database, each with the durability that it needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.plugin import Add, LeaseLostError, Operation, Renew, StoreError
from afkcli.testing.store_steps import appended, asked, with_journal, with_seal

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


def test_a_failure_of_the_database_fails_all_and_writes_nothing(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = asked(store, "one"), asked(store, "two")
    put = store._cache.put
    calls = iter(range(100))

    def full(key: str, text: str) -> None:
        if next(calls) == 1:  # the metadata of the second thread
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        put(key, text)

    monkeypatch.setattr(store._cache, "put", full)
    with pytest.raises(StoreError, match="the disk is full"):
        store.apply([appended(one, with_journal(one.thread, "a")), appended(two, with_journal(two.thread, "b"))])
    monkeypatch.undo()
    assert [len(store.load(lease.thread.key)) for lease in (one, two)] == [1, 1]


def test_a_body_that_cannot_be_stored_fails_alone(store: DiskStore) -> None:
    one, two = asked(store, "one"), asked(store, "two")
    thread, record = with_journal(one.thread, "a")
    bad = appended(one, (thread, replace(record, body="\ud800")))
    results = store.apply([bad, appended(two, with_journal(two.thread, "b")), Renew(one)])
    assert isinstance(results[0], StoreError)
    assert not isinstance(results[0], LeaseLostError)
    assert results[1] is None
    assert [len(store.load(lease.thread.key)) for lease in (one, two)] == [1, 2]

"""Operations of one transaction that are read and written together do what they do one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from afk_store_disk import buffer
from afk_store_disk.store import DiskStore

from afkcli.plugin import (
    Acquire,
    Add,
    Append,
    Lease,
    Operation,
    Release,
    Role,
    StoreError,
    current_owner,
    replace,
    text_message,
)
from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_model import model_test
from afkcli.testing.store_steps import acquired, appended, asked, with_journal, with_question, with_seal
from plugins.store_disk.tests.buffered_store import Buffered


class Unbuffered(DiskStore):
    buffered_from = 1_000_000


class TestBufferedStore(StoreContract):
    def make_store(self, path: Path) -> Buffered:
        return Buffered(path)


class TestUnbufferedStore(StoreContract):
    def make_store(self, path: Path) -> Unbuffered:
        return Unbuffered(path)


TestBufferedStoreLikeTheModel = model_test(Buffered)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Return a function that tells whether the batches since its last call were written together."""
    written: list[None] = []
    write = buffer.Buffer.write
    monkeypatch.setattr(buffer.Buffer, "write", lambda *args: (write(*args), written.append(None)))

    def tell() -> bool:
        told = bool(written)
        written.clear()
        return told

    return tell


def batch(store: DiskStore, name: str = "t") -> list[Operation]:
    """Return a question, a journal, a seal with the end of its lease, a new lease and a counter."""
    new, journaled, sealed = acquired(store, f"{name}-new"), asked(store, f"{name}-1"), asked(store, f"{name}-2")
    return [
        appended(new, with_question(new.thread, "question")),
        appended(journaled, with_journal(journaled.thread, "text")),
        appended(sealed, with_seal(sealed.thread, [text_message(Role.USER, "question")])),
        Release(sealed),
        Acquire(f"{name}-3", current_owner("run")),
        Add("budget", 1),
    ]


def test_the_number_of_statements_does_not_grow_with_the_turns(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for turns in (2, 40):
        operations = [item for number in range(turns) for item in batch(store, f"{turns}-{number}")]
        con = store._cache._con
        monkeypatch.setattr(type(con), "execute", counted(statements := []))
        results = store.apply(operations)
        monkeypatch.undo()
        assert not any(isinstance(result, Exception) for result in results)
        counts.append(len(statements))
    few, many = counts
    assert many <= few + 6  # of rows, each statement takes some hundred


def counted(statements: list[str]) -> Callable[..., sqlite3.Cursor]:
    """Return an `execute` that notes its statements."""

    def execute(con: sqlite3.Connection, sql: str, *arguments: Any) -> sqlite3.Cursor:
        statements.append(sql)
        return sqlite3.Connection.execute(con, sql, *arguments)

    return execute


def test_a_row_of_a_turn_that_is_there_already_is_found_and_only_its_turn_fails(
    store: DiskStore, plain: Callable[[], bool]
) -> None:
    """As damage explains it; see `test_damaged_index.py`."""
    operations = batch(store)
    question = operations[0]
    assert isinstance(question, Append)
    con = store._cache._con
    key = f"thread/{question.thread.key}/open/0000000001/000000000000"
    con.execute("INSERT INTO Cache (key, raw, mode, value) VALUES (?, 1, 1, 'another')", (key,))
    results = store.apply(operations)
    assert not plain()
    assert isinstance(results[0], StoreError)
    assert "already" in str(results[0])
    assert results[1:4] == [None, None, None]
    assert (type(results[4]), results[5]) == (Lease, 1)
    assert con.execute("SELECT value FROM Cache WHERE key = ?", (key,)).fetchone() == ("another",)


@pytest.mark.parametrize("value", ["{}", "", b"\x80", 7])
def test_damaged_metadata_of_one_thread_is_made_again_and_harms_no_other(
    store: DiskStore, plain: Callable[[], bool], value: Any
) -> None:
    lease = asked(store, "damaged")
    info = f"thread/{lease.thread.key}/info"
    store._cache._con.execute("UPDATE Cache SET value = ? WHERE key = ?", (value, info))
    results = store.apply([*batch(store), appended(lease, with_journal(lease.thread, "text"))])
    assert not plain()
    assert not any(isinstance(result, Exception) for result in results)
    assert len(store.load(lease.thread.key)) == 2


def test_text_that_cannot_be_stored_fails_alone(store: DiskStore, plain: Callable[[], bool]) -> None:
    lease = asked(store, "odd")
    thread, record = with_journal(lease.thread, "text")
    results = store.apply([*batch(store), appended(lease, (thread, replace(record, body="\ud800")))])
    assert not plain()
    assert [isinstance(result, Exception) for result in results] == [False] * 6 + [True]
    assert [type(result) for result in store.apply(batch(store, "again"))].count(type(None)) == 4
    assert plain()


def test_what_is_large_is_not_held_in_memory_once_more(store: DiskStore, plain: Callable[[], bool]) -> None:
    lease = asked(store, "large")
    results = store.apply([*batch(store), appended(lease, with_journal(lease.thread, "x" * 2_000_000))])
    assert not plain()
    assert results[-1] is None
    assert len(store.load(lease.thread.key)) == 2

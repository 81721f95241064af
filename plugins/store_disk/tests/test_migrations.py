"""A database of an older schema: a backup, then one transaction; a newer one is never touched."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from afk_store_disk import cache
from afk_store_disk.migrations import MIGRATIONS, migrate
from afk_store_disk.store import DiskStore

from afkcli.core.thread.history import load_history
from afkcli.plugin import StoreError
from afkcli.testing.store_steps import acquired, save_turn, with_question

NOW = cache.SCHEMA_VERSION
BACKUP = f"threads.v{NOW}.db"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a database of this version, in it the thread `t-42` with a turn."""
    store = DiskStore(tmp_path / "data")
    store.release(save_turn(store, acquired(store), "question", "answer"))
    store.close()
    return tmp_path / "data"


@pytest.fixture
def newer_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes this code one that knows the next version, with the statements that lead there."""

    def know(*statements: str) -> None:
        def step(con: sqlite3.Connection) -> None:
            for statement in statements:
                con.execute(statement)

        monkeypatch.setattr(cache, "SCHEMA_VERSION", NOW + 1)
        monkeypatch.setitem(MIGRATIONS, NOW, step)

    return know


def contents(file: Path) -> tuple[int, list[tuple[str, str]]]:
    with sqlite3.connect(file) as con:
        version = con.execute("PRAGMA user_version").fetchone()[0]
        return version, con.execute("SELECT key, value FROM Cache ORDER BY key").fetchall()


def answers(store: DiskStore) -> list[str]:
    thread = store.find("t-42")
    assert thread is not None
    return [turn.messages[-1].text for turn in load_history(store, thread).turns]


def test_every_older_version_has_its_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(1, cache.SCHEMA_VERSION))


def test_an_older_database_is_migrated_with_a_backup(
    old: Path, newer_code: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(old / "threads.db")
    newer_code("INSERT INTO Cache (key, raw, mode, value) VALUES ('made/2', 1, 1, '2')")

    with caplog.at_level(logging.WARNING, "afkcli"):
        store = DiskStore(old)

    assert answers(store) == ["answer"]
    store.close()
    version, rows = contents(old / "threads.db")
    assert (version, len(rows)) == (NOW + 1, len(before[1]) + 1)
    assert contents(old / BACKUP) == before
    assert os.name != "posix" or (old / BACKUP).stat().st_mode & 0o077 == 0
    [record] = caplog.records
    assert BACKUP in record.getMessage()


def test_it_is_migrated_once(old: Path, newer_code: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    newer_code()
    DiskStore(old).close()
    backup = (old / BACKUP).read_bytes()
    caplog.clear()

    DiskStore(old).close()
    migrate(old / "threads.db")

    assert caplog.records == []
    assert (old / BACKUP).read_bytes() == backup


def test_a_migration_that_fails_changes_nothing(old: Path, newer_code: Callable[..., None]) -> None:
    before = contents(old / "threads.db")
    newer_code("DELETE FROM Cache", "INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(StoreError, match=r"threads\.db"):
        DiskStore(old)

    assert contents(old / "threads.db") == before
    assert contents(old / BACKUP) == before


def test_a_run_of_older_code_writes_nothing_to_a_migrated_database(
    old: Path, newer_code: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = DiskStore(old)
    lease = acquired(running)
    newer_code()
    DiskStore(old).close()
    before = contents(old / "threads.db")
    monkeypatch.setattr(cache, "SCHEMA_VERSION", NOW)

    thread, question = with_question(lease.thread, "question")
    with pytest.raises(StoreError, match="upgrade afk"):
        running.append(thread, [question], lease.thread.head, lease)

    running.close()
    assert contents(old / "threads.db") == before


class TestVersion1:
    """As afk wrote it before there were attachments."""

    @pytest.fixture
    def first(self, old: Path) -> Path:
        with sqlite3.connect(old / "threads.db") as con:
            con.execute("DROP TABLE Content")
            con.execute("PRAGMA user_version = 1")
        con.close()
        return old

    def test_its_threads_are_there_and_take_attachments(self, first: Path) -> None:
        store = DiskStore(first)
        assert answers(store) == ["answer"]
        lease = acquired(store)
        thread, question = with_question(lease.thread, "and this?")
        store.append(thread, [question], lease.thread.head, lease, {"5e" * 32: b"\x89PNG"})
        assert store.content(thread.key, "5e" * 32) == b"\x89PNG"
        store.close()
        assert contents(first / "threads.db")[0] == NOW

    def test_it_is_kept_as_it_was(self, first: Path) -> None:
        before = contents(first / "threads.db")
        DiskStore(first).close()
        assert contents(first / "threads.v1.db") == before

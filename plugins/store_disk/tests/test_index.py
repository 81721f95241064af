"""The index can be lost, damaged, old or of another database: listing and search come right by themselves."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from afk_store_disk import index
from afk_store_disk.store import DiskStore

from afkcli.testing.store_steps import acquired, save, save_turn, with_meta


@pytest.fixture
def filled(store: DiskStore) -> DiskStore:
    """A store of three threads, with an index."""
    for second, animal in enumerate(["zebra", "quokka", "okapi"]):
        save_turn(store, acquired(store, f"about {animal}"), f"What is a {animal}?", "An animal.", second)
    check(store)
    return store


def check(store: DiskStore) -> None:
    assert [info.name for info in store.list()] == ["about okapi", "about quokka", "about zebra"]
    assert [info.name for info in store.list(search="ANIMAL what")] == ["about okapi", "about quokka", "about zebra"]
    assert [info.name for info in store.list(search="quokka")] == ["about quokka"]


def test_a_run_never_touches_the_index(store: DiskStore, folder: Path) -> None:
    lease = save_turn(store, acquired(store), "question", "answer")
    store.release(lease)
    assert not (folder / "index.db").exists()


def test_a_deleted_index_is_made_again(filled: DiskStore, folder: Path) -> None:
    (folder / "index.db").unlink()
    check(filled)
    assert (folder / "index.db").exists()


@pytest.mark.parametrize("content", [b"", b"rubbish" * 2000, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_damaged_index_is_made_again(filled: DiskStore, folder: Path, content: bytes) -> None:
    (folder / "index.db").write_bytes(content)
    check(filled)
    con = sqlite3.connect(folder / "index.db")
    assert con.execute("SELECT count(*) FROM thread").fetchone() == (3,)
    con.close()


def test_random_damage_to_the_index_is_never_an_error(filled: DiskStore, folder: Path) -> None:
    original = (folder / "index.db").read_bytes()
    chance = random.Random(1)
    for _ in range(60):
        content = bytearray(original)
        for _ in range(chance.choice([1, 20])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (folder / "index.db").write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        assert len(filled.list()) <= 3
        filled.list(search="animal")


def test_an_index_of_another_version_is_made_again(filled: DiskStore, folder: Path) -> None:
    con = sqlite3.connect(folder / "index.db")
    con.execute("PRAGMA user_version = 99")
    con.execute("DROP TABLE thread")
    con.commit()
    con.close()
    check(filled)


def test_an_index_of_another_database_follows_this_one(filled: DiskStore, folder: Path, tmp_path: Path) -> None:
    other = DiskStore(tmp_path / "other")
    for number in range(5):
        save_turn(other, acquired(other, f"other {number}"), "quokka", "answer")
    other.list(search="quokka")
    other.close()
    shutil.copy(tmp_path / "other" / "index.db", folder / "index.db")
    check(filled)


def test_a_database_that_was_put_back_is_followed(filled: DiskStore, folder: Path, tmp_path: Path) -> None:
    filled.close()
    shutil.copy(folder / "threads.db", tmp_path / "backup")
    save_turn(filled, acquired(filled, "later"), "wombat", "answer", 9)
    assert len(filled.list(search="wombat")) == 1
    filled.close()
    shutil.copy(tmp_path / "backup", folder / "threads.db")
    check(DiskStore(folder))
    assert len(DiskStore(folder).list(search="wombat")) == 0


def test_an_index_that_cannot_be_written_is_done_without(filled: DiskStore, folder: Path) -> None:
    (folder / "index.db").unlink()
    (folder / "index.db").mkdir()
    check(filled)


def test_an_index_that_is_locked_is_done_without(
    filled: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BUSY_SECONDS", 0.05)
    save_turn(filled, acquired(filled, "new"), "question", "answer", 9)
    con = sqlite3.connect(folder / "index.db", isolation_level=None)
    con.execute("BEGIN EXCLUSIVE")
    assert [info.name for info in filled.list(limit=1)] == ["new"]
    con.close()


def test_without_fts5_search_finds_the_same(filled: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "index.db").unlink()
    monkeypatch.setattr(index, "_WORDS", "CREATE VIRTUAL TABLE words USING no_such_module(text)")
    check(filled)
    assert [info.name for info in filled.list(search="100%")] == []


def test_only_changed_threads_are_read_again(filled: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = index.read_info

    def counted(cache: object, key: str) -> object:
        read.append(key)
        return real(cache, key)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "read_info", counted)
    check(filled)
    assert read == []
    lease = acquired(filled, "new")
    save_turn(filled, lease, "question", "answer", 9)
    filled.list()
    assert read == [lease.thread.key]


def test_names_titles_and_folders_are_followed(filled: DiskStore) -> None:
    lease = save_turn(filled, acquired(filled, "before"), "first", "answer", 9)
    filled.list(search="before")
    lease = save(filled, lease, with_meta(lease.thread, name="after", title="Heading", folder="/here"))
    assert [info.name for info in filled.list(search="after heading first")] == ["after"]
    assert [info.name for info in filled.list(search="before")] == []
    assert [info.name for info in filled.list(folder="/here")] == ["after"]
    lease = save(filled, lease, with_meta(lease.thread, folder=None))
    assert [info.name for info in filled.list(folder="/here")] == []


def test_the_index_is_private(filled: DiskStore, folder: Path) -> None:
    assert (folder / "index.db").stat().st_mode & 0o777 == 0o600
    (folder / "index.db").unlink()
    mask = os.umask(0)
    try:
        filled.list()
    finally:
        os.umask(mask)
    assert (folder / "index.db").stat().st_mode & 0o777 == 0o600

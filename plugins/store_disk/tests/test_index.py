"""The index can be lost, damaged, old or of another database: listing and search come right by themselves."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from afk_store_disk import cache, index
from afk_store_disk.store import DiskStore

from afkcli.plugin import ThreadFilter
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


def use(store: DiskStore, name: str, second: int) -> None:
    """Add a turn to a thread and release it."""
    store.release(save_turn(store, acquired(store, name), "question", "answer", second))


def test_a_database_that_was_put_back_and_went_on_is_followed(store: DiskStore, folder: Path, tmp_path: Path) -> None:
    for second, name in enumerate(["one", "two", "three"]):
        use(store, name, second)
    store.close()
    shutil.copy(folder / "threads.db", tmp_path / "backup")
    use(store, "one", 8)
    use(store, "two", 9)
    assert [info.name for info in store.list(limit=2)] == ["two", "one"]
    store.close()
    shutil.copy(tmp_path / "backup", folder / "threads.db")
    again = DiskStore(folder)
    for second in range(3):  # more changes than were lost, of as many threads
        use(again, "three", 10 + second)
    assert [info.name for info in again.list()] == ["three", "two", "one"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE thread SET key = 'nothing' WHERE name = 'about quokka'",
        "UPDATE thread SET key = x'ff00' WHERE name = 'about quokka'",
        "UPDATE thread SET number = number + 1",
        "UPDATE thread SET number = 'many' WHERE name = 'about quokka'",
        "UPDATE thread SET number = NULL",
        "DELETE FROM thread WHERE name = 'about okapi'",
        "DELETE FROM thread",
        "INSERT INTO thread (key, number, used, name) VALUES ('more', 2, '9', 'more')",
        "DROP TABLE thread",
    ],
)
def test_an_index_with_wrong_rows_is_corrected(filled: DiskStore, folder: Path, change: str) -> None:
    con = sqlite3.connect(folder / "index.db")
    con.execute(change)
    con.commit()
    con.close()
    check(filled)
    assert filled.count(ThreadFilter()) == 3
    assert [info.name for info in filled.iterate(ThreadFilter())] == ["about okapi", "about quokka", "about zebra"]


def test_a_list_reads_the_threads_that_it_shows(filled: DiskStore, folder: Path) -> None:
    for number in range(40):
        use(filled, f"t-{number}", 10 + number)
    filled.list(search="question")
    read: list[str] = []
    filled._cache._con.set_trace_callback(read.append)

    def rows_read() -> int:
        found = sum("/info'" in statement for statement in read)
        read.clear()
        return found

    assert len(filled.list(limit=5)) == rows_read() == 5
    assert len(filled.list(limit=3, search="question")) == rows_read() == 3
    assert len(filled.names_meant("t-1")) == 11
    assert filled.count(ThreadFilter()) == 43
    assert filled.count(ThreadFilter(search="animal")) == 3
    assert rows_read() == 0
    page = filled.page(ThreadFilter(agent=None), 4)
    assert (len(page.threads), page.total, rows_read()) == (4, 43, 4)
    assert filled.names_near("t_1") == ["t-1"]
    assert filled.short_names(["01a21c5a-f8a6-7273-9b29-33e33c8d2b10"]) == {
        "01a21c5a-f8a6-7273-9b29-33e33c8d2b10": "8d2b10"
    }
    assert rows_read() == 0
    use(filled, "t-0", 99)
    read.clear()
    assert [info.name for info in filled.list(limit=2)] == ["t-0", "t-39"]
    assert rows_read() == 1 + 2  # the one that changed, and those that are shown


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("SELECT key FROM thread WHERE 1 ORDER BY used DESC, key DESC LIMIT ?", (5,)),
        ("SELECT key FROM thread WHERE folder = ? ORDER BY used DESC, key DESC LIMIT ?", ("/a", 5)),
        ("SELECT name FROM thread WHERE name >= ? AND name < ? ORDER BY used DESC, key DESC", ("t", "u")),
        ("SELECT key FROM thread WHERE agent = ? AND instr(tags, ?) ORDER BY used DESC, key DESC", ("a", "x")),
        ("SELECT max(tail) FROM thread WHERE tail < ?", ("a",)),
    ],
)
def test_the_queries_of_a_list_use_an_index(filled: DiskStore, folder: Path, query: str, values: tuple[object]) -> None:
    con = sqlite3.connect(folder / "index.db")
    plan = " ".join(row[3] for row in con.execute(f"EXPLAIN QUERY PLAN {query}", values))
    con.close()
    assert "USING COVERING INDEX" in plan


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


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that the sums of all threads of a database are read."""
    taken: list[str] = []
    real = cache.ThreadCache.changes

    def changes(self: cache.ThreadCache) -> cache.Changes:
        taken.append(str(self.file))
        return real(self)

    monkeypatch.setattr(cache.ThreadCache, "changes", changes)
    return taken


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch, filled: DiskStore) -> DiskStore:
    """The store of three threads, whose last write counts as long ago."""
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -60.0)
    check(filled)
    return filled


def test_a_list_reads_no_sums_while_the_files_of_the_database_are_as_they_were(
    settled: DiskStore, folder: Path, sums: list[str]
) -> None:
    settled.list()
    settled.close()
    first = DiskStore(folder)  # the last writer has moved the log to the database
    first.list()
    first.close()
    sums.clear()

    again = DiskStore(folder)
    assert len(again.list()) == 3
    again.close()
    assert sums == []


def test_what_another_process_writes_is_listed_though_it_is_still_in_the_log(
    settled: DiskStore, folder: Path, sums: list[str]
) -> None:
    settled.list()
    other = DiskStore(folder)
    use(other, "newest", 20)
    sums.clear()
    assert settled.list()[0].name == "newest"
    assert len(sums) == 1
    use(other, "older", 10)
    use(other, "older", 30)
    assert [info.name for info in settled.list(limit=2)] == ["older", "newest"]
    settled.list()
    sums.clear()
    assert len(settled.list()) == 5
    assert sums == []
    other.delete(acquired(other, "older"))
    other.delete(acquired(other, "newest"))
    assert [info.name for info in settled.list()] == ["about okapi", "about quokka", "about zebra"]
    other.close()


def test_what_was_written_just_now_is_not_taken_for_settled(
    filled: DiskStore, sums: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SETTLED_SECONDS", 3600.0)
    filled.list()
    sums.clear()
    filled.list()
    assert sums != []  # another write in the same tick of the clock would leave the same times


def test_a_database_that_was_put_back_with_its_times_is_followed(
    settled: DiskStore, folder: Path, tmp_path: Path
) -> None:
    settled.close()
    shutil.copy2(folder / "threads.db", tmp_path / "backup")
    size = (folder / "threads.db").stat().st_size
    use(settled, "later", 9)
    assert len(settled.list()) == 4
    settled.close()
    shutil.copy2(tmp_path / "backup", folder / "threads.db")
    assert (folder / "threads.db").stat().st_size == size
    check(DiskStore(folder))


def test_an_index_that_lost_a_thread_finds_it_though_the_database_is_as_it_was(
    settled: DiskStore, folder: Path
) -> None:
    settled.list()
    con = sqlite3.connect(folder / "index.db")
    con.execute("DELETE FROM thread WHERE name = 'about quokka'")
    con.commit()
    con.close()
    check(settled)


def test_a_list_does_not_wait_for_an_index_that_another_process_writes_to(
    settled: DiskStore, folder: Path, sums: list[str]
) -> None:
    settled.list()
    con = sqlite3.connect(folder / "index.db", isolation_level=None)
    con.execute("DELETE FROM seen")
    con.execute("BEGIN IMMEDIATE")
    began = sums.copy()
    assert len(settled.list()) == 3
    assert len(sums) > len(began)
    assert con.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    con.execute("ROLLBACK")
    con.close()


def test_two_processes_that_list_after_the_same_change_take_it_over_once(
    filled: DiskStore, folder: Path, sums: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(filled, "newest", 20)
    other, real = DiskStore(folder), index.transaction

    def transaction(con: sqlite3.Connection) -> object:
        monkeypatch.setattr(index, "transaction", real)
        assert other.list()[0].name == "newest"
        return real(con)

    monkeypatch.setattr(index, "transaction", transaction)
    sums.clear()
    assert filled.list()[0].name == "newest"
    assert len(sums) == 3  # of the other process, and before and after it
    other.close()

"""A damaged index hides rows, or leads to others: it is named as damage, and no other run is blamed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.thread.history import load_history
from afkcli.plugin import HeadMismatchError, Lease, LeaseLostError, Renew, StoreError, ThreadInfo, current_owner
from afkcli.testing.store_steps import acquired, appended, asked, save, save_turn, with_journal, with_question
from plugins.store_disk.tests.buffered_store import Buffered

INDEX = "Cache_key_raw"
DAMAGED = r"threads\.db is damaged"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(params=[DiskStore, Buffered])
def store(folder: Path, request: pytest.FixtureRequest) -> Iterator[DiskStore]:
    with closing(request.param(folder)) as store:
        yield store


def behind_the_index(folder: Path, *statements: str) -> None:
    """Change rows without their index, as a flipped bit does."""
    execute(folder, "CREATE TEMP TABLE kept AS SELECT * FROM sqlite_master", without_index=True, statements=statements)


def execute(folder: Path, *first: str, without_index: bool = False, statements: tuple[str, ...] = ()) -> None:
    with closing(sqlite3.connect(folder / "threads.db", isolation_level=None)) as con:
        for statement in first:
            con.execute(statement)
        if without_index:
            index = con.execute("SELECT * FROM sqlite_master WHERE name = ?", (INDEX,)).fetchone()
            _change_schema(con, "DELETE FROM sqlite_master WHERE name = ?", (INDEX,))
        for statement in statements:
            assert con.execute(statement).rowcount >= 1
        if without_index:
            _change_schema(con, "INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index)


def _change_schema(con: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> None:
    ((version,),) = con.execute("PRAGMA schema_version").fetchall()
    con.execute("PRAGMA writable_schema = ON")
    con.execute(statement, values)
    con.execute(f"PRAGMA schema_version = {version + 1}")
    con.execute("PRAGMA writable_schema = RESET")


def hide(folder: Path, where: str) -> None:
    """Take the entry of a row out of the index."""
    execute(
        folder,
        f"CREATE TABLE hidden AS SELECT rowid AS place, * FROM Cache WHERE key LIKE '{where}'",
        f"DELETE FROM Cache WHERE key LIKE '{where}'",
    )
    columns = "key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value"
    behind_the_index(folder, f"INSERT INTO Cache (rowid, {columns}) SELECT place, {columns} FROM hidden")
    execute(folder, "DROP TABLE hidden")


def exchange(folder: Path, one: str, other: str) -> None:
    """Let the entries of two rows lead to one another."""
    behind_the_index(
        folder,
        f"UPDATE Cache SET tag = key WHERE key LIKE '{one}' OR key LIKE '{other}'",
        f"UPDATE Cache SET key = (SELECT tag FROM Cache WHERE tag LIKE '{other}') WHERE tag LIKE '{one}'",
        f"UPDATE Cache SET key = (SELECT tag FROM Cache WHERE tag LIKE '{one}') WHERE tag LIKE '{other}'",
        "UPDATE Cache SET tag = NULL WHERE tag IS NOT NULL",
    )


def values(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "threads.db")) as con:
        return {value for (value,) in con.execute("SELECT value FROM Cache NOT INDEXED")}


def journal(store: DiskStore, lease: Lease) -> None:
    save(store, lease, with_journal(lease.thread, "text"))


def renew(store: DiskStore, lease: Lease) -> None:
    store.renew(lease)


def delete(store: DiskStore, lease: Lease) -> None:
    store.delete(lease)


def several(store: DiskStore, lease: Lease) -> None:
    results = store.apply([appended(lease, with_journal(lease.thread, "text")), Renew(lease)])
    assert all(isinstance(result, Exception) for result in results)
    assert isinstance(results[0], Exception)
    raise results[0]


WRITES = [journal, renew, delete, several]


@pytest.mark.parametrize("write", WRITES)
def test_a_lease_that_the_index_hides_is_named_as_damage(
    folder: Path, store: DiskStore, write: Callable[[DiskStore, Lease], None]
) -> None:
    lease = asked(store)
    hide(folder, "%/holder")
    before = values(folder)
    with pytest.raises(StoreError, match=DAMAGED):
        write(store, lease)
    assert values(folder) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("damage", ["'{}'", "''", "substr(value, 1, 20)", "NULL", "7"])
def test_a_lease_that_cannot_be_read_is_named_as_damage(
    folder: Path, store: DiskStore, write: Callable[[DiskStore, Lease], None], damage: str
) -> None:
    lease = asked(store)
    execute(folder, f"UPDATE Cache SET value = {damage} WHERE key LIKE '%/holder'")
    with pytest.raises(StoreError, match=DAMAGED):
        write(store, lease)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("released", [False, True])
def test_a_lease_that_another_run_took_is_lost_all_the_same(
    folder: Path, store: DiskStore, write: Callable[[DiskStore, Lease], None], released: bool
) -> None:
    lease = asked(store)
    execute(
        folder,
        "UPDATE Cache SET value = json_set(value, '$.expires', 1.0, '$.expires_wall', 1.0) WHERE key LIKE '%/holder'",
    )
    with closing(DiskStore(folder)) as other:
        taken = acquired(other)
        if released:
            other.release(taken)
        with pytest.raises(LeaseLostError, match="another run took over the thread 't-42'"):
            write(store, lease)


def test_a_thread_that_has_changed_is_no_damage(store: DiskStore) -> None:
    lease = asked(store)
    save(store, lease, with_journal(lease.thread, "one"))
    with pytest.raises(HeadMismatchError):
        save(store, lease, with_journal(lease.thread, "two"))


def test_metadata_that_the_index_hides_is_named_as_damage(folder: Path, store: DiskStore) -> None:
    lease = asked(store)
    with pytest.raises(HeadMismatchError):
        save(store, replace(lease, thread=replace(lease.thread, head="0" * 64)), with_journal(lease.thread, "text"))
    hide(folder, "%/info")
    with pytest.raises(StoreError, match=DAMAGED):
        save(store, replace(lease, thread=replace(lease.thread, head="0" * 64)), with_journal(lease.thread, "text"))


def test_a_lease_that_cannot_be_read_back_is_not_given(folder: Path, store: DiskStore) -> None:
    store.release(save_turn(store, acquired(store), "question", "answer"))
    before = values(folder)
    execute(
        folder,
        "CREATE TRIGGER spoil AFTER INSERT ON Cache WHEN NEW.key LIKE '%/holder' BEGIN"
        " UPDATE Cache SET value = '' WHERE rowid = NEW.rowid; END",
    )
    with pytest.raises(StoreError, match=DAMAGED):
        store.acquire("t-42", current_owner("run"))
    assert values(folder) == before


def test_a_turn_is_not_overwritten_through_an_entry_that_leads_to_it(folder: Path, store: DiskStore) -> None:
    store.release(save_turn(store, acquired(store), "first question", "first answer"))
    exchange(folder, "%/info", "%/kept/%")
    with pytest.raises(StoreError, match=DAMAGED):
        save_turn(store, acquired(store), "second question", "second answer")
    assert any("first answer" in value for value in values(folder))


def test_a_turn_is_not_deleted_through_an_entry_that_leads_to_it(folder: Path, store: DiskStore) -> None:
    store.release(save_turn(store, acquired(store), "first question", "first answer"))
    exchange(folder, "changed/%", "%/kept/%")
    save_turn(store, acquired(store), "second question", "second answer")
    assert any("first answer" in value for value in values(folder))


def test_a_turn_that_only_the_index_leads_to_is_not_overwritten_by_the_next_one(folder: Path, store: DiskStore) -> None:
    lease = acquired(store)
    for number in range(3):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}")
    behind_the_index(
        folder,
        "UPDATE Cache SET key = 'elsewhere' WHERE key LIKE '%/kept/%/0000000003'",
        "UPDATE Cache SET value = '' WHERE key LIKE '%/info'",
    )
    lease = save_turn(store, replace(lease, thread=found(store)), "question 3", "answer 3")
    assert [turn.turn for turn in load_history(store, lease.thread).turns] == [1, 2, 3, 4]


def test_a_record_is_never_written_over_another_one(folder: Path, store: DiskStore) -> None:
    lease = acquired(store)
    for number in range(2):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}")
    first = store.load(lease.thread.key)[0]
    key = lease.thread.key
    number = lease.thread.next_index
    execute(
        folder, f"UPDATE Cache SET key = 'thread/{key}/open/0000000003/{number:012d}' WHERE value LIKE '%answer 0%'"
    )
    with pytest.raises(StoreError, match=DAMAGED):
        save(store, lease, with_question(lease.thread, "question 2"))
    assert any(first.body in value for value in values(folder))


@pytest.mark.parametrize("key", ["7", "7.5", "x'ff'", "NULL"])
def test_a_key_that_is_not_text_is_a_damaged_row(folder: Path, store: DiskStore, key: str) -> None:
    lease = acquired(store)
    for number in range(3):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}")
    behind_the_index(folder, f"UPDATE Cache SET key = {key} WHERE key LIKE '%/kept/%/0000000002'")
    turns = [turn.turn for turn in load_history(store, found(store)).turns]
    assert {1, 3} <= set(turns)
    execute(folder, "UPDATE Cache SET value = '' WHERE key LIKE '%/info'")
    assert found(store).turns == 3


def found(store: DiskStore) -> ThreadInfo:
    thread = store.find("t-42")
    assert thread is not None
    return thread

"""Records that are too large: each is named and left out, and what stands beside it is read, exported and continued."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from afk_store_disk import cache, rows
from afk_store_disk.store import DiskStore

from afkcli.core.contract import jsonform
from afkcli.core.thread import fitting, turns
from afkcli.core.thread.exchange import ExportedThread, read_lines
from afkcli.core.thread.export import export_all, export_thread
from afkcli.core.thread.history import History, load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.operations import held
from afkcli.core.thread.restore import Restorer
from afkcli.plugin import LargeRecord, StoreError, ThreadInfo, current_owner
from afkcli.testing.store_steps import acquired, save, save_turn, with_journal, with_question

MOST = 200_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a thread of three turns, the limit of a row being small."""
    monkeypatch.setattr(cache, "MOST_ROW_BYTES", MOST)
    store = DiskStore(tmp_path)
    lease = acquired(store, "t")
    for number in range(1, 4):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}")
    store.release(lease)
    store.close()
    return tmp_path


def plant(folder: Path, expression: str, row: str) -> None:
    """Change the value of the row of the thread whose key contains `row`, as another program would."""
    with sqlite3.connect(folder / "threads.db") as con:
        changed = con.execute(f"UPDATE Cache SET value = {expression} WHERE key LIKE ?", (f"%{row}%",))
        assert changed.rowcount == 1
    con.close()


def found(store: DiskStore) -> ThreadInfo:
    thread = store.find("t")
    assert thread is not None
    return thread


GROWN = "value || replace(hex(zeroblob(200000)), '00', 'xx')"
LARGE: dict[str, tuple[str, str]] = {
    "the first turn": (GROWN, "kept/%/0000000001"),
    "the turn between": (GROWN, "kept/%/0000000002"),
    "the last turn": (GROWN, "kept/%/0000000003"),
    "bytes": ("CAST(value || zeroblob(300000) AS BLOB)", "kept/%/0000000002"),
    "nothing but size": ("replace(hex(zeroblob(300000)), '00', '[[')", "kept/%/0000000002"),
}


def history_of(store: DiskStore) -> History:
    return load_history(store, found(store))


@pytest.mark.parametrize(("expression", "row"), LARGE.values(), ids=LARGE)
def test_a_record_that_is_too_large_is_named_and_the_others_are_read(folder: Path, expression: str, row: str) -> None:
    plant(folder, expression, row)
    store = DiskStore(folder)

    history = history_of(store)

    turn = int(row[-1])
    assert [sealed.turn for sealed in history.turns] == [number for number in (1, 2, 3) if number != turn]
    assert any(f"turn {turn} of thread 't'" in line for line in history.damage)


def test_the_next_turn_is_written_behind_it(folder: Path) -> None:
    plant(folder, GROWN, "kept/%/0000000003")
    store = DiskStore(folder)

    store.release(save_turn(store, acquired(store, "t"), "question 4", "answer 4"))

    assert [turn.turn for turn in history_of(store).turns] == [1, 2, 4]
    assert [info.name for info in store.list(search="answer")] == ["t"]


def test_an_export_keeps_its_place_and_an_import_has_the_others(folder: Path, tmp_path: Path) -> None:
    plant(folder, GROWN, "kept/%/0000000002")
    store, said = DiskStore(folder), list[str]()

    lines = "".join(export_thread(store, found(store), said.append)).encode().splitlines()

    assert any("turn 2" in line and "0.382 MB" in line for line in said), said
    [item] = list(read_lines(lines))
    assert isinstance(item, ExportedThread)
    assert [record.turn for record in item.records] == [1, 3]
    assert item.missing == ("turn 2 (0.382 MB)",)
    other = DiskStore(tmp_path / "other")
    Restorer(other, lambda: current_owner("import"), rename=False).thread(item)
    assert [turn.turn for turn in history_of(other).turns] == [1, 3]
    assert "".join(export_all(store, said.append)).encode().splitlines() == lines
    lease = save_turn(other, acquired(other, "t"), "question 4", "answer 4")
    assert lease.thread.turns == 4


def test_its_size_is_known_and_its_body_is_not_read(folder: Path) -> None:
    plant(folder, GROWN, "kept/%/0000000002")
    store = DiskStore(folder)

    [large] = [record for record in store.load(found(store).key) if isinstance(record, LargeRecord)]

    assert (large.turn, large.body) == (2, "")
    assert large.size > MOST


def test_metadata_and_names_that_are_too_large_are_made_again(folder: Path) -> None:
    for row in ("/info", "/holder", "thread_name/t"):
        with sqlite3.connect(folder / "threads.db") as con:
            con.execute(f"UPDATE Cache SET value = {GROWN} WHERE key LIKE ?", (f"%{row}",))
        con.close()
    store = DiskStore(folder)

    assert len(history_of(store).turns) == 3


def test_a_record_that_is_too_large_is_not_written(folder: Path) -> None:
    store = DiskStore(folder)

    with pytest.raises(StoreError, match="too large to be read or written"):
        save_turn(store, acquired(store, "t"), "question", "x" * MOST)


def test_a_page_of_one_record_that_is_damaged_does_not_hide_the_others(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    lease = acquired(store, "t")
    for number in range(1, 4):
        lease = save_turn(store, lease, f"question {number}", f"answer {number} " * 5000)  # each on pages of its own
    store.release(lease)
    store.close()
    content = bytearray((tmp_path / "threads.db").read_bytes())
    for place in range(0, len(content), 4096):
        if content[place + 2000 : place + 4096].count(b"answer 2") > 200:  # nothing else is on this page
            content[place : place + 4] = b"\xff" * 4  # the number of the next page of the record
    (tmp_path / "threads.db").write_bytes(content)

    history = history_of(DiskStore(tmp_path))

    assert [turn.turn for turn in history.turns] == [1, 3]
    assert history.damage


class TestAnOpenTurnThatOutgrewARecord:
    """An earlier afk journaled more than it could seal, and the thread could not be read any more."""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskStore:
        store = DiskStore(tmp_path)
        lease = save_turn(store, acquired(store, "t"), "question 1", "answer 1")
        lease = save(store, lease, with_question(lease.thread, "question 2"))
        for _ in range(30):
            lease = save(store, lease, with_journal(lease.thread, "x" * 10_000))
        store.release(lease)
        monkeypatch.setattr(jsonform, "MAX_LINE_BYTES", MOST)
        monkeypatch.setattr(fitting, "MOST_BYTES", MOST // 2)
        return store

    def test_is_sealed_with_what_fits(self, store: DiskStore) -> None:
        with held(store, "t", current_owner("show")) as lease:
            assert lease.thread.open_turn is None

        history = history_of(store)

        assert history.damage == ()
        assert history.turns[1].reason == "max_turn_mb"
        assert MOST // 4 < len(history.turns[1].messages[-1].text) < MOST // 2

    @pytest.mark.parametrize("limit", [1, 15])
    def test_is_read_up_to_what_a_turn_can_hold(
        self, store: DiskStore, monkeypatch: pytest.MonkeyPatch, limit: int
    ) -> None:
        monkeypatch.setattr(turns, "MB", 10_000)
        monkeypatch.setattr(turns, "MAX_TURN_MB", limit)
        monkeypatch.setattr(fitting, "MOST_BYTES", MOST * 10)
        monkeypatch.setattr(jsonform, "MAX_LINE_BYTES", MOST * 10)

        with held(store, "t", current_owner("show")):
            pass

        assert len(history_of(store).turns[1].messages[-1].text) == (limit + 2) * 10_000


def test_a_legacy_turn_that_is_larger_than_a_turn_may_be_is_named_and_its_beginning_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afkcli.core.thread import history as history_module

    store = DiskStore(tmp_path)
    lease = save_turn(store, acquired(store, "t"), "question 1", "x" * 100_000)
    store.release(save_turn(store, lease, "question 2", "answer 2"))
    for module in (fitting, history_module):
        monkeypatch.setattr(module, "MOST_BYTES", 50_000)

    history = history_of(store)

    assert [turn.turn for turn in history.turns] == [1, 2]
    assert 40_000 < len(history.turns[0].messages[-1].text) < 50_000
    assert "turn 1 of thread 't' (record 2) is 0.096 MB" in history.damage[0]
    said: list[str] = []
    lines = "".join(export_thread(store, found(store), said.append)).encode().splitlines()
    [item] = list(read_lines(lines))
    assert isinstance(item, ExportedThread)
    assert len(item.records[0].body) > 100_000, "an export is to the letter"
    assert said == []


DEEP: dict[str, Callable[[], str]] = {
    "lists": lambda: "[" * 10_000 + "]" * 10_000,
    "objects": lambda: '{"a":' * 10_000 + "1" + "}" * 10_000,
    "unclosed": lambda: "[" * 10_000,
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
def test_a_record_that_is_nested_deeply_is_named_and_the_others_are_read(folder: Path, body: Callable[[], str]) -> None:
    plant(folder, f"substr(value, 1, instr(value, char(10))) || '{body()}'", "kept/%/0000000002")
    store = DiskStore(folder)

    history = history_of(store)

    assert [turn.turn for turn in history.turns] == [1, 3]
    assert any("turn 2" in line for line in history.damage)
    assert list(export_thread(store, found(store), [].append))


def test_a_large_thread_is_written_without_a_second_copy_of_it(tmp_path: Path) -> None:
    source, size = MemoryStore(), 40
    lease = acquired(source, "t")
    for number in range(size):
        lease = save_turn(source, lease, "question", "a" * (1 << 20), number)
    records = source.load(lease.thread.key)
    store = DiskStore(tmp_path)
    there = store.acquire("t", current_owner("import"), key=lease.thread.key)
    assert there is not None

    tracemalloc.start()
    store.append(lease.thread, records, "", there)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < (size << 20) / 4
    assert list(store.load(lease.thread.key)) == list(records)
    store.close()


def test_a_row_that_is_there_already_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    lease = acquired(store, "t")
    other, record = with_question(lease.thread, "q" * (2 << 20))
    with sqlite3.connect(tmp_path / "threads.db") as con:
        key = rows.record_key(lease.thread.key, record)
        con.execute("INSERT INTO Cache (key, raw, mode, value) VALUES (?, 1, 1, 'other')", (key,))
    con.close()

    with pytest.raises(StoreError, match=rf"it has a row {key} already"):
        store.append(other, [record], "", lease)

    assert found(store).head == ""

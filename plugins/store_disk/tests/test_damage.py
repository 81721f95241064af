"""Damage is found and named; what is not damaged still opens; nothing but a `StoreError` of one line comes out."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.thread.history import load_history
from afkcli.plugin import AfkError, StoreError, current_owner
from afkcli.testing.store_steps import acquired, asked, save, save_turn, with_journal, with_meta, with_question

NAMES = [f"thread-{number}" for number in range(6)]
TURNS = 5


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of six threads, the last one with an open turn; all of it in the one file."""
    folder = tmp_path_factory.mktemp("sound")
    store = DiskStore(folder)
    for name in NAMES:
        lease = acquired(store, name)
        for number in range(TURNS):
            lease = save_turn(store, lease, f"question {number} of {name}", "answer " * 60)
        if name == NAMES[-1]:
            lease = save(store, lease, with_question(lease.thread, "open"))
            lease = save(store, lease, with_journal(lease.thread, "text"))
        store.release(lease)
    store.close()
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def use_everything(folder: Path) -> tuple[int, int, list[str]]:
    """Use the store in every way; return the turns that were read, the lines of damage, and the errors.

    Raises:
        AssertionError: an error is not of one line, or a turn is gone that no line names.
    """
    turns, damage, errors = 0, 0, []
    try:
        store = DiskStore(folder)
    except StoreError as error:
        return 0, 0, [str(error)]
    for name in NAMES:
        try:
            thread = store.find(name)
            assert thread is not None, f"{name} is silently lost"
            history = load_history(store, thread)
            assert len(history.turns) == TURNS or history.damage, f"a turn of {name} is silently lost"
            turns += len(history.turns)
            damage += len(history.damage)
            lease = store.acquire(name, current_owner("run"))
            if lease is not None and not lease.thread.open_turn:
                store.release(save_turn(store, lease, "next", "answer"))
        except AfkError as error:
            errors.append(str(error))
    for search in (None, "answer"):
        try:
            store.list(search=search)
        except StoreError as error:
            errors.append(str(error))
    store.close()
    assert all("\n" not in error for error in errors), errors
    return turns, damage, errors


def test_a_sound_store_is_used_without_an_error(folder: Path) -> None:
    assert use_everything(folder) == (len(NAMES) * TURNS, 0, [])


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bytes_are_named_and_never_lose_a_turn_silently(sound: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    original = (sound / "threads.db").read_bytes()
    for variant in range(20):
        folder = tmp_path / str(variant)
        folder.mkdir()
        content = bytearray(original)
        for _ in range(chance.choice([1, 1, 4])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (folder / "threads.db").write_bytes(content)
        use_everything(folder)


@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_database_is_named(sound: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    original = (sound / "threads.db").read_bytes()
    for variant in range(8):
        folder = tmp_path / str(variant)
        folder.mkdir()
        (folder / "threads.db").write_bytes(original[: chance.randrange(len(original) - 1)])
        _, damage, errors = use_everything(folder)
        assert damage or errors


def test_a_database_that_is_cut_while_it_is_open_is_named(folder: Path) -> None:
    store = DiskStore(folder)
    thread = store.find(NAMES[0])
    assert thread is not None
    with (folder / "threads.db").open("r+b") as file:
        file.truncate(8192)
    with pytest.raises(StoreError, match=r"threads\.db"):
        for name in NAMES:
            found = store.find(name)
            assert found is not None
            load_history(store, found)
    store.close()


def change(folder: Path, where: str, expression: str) -> None:
    con = sqlite3.connect(folder / "threads.db")
    con.execute("DROP TRIGGER IF EXISTS Settings_size_update")
    changed = con.execute(f"UPDATE Cache SET {expression} WHERE key LIKE ?", (where,))
    assert changed.rowcount >= 1
    con.commit()
    con.close()


def key_of(folder: Path, name: str) -> str:
    store = DiskStore(folder)
    thread = store.find(name)
    store.close()
    assert thread is not None
    return thread.key


@pytest.mark.parametrize(
    "expression",
    [
        "value = substr(value, 1, 100)",
        "value = replace(value, 'answer', 'ANSWER')",
        "value = ''",
        "value = NULL",
        "value = CAST(value AS BLOB)",
        "value = CAST(x'7b22ff' AS TEXT)",
        "value = replace(value, '\"turn\"', '\"Turn\"')",
        "value = 5",
    ],
)
def test_a_damaged_record_is_named_and_the_others_are_read(folder: Path, expression: str) -> None:
    key = key_of(folder, NAMES[0])
    change(folder, f"thread/{key}/kept/%/0000000003", expression)
    store = DiskStore(folder)
    lease = acquired(store, NAMES[0])
    history = load_history(store, lease.thread)
    assert [turn.turn for turn in history.turns] == [1, 2, 4, 5]
    assert "turn 3" in history.damage[0]
    assert NAMES[0] in history.damage[0]
    assert load_history(store, save_turn(store, lease, "next", "answer").thread).turns[-1].turn == 6
    store.close()


def test_an_entry_of_the_index_without_its_row_is_a_damaged_row(folder: Path) -> None:
    """A flipped bit in an index names a row that is not there."""
    with closing(DiskStore(folder)) as store:
        assert list(store._cache._one_by_one([("thread/x", 1_000_000)])) == [("thread/x", None)]


def test_a_missing_record_is_named(folder: Path) -> None:
    key = key_of(folder, NAMES[0])
    change(folder, f"thread/{key}/kept/%/0000000003", "key = 'elsewhere'")
    store = DiskStore(folder)
    thread = store.find(NAMES[0])
    assert thread is not None
    assert "a record before turn 4" in load_history(store, thread).damage[0]
    store.close()


@pytest.mark.parametrize(
    "expression", ["value = '{}'", "value = replace(value, 'agent', 'Agent')", "key = 'elsewhere'"]
)
def test_damaged_metadata_is_made_again_from_the_records(folder: Path, expression: str) -> None:
    before = DiskStore(folder)
    wanted = [before.find(name) for name in NAMES]
    before.close()
    for info in (wanted[0], wanted[-1]):
        assert info is not None
        where = f"thread/{info.key}/info"
        change(folder, where, expression if expression.startswith("value") else f"key = 'elsewhere/{info.key}'")
    store = DiskStore(folder)
    assert [info.name for info in store.list()] == [info.name for info in store.list(search="question")]
    assert len(store.list()) == len(NAMES)
    for name, info in zip(NAMES, wanted, strict=True):
        found = store.find(name)
        assert found is not None
        assert info is not None
        assert (found.key, found.head, found.kept_head) == (info.key, info.head, info.kept_head)
        assert (found.next_index, found.turns, found.usage, found.cost_usd) == (
            info.next_index,
            info.turns,
            info.usage,
            info.cost_usd,
        )
        assert (found.open_turn is None) == (info.open_turn is None)
        assert load_history(store, found).damage == ()
    lease = acquired(store, NAMES[0])
    store.release(save_turn(store, lease, "next", "answer"))
    assert load_history(store, acquired(store, NAMES[0]).thread).damage == ()
    store.close()


@pytest.mark.parametrize("row", ["name", "thread_name"])
@pytest.mark.parametrize("expression", ["value = '\"nobody\"'", "value = ''", "value = 5", "key = 'lost'"])
def test_a_damaged_name_still_leads_to_its_thread(folder: Path, row: str, expression: str) -> None:
    key = key_of(folder, NAMES[1])
    change(folder, f"{row}/{NAMES[1]}", expression)
    store = DiskStore(folder)
    assert acquired(store, NAMES[1]).thread.key == key
    store.close()


def test_a_name_that_is_damaged_twice_is_found_by_the_metadata(folder: Path) -> None:
    key = key_of(folder, NAMES[1])
    change(folder, f"%name/{NAMES[1]}", "value = '\"nobody\"'")
    store = DiskStore(folder)
    assert acquired(store, NAMES[1]).thread.key == key
    store.close()


def test_a_name_that_leads_nowhere_is_an_error_and_no_new_thread(folder: Path) -> None:
    key = key_of(folder, NAMES[1])
    change(folder, f"%name/{NAMES[1]}", "value = '\"nobody\"'")
    change(folder, f"thread/{key}/%", "key = 'lost' || key")
    store = DiskStore(folder)
    with pytest.raises(StoreError, match=f"'{NAMES[1]}' is damaged"):
        store.acquire(NAMES[1], current_owner("run"))
    assert len(store.list()) == len(NAMES) - 1
    store.close()


def test_a_damaged_lease_does_not_lock_the_thread(folder: Path) -> None:
    store = DiskStore(folder)
    asked_lease = acquired(store, NAMES[2])
    change(folder, f"thread/{asked_lease.thread.key}/holder", "value = '{}'")
    assert store.holder(NAMES[2]) is None
    acquired(store, NAMES[2])
    store.close()


def test_a_damaged_counter_is_named(folder: Path) -> None:
    store = DiskStore(folder)
    store.add("budget", 1)
    change(folder, "counter/budget", "value = 'many'")
    with pytest.raises(StoreError, match="'budget' is damaged"):
        store.add("budget", 1)
    store.close()


def test_damaged_change_numbers_stop_no_thread(folder: Path) -> None:
    change(folder, "changed/%", "key = replace(key, 'changed/0', 'changed/z')")
    store = DiskStore(folder)
    for name in NAMES[:-1]:
        store.release(save_turn(store, acquired(store, name), "next", "answer"))
    assert [info.name for info in store.list()] == NAMES[:-1][::-1]
    store.close()


def test_text_that_is_not_unicode_is_refused(folder: Path) -> None:
    store = DiskStore(folder)
    lease = asked(store, "new")
    with pytest.raises(StoreError, match="cannot be stored") as caught:
        save(store, lease, with_meta(lease.thread, name="\ud800"))
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError):
        store.acquire("\udfff", current_owner("run"))
    store.close()


def test_a_locked_database_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afk_store_disk.write_lock.LOCK_TIMEOUT", 0.05)
    store = DiskStore(folder)
    blocker = sqlite3.connect(folder / "threads.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"threads\.db was locked by another process"):
        acquired(store, NAMES[0])
    assert store.find(NAMES[0]) is not None
    blocker.execute("ROLLBACK")
    acquired(store, NAMES[0])
    blocker.close()
    store.close()

"""The index of texts can be lost, damaged, behind or of another database: what is searched is found all the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from afk_store_disk import text_index, text_query
from afk_store_disk.store import DiskStore
from hypothesis import given, settings
from hypothesis import strategies as st

from afkcli.core.contract.protocols import TurnMatch, TurnSearch
from afkcli.core.thread.operations import fork, rename, tag
from afkcli.core.thread.searching import _Reading, found_turns
from afkcli.core.thread.turn_text import words_of
from afkcli.core.thread.undoing import redo, undo
from afkcli.plugin import ThreadFilter, current_owner
from afkcli.testing.store_steps import acquired, save_turn

ANIMALS = ("zebra", "quokka", "okapi")


@pytest.fixture
def filled(store: DiskStore) -> DiskStore:
    """A store of three threads, with an index of their texts."""
    for second, animal in enumerate(ANIMALS):
        store.release(save_turn(store, acquired(store, f"about {animal}"), f"What is a {animal}?", "It lives.", second))
    check(store)
    return store


def matches(store: DiskStore, words: str, limit: int = 50, **options: Any) -> Sequence[TurnMatch]:
    return store.search_turns(TurnSearch(words=words_of(words), **options), limit)


def names(store: DiskStore, words: str, **options: Any) -> list[str]:
    return sorted(match.thread.name for match in matches(store, words, **options))


def check(store: DiskStore) -> None:
    assert names(store, "lives WHAT") == ["about okapi", "about quokka", "about zebra"]
    assert [match.record for match in matches(store, "quokka")] == [2]
    assert [info.name for info in store.list(search="quokka")] == ["about quokka"]


def test_a_run_never_touches_the_index(store: DiskStore, folder: Path) -> None:
    store.release(save_turn(store, acquired(store), "question", "answer"))
    assert not (folder / "search.db").exists()


def test_a_list_never_touches_the_index_of_texts(filled: DiskStore, folder: Path) -> None:
    (folder / "search.db").unlink()
    assert len(filled.list()) == filled.count(ThreadFilter()) == 3
    assert not (folder / "search.db").exists()


@pytest.mark.parametrize("content", [None, b"", b"rubbish" * 2000, b"SQLite format 3\0" + b"\0" * 5000])
def test_an_index_that_is_missing_or_damaged_is_made_again(
    filled: DiskStore, folder: Path, content: bytes | None
) -> None:
    (folder / "search.db").unlink()
    if content is not None:
        (folder / "search.db").write_bytes(content)
    check(filled)
    assert (folder / "search.db").stat().st_size > 5000


def test_random_damage_to_the_index_is_never_an_error(filled: DiskStore, folder: Path) -> None:
    original = (folder / "search.db").read_bytes()
    chance = random.Random(1)
    for _ in range(60):
        content = bytearray(original)
        for _ in range(chance.choice([1, 20])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (folder / "search.db").write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        assert len(matches(filled, "lives")) <= 3
        list(found_turns(filled, TurnSearch(words=("lives",)), 9, 80))


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 99",
        "DROP TABLE text",
        "DROP TABLE trigram",
        "DROP TABLE place",
        "DELETE FROM thread",
        "UPDATE thread SET number = number + 1",
        "UPDATE thread SET number = 'many'",
        "UPDATE thread SET number = NULL",
        "UPDATE thread SET key = x'ff00' WHERE id = 1",
        "UPDATE thread SET last_hash = 'other', number = 0",
    ],
)
def test_an_index_with_wrong_rows_is_corrected(filled: DiskStore, folder: Path, change: str) -> None:
    with closing(sqlite3.connect(folder / "search.db")) as con, con:
        con.execute(change)
    check(filled)


def test_a_place_that_is_not_there_is_not_shown(filled: DiskStore, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "search.db")) as con, con:
        con.execute("UPDATE place SET record = 77 WHERE record >= 0")
    assert list(found_turns(filled, TurnSearch(words=("quokka",)), 9, 80)) == []


def test_an_index_of_another_database_follows_this_one(filled: DiskStore, folder: Path, tmp_path: Path) -> None:
    with closing(DiskStore(tmp_path / "other")) as other:
        for number in range(5):
            save_turn(other, acquired(other, f"other {number}"), "quokka", "answer")
        assert len(matches(other, "quokka")) == 5
    shutil.copy(tmp_path / "other" / "search.db", folder / "search.db")
    check(filled)


def test_a_database_that_was_put_back_and_went_on_is_followed(filled: DiskStore, folder: Path, tmp_path: Path) -> None:
    filled.close()
    shutil.copy(folder / "threads.db", tmp_path / "backup")
    filled.release(save_turn(filled, acquired(filled, "about okapi"), "wombat", "answer", 9))
    assert names(filled, "wombat") == ["about okapi"]
    filled.close()
    shutil.copy(tmp_path / "backup", folder / "threads.db")
    again = DiskStore(folder)
    assert names(again, "wombat") == []
    check(again)
    again.release(save_turn(again, acquired(again, "about okapi"), "dingo", "answer", 9))
    assert names(again, "dingo") == ["about okapi"]
    assert names(again, "wombat") == []
    again.close()


def test_what_other_processes_and_an_older_afk_wrote_is_found(filled: DiskStore, start_python) -> None:
    """No writer touches the index, so each turn was written as an afk without it writes it."""
    code = """
store = DiskStore(folder)
store.release(save_turn(store, acquired(store, 'about zebra'), 'and the wombat?', 'answer', 9))
store.release(save_turn(store, acquired(store, 'new'), 'a wombat', 'answer', 9))
"""
    process = start_python(code)
    assert process.wait(60) == 0, process.stderr.read()
    assert names(filled, "wombat") == ["about zebra", "new"]


def test_every_change_of_a_thread_is_followed(filled: DiskStore) -> None:
    lease = acquired(filled, "about zebra")
    renamed = rename(filled, lease, "stripes")
    assert names(filled, "stripes") == ["stripes"]
    lease = replace(lease, thread=renamed)
    lease = replace(lease, thread=tag(filled, lease, ["wild"]))
    assert names(filled, "wild") == ["stripes"]
    lease = undo(filled, lease).lease
    assert names(filled, "zebra") == []
    assert [match.left_out for match in matches(filled, "zebra", every=True)] == ["undone"]
    lease = redo(filled, lease).lease
    assert names(filled, "zebra") == ["stripes"]
    fork(filled, lease.thread, "copy", current_owner("run"))
    assert names(filled, "zebra") == ["stripes"]
    filled.delete(lease)
    assert names(filled, "zebra") == ["copy"]


def test_deleted_text_is_not_in_the_file_any_more(filled: DiskStore, folder: Path) -> None:
    assert b"quokka" in (folder / "search.db").read_bytes()
    filled.delete(acquired(filled, "about quokka"))
    assert names(filled, "quokka") == []
    assert b"quokka" not in (folder / "search.db").read_bytes()


@pytest.mark.parametrize("made", ["folder", "locked"])
def test_an_index_that_cannot_be_used_is_done_without(
    filled: DiskStore, folder: Path, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_index, "WAIT_SECONDS", 0.05)
    if made == "folder":
        (folder / "search.db").unlink()
        (folder / "search.db").mkdir()
        check(filled)
        return
    filled.release(save_turn(filled, acquired(filled, "new"), "wombat", "answer", 9))
    with closing(sqlite3.connect(folder / "search.db", isolation_level=None)) as con:
        con.execute("BEGIN EXCLUSIVE")
        assert names(filled, "wombat") == ["new"]


def test_without_fts5_the_same_turns_are_found(
    filled: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {words: names(filled, words) for words in ("lives", "wh", "quokka lives", "okapi zebra", "?", "zzz")}
    (folder / "search.db").unlink()
    monkeypatch.setattr(text_index, "_TEXT", "CREATE VIRTUAL TABLE text USING no_such_module(text)")
    check(filled)
    assert {words: names(filled, words) for words in found} == found


ODD = "aAbß İıK\u212aéé日本語の\U0001f600\u200dש.*\"'%_\\\n\t-(){}\u3000ﬁ①Ǆ\u0345σς"  # noqa: RUF001


@settings(max_examples=20)
@given(data=st.data())
def test_the_index_finds_what_reading_all_turns_finds(data: st.DataObject, tmp_path_factory: Any) -> None:
    """A store without an index of its own is read; the text of any characters, and any words."""
    words = st.text(ODD, min_size=1, max_size=4)
    with closing(DiskStore(tmp_path_factory.mktemp("odd"))) as store:
        for number in range(4):
            texts = data.draw(st.tuples(st.text(ODD, max_size=30), st.text(ODD, max_size=30)))
            store.release(save_turn(store, acquired(store, f"{number}"), *texts, number))
        for _ in range(5):
            search = TurnSearch(words=words_of(" ".join(data.draw(st.lists(words, min_size=1, max_size=3)))))
            places = {(match.thread.key, match.record) for match in store.search_turns(search, 99)}
            read = {(match.thread.key, match.record) for match in _Reading(store, search).matches(99)}
            assert places == read, search.words


def test_a_word_that_begins_many_trigrams_is_found(filled: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_query, "MOST_TRIGRAMS", 1)
    assert names(filled, "wh") == names(filled, "h a")
    assert names(filled, "e quokka") == ["about quokka"]


@pytest.mark.parametrize("count", [2, 40, 70, 3000])
def test_a_search_may_have_many_words(store: DiskStore, count: int) -> None:
    words = " ".join(f"word{number}" for number in range(count))
    save_turn(store, acquired(store, "all"), words, "answer")
    save_turn(store, acquired(store, "most"), words.rpartition(" ")[0], "answer")
    assert names(store, words) == ["all"]


def test_the_end_of_a_long_word_counts(store: DiskStore) -> None:
    save_turn(store, acquired(store, "one"), "a" * 5000 + "b", "answer")
    save_turn(store, acquired(store, "two"), "a" * 5000 + "c", "answer")
    assert names(store, "a" * 5000 + "b") == ["one"]
    assert names(store, "a" * 6000) == []


def test_the_best_come_first(store: DiskStore) -> None:
    save_turn(store, acquired(store, "long"), "question", "filler " * 300 + "okapi", 9)
    save_turn(store, acquired(store, "asked"), "okapi okapi", "answer", 1)
    save_turn(store, acquired(store, "okapi"), "question", "answer", 1)
    assert [match.thread.name for match in matches(store, "okapi")] == ["okapi", "asked", "long"]
    assert [match.thread.name for match in matches(store, "okapi", 1)] == ["okapi"]


def test_a_step_that_ends_within_a_thread_is_continued(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "STEP_CHARS", 20)
    monkeypatch.setattr(text_index, "STEP_THREADS", 1)
    lease = acquired(store)
    for number in range(7):
        lease = save_turn(store, lease, f"question number{number}", "a long answer")
    save_turn(store, acquired(store, "other"), "question number8", "answer")
    lease = undo(store, lease).lease
    assert [len(matches(store, f"number{number}")) for number in range(9)] == [1] * 6 + [0, 0, 1]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_an_index_whose_maker_was_killed_is_continued(
    filled: DiskStore, folder: Path, start_python, steps: int
) -> None:
    for number in range(8):
        filled.release(save_turn(filled, acquired(filled, f"t-{number}"), f"wombat {number}", "answer", number))
    (folder / "search.db").unlink()
    code = """
from afk_store_disk import text_index
from afkcli.plugin import TurnSearch
text_index.STEP_THREADS = 2
left, put = int(sys.argv[2]), text_index.TextIndex._put
done = [0]
def killed(self, thread, turn):
    done[0] += 1
    put(self, thread, turn)
    if done[0] > left * 4:
        os.kill(os.getpid(), signal.SIGKILL)
text_index.TextIndex._put = killed
DiskStore(folder).search_turns(TurnSearch(words=('wombat',)), 9)
"""
    process = start_python(code, str(steps))
    assert process.wait(60) == -signal.SIGKILL, process.stderr.read()
    check(filled)
    assert len(matches(filled, "wombat")) == 8
    with closing(sqlite3.connect(folder / "search.db")) as con:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert con.execute("SELECT count(*), count(DISTINCT thread) FROM place WHERE record >= 0").fetchone() == (
            11,
            11,
        )


def test_searches_are_right_while_eight_processes_write(store: DiskStore, start_python) -> None:
    code = """
store = DiskStore(folder)
lease = acquired(store, sys.argv[2])
for number in range(15):
    lease = save_turn(store, lease, f'{sys.argv[2]} asks wombat{number}', 'answer', number)
    print(number, flush=True)
"""
    search = """
from afkcli.plugin import TurnSearch
store = DiskStore(folder)
for _ in range(10):
    found = [match.thread.name for match in store.search_turns(TurnSearch(words=('wombat3',)), 50)]
    assert len(found) == len(set(found)), found
"""
    writers = [start_python(code, f"writer{number}") for number in range(8)]
    searchers = [start_python(search) for _ in range(2)]
    for number in range(8):
        assert writers[number].stdout.readline() == "0\n"
        assert f"writer{number}" in names(store, "wombat0")  # what was written before a search is found by it
    for process in (*writers, *searchers):
        assert process.wait(60) == 0, process.stderr.read()
    assert names(store, "wombat3") == [f"writer{number}" for number in range(8)]
    assert len(matches(store, "asks", 200)) == 8 * 15


def test_searches_at_once_make_a_missing_index_once(filled: DiskStore, folder: Path, start_python) -> None:
    for number in range(20):
        filled.release(save_turn(filled, acquired(filled, f"t-{number}"), f"wombat {number}", "answer", number))
    (folder / "search.db").unlink()
    code = """
from afkcli.plugin import TurnSearch
print(len(DiskStore(folder).search_turns(TurnSearch(words=('wombat',)), 50)))
"""
    for process in [start_python(code) for _ in range(6)]:
        output, errors = process.communicate(timeout=60)
        assert output == "20\n", errors
    with closing(sqlite3.connect(folder / "search.db")) as con:
        assert con.execute("SELECT count(*) FROM place WHERE record >= 0").fetchone() == (23,)


def test_the_index_is_private(filled: DiskStore, folder: Path) -> None:
    (folder / "search.db").unlink()
    mask = os.umask(0)
    try:
        check(filled)
    finally:
        os.umask(mask)
    assert (folder / "search.db").stat().st_mode & 0o777 == 0o600


def rows_read(store: DiskStore, call: Callable[[], object]) -> int:
    """Return how many rows of threads a call reads in the database."""
    read: list[str] = []
    store._cache._con.set_trace_callback(read.append)
    call()
    store._cache._con.set_trace_callback(None)
    return sum("thread/" in statement for statement in read)


def steps_of(folder: Path, words: str) -> int:
    """Return the steps that SQLite's virtual machine takes to find words in the index."""
    with closing(sqlite3.connect(folder / "search.db")) as con:
        con.execute("INSERT INTO text (text) VALUES ('optimize')")  # into how many pieces it is written says nothing
        con.commit()
        steps = [0]

        def count() -> int:
            steps[0] += 1
            return 0

        con.set_progress_handler(count, 1)
        text_query.TextQuery(con, TurnSearch(words=words_of(words))).places(20)
        return steps[0]


@pytest.mark.parametrize("words", ["quokka", "zzzz", "qu", "quokka lives"])
def test_a_search_costs_what_it_finds(filled: DiskStore, folder: Path, words: str) -> None:
    few, fewest = rows_read(filled, lambda: matches(filled, words)), steps_of(folder, words)
    for number in range(300):
        filled.release(save_turn(filled, acquired(filled, f"t-{number}"), f"number {number}", "answer", number))
    assert len(matches(filled, "number", 500)) == 300
    assert rows_read(filled, lambda: matches(filled, words)) == few
    assert steps_of(folder, words) < fewest + 5 * 300  # a scan takes more steps for each place


def test_a_search_reads_what_changed(filled: DiskStore) -> None:
    for number in range(20):
        filled.release(save_turn(filled, acquired(filled, f"t-{number}"), f"number {number}", "answer", number))
    matches(filled, "quokka")
    few = rows_read(filled, lambda: matches(filled, "quokka"))
    save_turn(filled, acquired(filled, "t-7"), "and a quokka", "answer", 999)
    assert few < rows_read(filled, lambda: matches(filled, "quokka")) <= few + 6
    assert len(matches(filled, "quokka")) == 2


def closed_after(folder: Path, *turns: tuple[str, str], answer: str = "answer") -> None:
    """Write turns, given by thread and question, with a store that is closed then, as at the end of a run."""
    store = DiskStore(folder)
    for thread, question in turns:
        store.release(save_turn(store, acquired(store, thread), question, answer))
    store.close()


def is_written(folder: Path, words: str) -> bool:
    """Return whether the file alone has the words, without what a search would add."""
    with closing(sqlite3.connect(folder / "search.db")) as con:
        return bool(text_query.TextQuery(con, TurnSearch(words=words_of(words))).places(20))


def test_a_search_after_several_runs_reads_no_thread_anew(filled: DiskStore, folder: Path) -> None:
    few = rows_read(filled, lambda: matches(filled, "okapi"))
    for number in range(20):
        closed_after(folder, (f"t-{number % 7}", f"What is a wombat{number}?"))
        assert is_written(folder, f"wombat{number}")
    assert rows_read(filled, lambda: matches(filled, "okapi")) == few
    assert len(matches(filled, "wombat")) == 20


def test_a_run_makes_no_index_where_there_was_no_search(folder: Path) -> None:
    closed_after(folder, ("t-1", "What is a wombat?"))
    assert not (folder / "search.db").exists()


def test_a_store_that_wrote_nothing_leaves_the_index_alone(filled: DiskStore, folder: Path) -> None:
    filled.release(save_turn(filled, acquired(filled, "t-1"), "What is a wombat?", "answer"))
    reader = DiskStore(folder)
    assert len(reader.list()) == 4
    reader.close()
    assert not is_written(folder, "wombat")


def test_the_end_of_a_run_takes_over_a_little_and_the_next_ones_continue(
    filled: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_index, "KEPT_RECORDS", 3)
    lease = acquired(filled, "long")
    for number in range(5):
        lease = save_turn(filled, lease, f"What is a wombat{number}?", "answer")
    filled.release(lease)
    closed_after(folder, ("t-1", "What is a numbat?"))
    assert [is_written(folder, f"wombat{number}") for number in range(5)] == [True] * 3 + [False] * 2
    closed_after(folder, ("t-2", "What is a dingo?"))
    assert is_written(folder, "wombat4 What")
    assert is_written(folder, "numbat")
    check(filled)
    assert len(matches(filled, "wombat")) == 5
    assert names(filled, "dingo") == ["t-2"]


def test_a_turn_that_is_too_long_for_the_end_of_a_run_is_left_to_the_search(filled: DiskStore, folder: Path) -> None:
    closed_after(folder, ("t-1", "What is a wombat?"), answer="long " * text_index.KEPT_CHARS)
    assert not is_written(folder, "wombat")
    assert names(filled, "wombat long") == ["t-1"]
    closed_after(folder, ("t-2", "What is a numbat?"))
    assert is_written(folder, "numbat")


def test_a_long_thread_with_an_undo_is_left_to_the_search(
    filled: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_index, "KEPT_PLACES", 3)
    lease = acquired(filled, "long")
    for number in range(5):
        lease = save_turn(filled, lease, f"What is a wombat{number}?", "answer")
    filled.release(undo(filled, lease).lease)
    filled.close()
    assert names(filled, "wombat4") == []
    assert names(filled, "wombat4", every=True) == ["long"]
    assert names(filled, "wombat3") == ["long"]


def test_a_run_ends_at_once_where_another_process_writes_to_the_index(filled: DiskStore, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "search.db", isolation_level=None)) as con:
        con.execute("BEGIN IMMEDIATE")
        closed_after(folder, ("t-1", "What is a wombat?"))  # a test that waits here fails by its limit of time
        con.execute("ROLLBACK")
    assert not is_written(folder, "wombat")
    assert names(filled, "wombat") == ["t-1"]


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 2000, b"SQLite format 3\0" + b"\0" * 5000, "folder", "version"])
def test_a_run_ends_well_where_the_index_is_damaged(
    filled: DiskStore, folder: Path, capfd: pytest.CaptureFixture[str], damage: bytes | str
) -> None:
    file = folder / "search.db"
    if damage == "version":
        with closing(sqlite3.connect(file)) as con:
            con.execute("PRAGMA user_version = 99")
    else:
        file.unlink()
        file.mkdir() if damage == "folder" else file.write_bytes(damage if isinstance(damage, bytes) else b"")
    closed_after(folder, ("t-1", "What is a wombat?"))
    assert capfd.readouterr() == ("", "")
    assert [record.kind for record in filled.load(filled.find("t-1").key)][-1] == "seal"  # type: ignore[union-attr]
    assert names(filled, "wombat") == ["t-1"]
    check(filled)


def test_runs_that_end_at_once_lose_nothing_of_the_index(filled: DiskStore, folder: Path, start_python) -> None:
    code = """
for number in range(4):
    store = DiskStore(folder)
    store.release(save_turn(store, acquired(store, sys.argv[2]), f'{sys.argv[2]} wombat{number}', 'answer', number))
    store.close()
"""
    for process in [start_python(code, f"writer{number}") for number in range(8)]:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")
    assert names(filled, "wombat3") == [f"writer{number}" for number in range(8)]
    assert len(matches(filled, "wombat", 100)) == 32
    with closing(sqlite3.connect(folder / "search.db")) as con:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert con.execute("SELECT count(*) FROM place WHERE record >= 0").fetchone() == (35,)


@pytest.mark.parametrize("statement", range(1, 26, 4))
def test_a_run_that_is_killed_at_its_end_leaves_a_sound_index(
    filled: DiskStore, folder: Path, start_python, statement: int
) -> None:
    code = """
import sqlite3
from afk_store_disk import following
class Killed(sqlite3.Connection):
    done = 0
    def execute(self, *args):
        Killed.done += 1
        if Killed.done > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*args)
store = DiskStore(folder)
store.release(save_turn(store, acquired(store, 't-1'), 'What is a wombat?', 'answer'))
connect = sqlite3.connect
sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Killed)
store.close()
"""
    process = start_python(code, str(statement))
    assert process.wait(60) == -signal.SIGKILL, process.stderr.read()
    check(filled)
    assert names(filled, "wombat") == ["t-1"]
    with closing(sqlite3.connect(folder / "search.db")) as con:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert con.execute("SELECT count(*), count(DISTINCT thread) FROM place WHERE record >= 0").fetchone() == (4, 4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process alone is read from /proc")
def test_a_large_thread_is_indexed_in_bounded_memory(folder: Path, store: DiskStore) -> None:
    lease = acquired(store)
    for number in range(12):
        piece = " ".join(f"w{number * 1000 + at % 977}" for at in range(450_000))  # about 3 MB
        lease = save_turn(store, lease, f"question {number}", piece + f" end{number}")
    code = """
import re, sys
from pathlib import Path
from afk_store_disk.store import DiskStore
from afkcli.plugin import TurnSearch
store = DiskStore(Path(sys.argv[1]))
assert len(store.search_turns(TurnSearch(words=('nothing',)), 9)) == 0
found = len(store.search_turns(TurnSearch(words=('end11',)), 9))
print(found, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    import sys

    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    found, peak = done.stdout.split()
    assert found == "1"
    assert int(peak) < 130_000  # KB; the thread has 36 MB

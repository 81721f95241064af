"""Damage of the write-ahead log that a killed process left is named, and what is merely torn is not."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
from afk_store_disk import creation, log
from afk_store_disk.store import DiskStore

from afkcli.core.thread.history import load_history
from afkcli.testing.store_steps import acquired, asked, save, with_journal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the log is looked at where locks are POSIX's")

FRAME = 24 + 4096
OPEN = """
store = DiskStore(folder)
lease = save_turn(store, acquired(store), 'first', 'answer')
lease = save(store, lease, with_question(lease.thread, 'second'))
for number in range(6):
    lease = save(store, lease, with_journal(lease.thread, f'text {number} '))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def dead(start_python, folder: Path) -> Path:
    """The folder of a process that was killed while its turn was open."""
    assert start_python(OPEN).wait(50) == -signal.SIGKILL
    return folder


def opened(folder: Path, caplog: pytest.LogCaptureFixture) -> tuple[str, list[str]]:
    """Open the store of a copy of `folder`, and return the journal of its open turn and what was said."""
    caplog.clear()
    creation._opened.clear()  # the number of a deleted file is given to the next one
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    with caplog.at_level(logging.WARNING, "afkcli"):
        store = DiskStore(copy)
        thread = store.find("t-42")
        assert thread is not None
        history = load_history(store, thread)
        store.close()
    assert history.damage == ()
    kept = [file.read_bytes() for file in copy.glob("threads.db-wal.damaged-*")]
    assert kept == [(folder / "threads.db-wal").read_bytes()] * len(caplog.messages)
    shutil.rmtree(copy)
    return "".join(record.body for record in history.open_records), caplog.messages


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0x10
    file.write_bytes(content)


def test_a_sound_log_of_a_dead_process_is_silent(dead: Path, caplog: pytest.LogCaptureFixture) -> None:
    text, said = opened(dead, caplog)
    assert "second" in text
    assert "text 5" in text
    assert said == []


@pytest.mark.parametrize("with_index", [True, False])
def test_no_flipped_byte_loses_the_question_or_loses_text_silently(
    dead: Path, caplog: pytest.LogCaptureFixture, with_index: bool
) -> None:
    wal = dead / "threads.db-wal"
    sound, size = opened(dead, caplog)[0], wal.stat().st_size
    if not with_index:
        (dead / "threads.db-shm").unlink()
        size -= 5 * FRAME  # without the index, damage of the last transaction looks like a write that was torn
    original = wal.read_bytes()
    for place in (*range(0, 32, 3), *range(32, size, 2003)):
        flip(wal, place)
        text, said = opened(dead, caplog)
        assert "second" in text
        assert text == sound or (len(said) == 1 and "is damaged" in said[0]), place
        wal.write_bytes(original)


def test_a_log_that_was_cut_short_or_lost_is_named(dead: Path, caplog: pytest.LogCaptureFixture) -> None:
    wal = dead / "threads.db-wal"
    original = wal.read_bytes()
    for end in (0, 10, 32, 32 + FRAME, 32 + 2 * FRAME + 77):
        wal.write_bytes(original[:end])
        text, said = opened(dead, caplog)
        assert "second" in text
        assert len(said) == 1


def test_what_a_killed_transaction_left_is_silent(dead: Path, start_python, caplog: pytest.LogCaptureFixture) -> None:
    """It is in the log with the log's salts, behind what others committed after it, but never was committed."""
    code = """
import sqlite3
con = sqlite3.connect(folder / 'threads.db', isolation_level=None)
con.execute('PRAGMA cache_size = 10')
con.execute('BEGIN IMMEDIATE')
for number in range(200):
    con.execute('INSERT INTO Cache (key, raw, value) VALUES (?, 1, ?)', (f'x/{number}', 'x' * 4000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    before = (dead / "threads.db-wal").stat().st_size
    assert start_python(code).wait(50) == -signal.SIGKILL
    assert (dead / "threads.db-wal").stat().st_size > before + 50 * FRAME
    more = """
store = DiskStore(folder)
lease = acquired(store)
save(store, lease, with_journal(lease.thread, 'more'))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert start_python(more).wait(50) == -signal.SIGKILL
    for index in (True, False):
        text, said = opened(dead, caplog)
        assert "more" in text
        assert said == []
        if index:
            (dead / "threads.db-shm").unlink()


def test_a_log_that_is_in_use_is_left_alone(store: DiskStore, folder: Path, start_python) -> None:
    lease = asked(store)
    lease = save(store, lease, with_journal(lease.thread, "text"))
    code = """
store = DiskStore(folder)
print(len(store.load(store.find('t-42').key)))
store.close()
"""
    output, errors = start_python(code).communicate(timeout=50)
    assert (output, errors) == ("2\n", "")
    flip(folder / "threads.db-wal", 40)  # a process that has it open reads it by its index
    assert start_python(code).communicate(timeout=50)[1] == ""


def test_looking_gives_up_no_lock_of_this_process(folder: Path, start_python) -> None:
    """Closing a file gives up all locks that the process has on it, so a store that is open is not looked at."""
    first = DiskStore(folder)
    lease = asked(first)
    second = DiskStore(folder)
    second.close()
    blocker = first._cache._con
    blocker.execute("BEGIN IMMEDIATE")
    code = """
import sqlite3
con = sqlite3.connect(folder / 'threads.db', timeout=0, isolation_level=None)
try:
    con.execute('BEGIN IMMEDIATE')
except sqlite3.OperationalError as error:
    print(error)
"""
    assert start_python(code).communicate(timeout=50)[0] == "database is locked\n"
    blocker.execute("ROLLBACK")
    save(first, lease, with_journal(lease.thread, "text"))
    first.close()


def test_the_question_is_in_the_database_with_the_first_journal(store: DiskStore, folder: Path, tmp_path: Path) -> None:
    lease = asked(store)
    save(store, lease, with_journal(lease.thread, "text"))
    alone = shutil.copy(folder / "threads.db", tmp_path / "alone.db")
    con = sqlite3.connect(alone)
    assert con.execute("SELECT count(*) FROM Cache WHERE value LIKE '%question%'").fetchone() != (0,)
    con.close()


def test_the_sums_are_sqlites(dead: Path) -> None:
    content = (dead / "threads.db-wal").read_bytes()
    salts = log._salts(content)
    assert salts is not None
    index = log._read_index((dead / "threads.db-shm").read_bytes())
    assert index is not None
    assert log._commits(content, salts) == (index.committed, 0)
    assert acquired(DiskStore(dead)).thread.open_turn is not None

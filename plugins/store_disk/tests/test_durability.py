"""What survives power loss is synced before the call returns, and nothing else is."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.plugin import Lease, Role, text_message
from afkcli.testing.store_steps import (
    acquired,
    asked,
    save,
    save_turn,
    with_journal,
    with_meta,
    with_question,
    with_seal,
)

FULL, NORMAL = 2, 1


@pytest.fixture
def levels(store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Return a function that tells for each transaction since its last call whether the log was synced after it."""
    found: list[int] = []

    def trace(statement: str) -> None:
        if statement == "COMMIT":
            found.append(NORMAL)

    def synced(descriptor: int) -> None:
        assert os.fstat(descriptor).st_ino == (folder / "threads.db-wal").stat().st_ino
        found[-1] = FULL

    store._cache._con.set_trace_callback(trace)
    monkeypatch.setattr("afk_store_disk.cache.sync", synced)

    def tell() -> list[int]:
        told = found[:]
        found.clear()
        return told

    return tell


def test_each_write_has_the_durability_that_is_promised(store: DiskStore, levels: Callable[[], list[int]]) -> None:
    lease = acquired(store)
    assert levels() == [NORMAL]
    lease = save(store, lease, with_question(lease.thread, "question"))
    assert levels() == [FULL]
    lease = save(store, lease, with_journal(lease.thread, "text"))
    assert levels() == [NORMAL]
    store.renew(lease)
    assert levels() == [NORMAL]
    lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
    assert levels() == [FULL]
    lease = save(store, lease, with_meta(lease.thread, name="renamed"))
    assert levels() == [FULL]
    thread, question = with_question(lease.thread, "next")
    thread, journal = with_journal(thread, "text")
    store.append(thread, [question, journal], lease.thread.head, lease)
    assert levels() == [FULL]
    store.release(Lease(token=lease.token, thread=thread, expires=0))
    assert levels() == [NORMAL]
    store.delete(acquired(store, "renamed"))
    assert levels() == [NORMAL, FULL]


def test_reading_writes_nothing(store: DiskStore, levels: Callable[[], list[int]]) -> None:
    lease = asked(store)
    levels()
    store.find("t-42")
    store.holder("t-42")
    store.load(lease.thread.key)
    store.list(search="question")
    assert levels() == []


def test_the_database_is_in_wal_mode(store: DiskStore, folder: Path) -> None:
    con = sqlite3.connect(folder / "threads.db")
    assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert con.execute("SELECT value FROM Settings WHERE key = 'eviction_policy'").fetchone() == ("none",)
    con.close()


STEPS = """
def mark(name):
    os.write(1, (name + chr(10)).encode())
store = DiskStore(folder)
lease = acquired(store)
mark('question')
lease = save(store, lease, with_question(lease.thread, 'question'))
mark('journal')
for _ in range(20):
    lease = save(store, lease, with_journal(lease.thread, 'text'))
mark('renew')
os.utime(folder / 'threads.queue')
store.renew(lease)
mark('later')
os.utime(folder / 'threads.queue', (0, 0))
store.renew(lease)
mark('seal')
lease = save(store, lease, with_seal(lease.thread, []))
mark('release')
store.release(lease)
mark('acquire')
lease = acquired(store)
mark('end')
"""


@pytest.mark.skipif(os.name != "posix", reason="SQLite itself syncs there")
def test_the_write_lock_is_free_while_the_log_is_synced(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(folder / "threads.db", timeout=0, isolation_level=None)
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        synced.append(descriptor)

    monkeypatch.setattr("afk_store_disk.cache.sync", sync)
    asked(store)
    other.close()
    assert len(synced) == 1


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="the levels above are asserted everywhere; strace counts calls"
)
def test_the_kernel_is_asked_to_sync_only_where_it_has_to(start_python, folder: Path, tmp_path: Path) -> None:
    store = DiskStore(folder)
    save_turn(store, acquired(store, "other"), "question", "answer")
    store.close()
    log = tmp_path / "strace"
    strace = ("strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync,write", "-e", "signal=none")
    _, errors = start_python(STEPS, prefix=strace).communicate(timeout=50)
    assert errors == ""
    counts: dict[str, int] = {}
    step = "open"
    for line in log.read_text().splitlines():
        marked = re.search(r'write\(1<[^>]*>, "(\w+)\\n"', line)
        if marked:
            step = marked[1]
        elif re.search(r"f(data)?sync\(\d+<[^>]*threads\.db-wal>", line):
            counts[step] = counts.get(step, 0) + 1
    assert counts.pop("question") == 1
    assert counts.pop("seal") == 1
    assert counts.pop("journal") == 2  # the first one moves the question to the database and begins the log anew
    assert counts.pop("later") == 2  # the same for what was journaled since, 3 s after the last move
    assert counts.keys() <= {"open", "end"}  # "open": SQLite syncs the header of a log that it starts; "end": at close


def test_a_log_that_grew_is_written_back_by_the_next_durable_write(store: DiskStore, folder: Path) -> None:
    """Journaling alone never syncs up to 32 MB; the next seal brings the log back to its limit."""
    lease = asked(store)
    for _ in range(40):
        lease = save(store, lease, with_journal(lease.thread, "x" * 200_000))
    log = folder / "threads.db-wal"
    assert log.stat().st_size > 8_000_000
    before = (folder / "threads.db").stat().st_size
    lease = save(store, lease, with_seal(lease.thread, []))
    assert (folder / "threads.db").stat().st_size > before
    save_turn(store, lease, "next", "answer")
    assert log.stat().st_size <= 8_388_608

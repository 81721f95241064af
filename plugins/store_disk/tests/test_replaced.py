"""The database is deleted, moved away or put back from a copy, as people and other programs do with files."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from afk_store_disk import creation
from afk_store_disk.store import DiskStore

from afkcli.core.contract.messages import Role, text_message
from afkcli.plugin import Lease, Release, StoreError
from afkcli.testing.store_steps import acquired, appended, asked, save, save_turn, with_journal, with_seal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows deletes and replaces no file that is open")

KILLED = """
store = DiskStore(folder)
for number in range(20):
    save_turn(store, acquired(store, f'thread {number}'), 'question', 'answer ' * 500)
asked(store, 'open')
os.kill(os.getpid(), signal.SIGKILL)
"""
OTHER = """
store = DiskStore(folder)
save_turn(store, acquired(store, 'other'), 'question', 'answer')
print('written', flush=True)
time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    """Return the names of the threads in a store that is opened for this."""
    creation._opened.clear()  # the number of a deleted file is given to the next one
    store = DiskStore(folder)
    try:
        return sorted(info.name for info in store.list())
    finally:
        store.close()


def is_sound(folder: Path) -> bool:
    con = sqlite3.connect(folder / "threads.db")
    try:
        return con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        con.close()


class TestALogThatAKilledProcessLeft:
    @pytest.fixture
    def killed(self, start_python, folder: Path) -> Path:
        """The folder of a process that was killed before its log was moved to the database."""
        assert start_python(KILLED).wait(50) == -signal.SIGKILL
        assert (folder / "threads.db-wal").stat().st_size > 0
        return folder

    @pytest.mark.parametrize("with_index", [True, False])
    def test_is_no_part_of_a_new_database_once_the_old_one_was_moved_away(
        self, killed: Path, caplog: pytest.LogCaptureFixture, with_index: bool
    ) -> None:
        """To move the database away is what afk advises where it is damaged."""
        log = (killed / "threads.db-wal").read_bytes()
        (killed / "threads.db").rename(killed / "away.db")
        if not with_index:
            (killed / "threads.db-shm").unlink()

        with caplog.at_level(logging.WARNING, "afkcli"):
            assert names(killed) == []
        store = DiskStore(killed)
        save_turn(store, acquired(store, "new"), "question", "answer")
        store.close()

        assert names(killed) == ["new"]
        assert is_sound(killed)
        (kept,) = killed.glob("threads.db-wal.left-*")
        assert kept.read_bytes() == log
        (said,) = caplog.messages
        assert str(kept) in said

    def test_is_still_that_of_the_old_database_when_both_are_put_back(self, killed: Path) -> None:
        (killed / "threads.db").rename(killed / "away.db")
        names(killed)
        (killed / "away.db").replace(killed / "threads.db")
        (kept,) = killed.glob("threads.db-wal.left-*")
        kept.replace(killed / "threads.db-wal")

        assert names(killed) == sorted([*(f"thread {number}" for number in range(20)), "open"])

    def test_of_another_kind_is_put_aside_and_an_empty_one_is_removed(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder.mkdir()
        (folder / "threads.db-journal").write_bytes(b"an old journal" * 100)
        (folder / "threads.db-wal").touch()

        with caplog.at_level(logging.WARNING, "afkcli"):
            assert names(folder) == []

        assert len(list(folder.glob("*.left-*"))) == len(caplog.messages) == 1
        assert next(folder.glob("*.left-*")).read_bytes() == b"an old journal" * 100


def unlink(folder: Path) -> None:
    (folder / "threads.db").unlink()


def unlink_all(folder: Path) -> None:
    for file in folder.glob("threads.db*"):
        file.unlink()


def move_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replace_file(folder: Path) -> None:
    (folder.with_name("copy") / "threads.db").replace(folder / "threads.db")


def replace_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("copy"), folder)


HARM = [unlink, unlink_all, shutil.rmtree, move_folder, replace_file, replace_folder]


def journal_of(mode: str, folder: Path) -> str:
    """Change how a database keeps its journal, as a tool for SQLite does, and return how it does now."""
    con = sqlite3.connect(folder / "threads.db", timeout=0)
    ((found,),) = con.execute(f"PRAGMA journal_mode {mode}").fetchall()
    con.close()
    return str(found)


def vacuum_into(folder: Path) -> None:
    con = sqlite3.connect(folder / "threads.db")
    con.execute("VACUUM INTO ?", (str(folder / "copy.db"),))
    con.close()
    (folder / "copy.db").replace(folder / "threads.db")


COPIES: dict[str, Callable[[Path], object]] = {
    "VACUUM INTO": vacuum_into,
    "another program": lambda folder: journal_of("= DELETE", folder),
}


class TestADatabaseWithoutALog:
    """A copy by VACUUM INTO is one, and so is a database whose log was ended by another program."""

    @pytest.fixture(params=COPIES)
    def copy(self, request: pytest.FixtureRequest, folder: Path) -> Path:
        store = DiskStore(folder)
        save_turn(store, acquired(store, "old"), "question", "answer")
        store.close()
        COPIES[request.param](folder)
        return folder

    def test_takes_turns_and_has_a_log_again(self, copy: Path) -> None:
        store = DiskStore(copy)
        save_turn(store, acquired(store, "new"), "question", "answer")
        assert (copy / "threads.db-wal").stat().st_size > 0
        store.close()

        assert names(copy) == ["new", "old"]
        assert journal_of("", copy) == "wal"

    def test_is_not_changed_by_a_list(self, copy: Path) -> None:
        before = (copy / "threads.db").read_bytes()

        assert names(copy) == ["old"]
        assert (copy / "threads.db").read_bytes() == before

    def test_takes_turns_while_another_process_reads_it(self, copy: Path) -> None:
        reader = sqlite3.connect(copy / "threads.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM Cache").fetchall()
        store = DiskStore(copy, lock_timeout=0.2)
        with pytest.raises(StoreError, match="locked"):
            acquired(store, "new")
        reader.execute("COMMIT")
        store = DiskStore(copy)
        lease = asked(store, "new")
        reader.close()
        save(store, lease, with_journal(lease.thread, "text"))
        store.close()

        assert journal_of("", copy) == "wal"


class TestADatabaseThatIsDeletedOrReplacedWhileItIsOpen:
    @pytest.fixture
    def lease(self, store: DiskStore, folder: Path) -> Lease:
        """The lease of an open turn; a copy of another store is beside its folder."""
        copy = DiskStore(folder.with_name("copy"))
        save_turn(copy, acquired(copy, "of the copy"), "question", "answer")
        copy.close()
        return asked(store)

    @pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
    def test_takes_no_turn_that_would_be_lost(
        self, store: DiskStore, folder: Path, lease: Lease, harm: Callable[[Path], None]
    ) -> None:
        harm(folder)

        messages = (text_message(Role.USER, "question"), text_message(Role.ASSISTANT, "answer"))
        for records in (with_journal(lease.thread, "text"), with_seal(lease.thread, messages)):
            with pytest.raises(StoreError, match=r"threads\.db was deleted or replaced"):
                save(store, lease, records)
        for operation in (acquire_another, release):
            with pytest.raises(StoreError, match=r"threads\.db was deleted or replaced"):
                operation(store, lease)

    def test_takes_no_turn_that_another_process_would_not_find(
        self, store: DiskStore, folder: Path, lease: Lease, start_python
    ) -> None:
        """The other process has made a log of its own, which is there to be synced."""
        replace_folder(folder)
        process = start_python(OTHER)
        assert process.stdout.readline() == "written\n"

        messages = (text_message(Role.USER, "question"), text_message(Role.ASSISTANT, "answer"))
        seal = with_seal(lease.thread, messages)
        with pytest.raises(StoreError, match="deleted or replaced"):
            save(store, lease, seal)
        with pytest.raises(StoreError, match="deleted or replaced"):
            store.apply([appended(lease, seal), Release(lease)])
        process.kill()
        process.wait()

        assert names(folder) == ["of the copy", "other"]
        assert is_sound(folder)

    def test_takes_turns_again_once_it_was_put_back(self, store: DiskStore, folder: Path, lease: Lease) -> None:
        move_folder(folder)
        with pytest.raises(StoreError, match="put it back"):
            save(store, lease, with_journal(lease.thread, "text"))
        folder.with_name("moved").rename(folder)

        save(store, lease, with_journal(lease.thread, "text"))


def acquire_another(store: DiskStore, lease: Lease) -> None:
    store.acquire("another", store.holder(lease.thread.name))  # type: ignore[arg-type]


def release(store: DiskStore, lease: Lease) -> None:
    store.release(lease)

"""Many processes write to one database: who waits is served in order, says so, keeps its lease, and can give up."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from afk_store_disk import Settings, spool
from afk_store_disk.queue import Place
from afk_store_disk.store import DiskStore

from afkcli.core.contract.waiting import on_waiting
from afkcli.core.thread.store_worker import StoreWorker
from afkcli.plugin import LEASE_SECONDS, Role, StoreError, current_owner, text_message
from afkcli.testing.store_steps import ShiftedTime, acquired, asked, save, save_turn, with_question, with_seal

posix = pytest.mark.skipif(os.name != "posix", reason="files are locked as POSIX has it")


@pytest.fixture
def holder(store: DiskStore, folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that holds the write lock and knows of no queue, as another program has it."""
    holder = sqlite3.connect(folder / "threads.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    yield holder
    if holder.in_transaction:
        holder.execute("ROLLBACK")
    holder.close()


class Waits:
    """What the thread of this test does while the store waits on it."""

    def __init__(self, while_waiting: Callable[[], bool] = lambda: False) -> None:
        self.said: list[str] = []
        self._while_waiting = while_waiting
        on_waiting(self)

    def while_waiting(self) -> bool:
        return self._while_waiting()

    def say_waiting(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    Waits()


@contextmanager
def first_place(folder: Path) -> Iterator[Place]:
    place = Place(folder / "threads.queue")
    assert place.enter()
    yield place
    place.leave()


def test_a_call_that_waits_for_a_second_says_so_once_and_how_long_it_waits(
    store: DiskStore, holder: sqlite3.Connection, folder: Path
) -> None:
    waits = Waits(lambda: bool(waits.said) and holder.in_transaction and not holder.execute("ROLLBACK"))
    assert store.acquire("t-42", current_owner("run")) is not None
    assert waits.said == [f"{folder / 'threads.db'} is locked by another process; waiting up to 60 s"]


def test_a_call_gives_up_after_the_time_of_the_setting(
    store: DiskStore, holder: sqlite3.Connection, folder: Path
) -> None:
    short = DiskStore(folder, lock_timeout=0.2)
    with pytest.raises(StoreError, match=r"threads\.db was locked by another process for 0\.2 s; try again"):
        short.acquire("t-42", current_owner("run"))
    short.close()


@pytest.mark.parametrize("seconds", [-1, 3601, float("nan"), float("inf")])
def test_a_lock_timeout_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="lock_timeout must be a number of seconds from 0 to 3600"):
        Settings(lock_timeout=seconds)


def test_waiting_for_the_question_longer_than_a_lease_keeps_the_thread(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run that wants the thread meanwhile does not get it, and the turn is saved in the end."""
    monkeypatch.setattr("afk_store_disk.write_lock._SAY_SECONDS", 1e9)
    lease = acquired(store)
    other = DiskStore(folder)
    blocker = sqlite3.connect(folder / "threads.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    shifted, taken = ShiftedTime(), list[object]()
    shifted.start()

    def later() -> bool:
        taken.append(other.acquire("t-42", current_owner("next")))
        if len(taken) < 8:
            shifted.advance(LEASE_SECONDS * 0.5)
        elif blocker.in_transaction:
            blocker.execute("ROLLBACK")
        return False

    try:
        Waits(later)
        lease = save(store, lease, with_question(lease.thread, "question"))
    finally:
        shifted.stop()
        blocker.close()
    assert taken[:8] == [None] * 8
    assert store.find("t-42") == lease.thread
    assert not list((folder / "spool").iterdir())
    other.close()


def test_a_release_does_not_wait_for_the_lock_and_the_thread_is_free_at_once(
    store: DiskStore, holder: sqlite3.Connection, folder: Path
) -> None:
    holder.execute("ROLLBACK")
    lease = save_turn(store, acquired(store), "question", "answer")
    holder.execute("BEGIN IMMEDIATE")
    Waits(lambda: pytest.fail("it waits"))
    store.release(lease)
    other = DiskStore(folder)
    assert other.holder("t-42") is None
    holder.execute("ROLLBACK")
    taken = other.acquire("t-42", current_owner("next"))
    assert taken is not None
    assert taken.thread == lease.thread
    other.release(taken)
    assert not list((folder / "spool").iterdir())
    other.close()


def test_a_thread_is_free_while_another_process_brings_its_release_into_the_database(
    store: DiskStore, holder: sqlite3.Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder.execute("ROLLBACK")
    lease = save_turn(store, acquired(store), "question", "answer")
    holder.execute("BEGIN IMMEDIATE")
    store.release(lease)
    holder.execute("ROLLBACK")
    other, wanting = DiskStore(folder), DiskStore(folder)
    read = wanting._spool.read

    def read_after_another(name: str) -> bytes:
        for _ in range(2):  # one ends it in the database and the next one removes the file, between two reads here
            other._aside.sweep()
        return read(name)

    monkeypatch.setattr(wanting._spool, "read", read_after_another)
    taken = wanting.acquire("t-42", current_owner("next"))
    assert taken is not None
    for one in (other, wanting):
        one.close()


def test_a_release_after_a_seal_that_waited_in_vain_keeps_the_turn(
    store: DiskStore, holder: sqlite3.Connection, folder: Path
) -> None:
    holder.execute("ROLLBACK")
    lease = asked(store)
    holder.execute("BEGIN IMMEDIATE")
    store._cache.lock.timeout = 0.1
    with pytest.raises(StoreError, match="was locked"):
        save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
    store.release(lease)
    holder.execute("ROLLBACK")
    taken = store.acquire("t-42", current_owner("next"))
    assert taken is not None
    assert taken.thread.open_turn is None
    assert taken.thread.last_state == "completed"


def test_leases_that_ended_while_the_database_was_locked_leave_no_files(
    store: DiskStore, holder: sqlite3.Connection, folder: Path
) -> None:
    holder.execute("ROLLBACK")
    leases = [save_turn(store, acquired(store, f"t-{number}"), "question", "answer") for number in range(5)]
    new = acquired(store, "new")
    holder.execute("BEGIN IMMEDIATE")
    for lease in (*leases, new):
        store.release(lease)
    assert len(list((folder / "spool").iterdir())) == 6
    holder.execute("ROLLBACK")
    store.release(acquired(store, "another"))
    assert not list((folder / "spool").iterdir())
    assert {thread.name for thread in store.list()} == {f"t-{number}" for number in range(5)}
    assert store.find("new") is None  # nothing was appended to it


def test_a_run_that_asks_for_a_thread_in_use_takes_no_write_lock(
    store: DiskStore, holder: sqlite3.Connection, folder: Path
) -> None:
    holder.execute("ROLLBACK")
    asked(store)
    holder.execute("BEGIN IMMEDIATE")
    other = DiskStore(folder)
    Waits(lambda: pytest.fail("it waits"))
    assert other.acquire("t-42", current_owner("next")) is None
    other.close()


def test_the_lock_is_not_taken_while_this_process_imports(store: DiskStore, holder: sqlite3.Connection) -> None:
    """The import may last longer than the lock of the other process."""
    answers = [False, True, True, True, False]

    def importing() -> bool:
        if holder.in_transaction:
            holder.execute("ROLLBACK")
        return answers.pop(0) if answers else False

    Waits(importing)
    begun: list[int] = []
    store._cache._con.set_trace_callback(
        lambda sql: begun.append(len(answers)) if sql == "BEGIN IMMEDIATE" and not holder.in_transaction else None
    )
    holder.execute("SELECT 1")
    assert store.acquire("t-42", current_owner("run")) is not None
    assert begun[-1] in (0, 4)  # before the import began, or after it


@posix
def test_a_call_is_served_though_the_first_in_the_queue_is_stopped_outside_a_transaction(
    store: DiskStore, folder: Path
) -> None:
    with first_place(folder):
        assert store.acquire("t-42", current_owner("run")) is not None


@posix
def test_a_dead_process_gives_its_place_back(store: DiskStore, folder: Path, start_python) -> None:
    process = start_python(
        "from afk_store_disk.queue import Place\n"
        "place = Place(folder / 'threads.queue')\n"
        "print(place.enter(), flush=True)\n"
        "time.sleep(60)\n"
    )
    assert process.stdout.readline() == "True\n"
    place = Place(folder / "threads.queue")
    assert not place.enter()
    process.send_signal(signal.SIGKILL)
    assert place.wait(50)
    place.leave()


@posix
def test_a_place_that_was_given_up_blocks_no_one(folder: Path) -> None:
    folder.mkdir()
    with first_place(folder):
        impatient, patient = Place(folder / "threads.queue"), Place(folder / "threads.queue")
        assert not impatient.wait(0.01)
        assert not patient.wait(0.01)
        impatient.leave()
    assert patient.wait(50)
    patient.leave()


def test_without_files_that_can_be_locked_the_lock_of_the_database_decides(store: DiskStore, folder: Path) -> None:
    (folder / "threads.queue").unlink(missing_ok=True)
    (folder / "threads.queue").mkdir()
    save_turn(store, acquired(store), "question", "answer")
    holder = sqlite3.connect(folder / "threads.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, holder.execute, ("ROLLBACK",))
    timer.start()
    assert store.acquire("another", current_owner("run")) is not None
    timer.join()
    holder.close()


def test_a_call_that_was_given_up_ends_while_it_waits(store: DiskStore, holder: sqlite3.Connection) -> None:
    calls = StoreWorker()
    waiting = calls.submit(store.acquire, "t-42", current_owner("run"))
    calls.give_up(waiting)
    with pytest.raises(StoreError, match="given up"):
        waiting.result(50)
    calls.close()


@pytest.mark.skipif(os.name != "posix", reason="many processes")
def test_writers_of_many_processes_are_all_served(start_python, store: DiskStore, folder: Path) -> None:
    code = """
store = DiskStore(folder)
for number in range(5):
    lease = acquired(store, f'{sys.argv[2]}-{number}')
    store.release(save_turn(store, lease, 'question', 'answer'))
"""
    processes = [start_python(code, str(number)) for number in range(8)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert len(store.list()) == 40
    time.sleep(0)
    assert spool.Spool(folder).names() == []

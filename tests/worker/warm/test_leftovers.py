"""What killed workers left in the folder of the sockets is removed, and nothing that a process holds."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from afkcli.worker.leftovers import hold_rehearsal, remove_leftovers
from afkcli.worker.locks import take_lock
from tests.worker.scripted_worker import safe_folder
from tests.worker.warm.conftest import WarmShell, until
from tests.worker.warm.processes import has_ended, processes_of


@pytest.fixture
def folder() -> Iterator[Path]:
    with safe_folder() as made:
        yield made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_worker(folder: Path, name: str, stack: ExitStack) -> int:
    """Make the files of a worker, and return the descriptor of its lock."""
    for socket_name in (f"{name}.sock", f"{name}.sock.4711"):
        stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(folder / socket_name))
    lock = take_lock(str(folder / f"{name}.sock"), create=True)
    assert lock is not None
    return lock


def test_files_of_a_worker_that_has_ended_are_removed_and_those_of_one_that_runs_stay(folder: Path) -> None:
    with ExitStack() as stack:
        runs = make_worker(folder, "runs", stack)
        os.close(make_worker(folder, "ended", stack))
        (folder / "another file").touch()

        remove_leftovers(str(folder))

        assert names(folder) == ["another file", "runs.sock", "runs.sock.4711", "runs.sock.lock"]
        os.close(runs)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_a_socket_stays(folder: Path, kind: str) -> None:
    place = folder / "w.sock"
    place.touch() if kind == "file" else place.mkdir() if kind == "folder" else place.symlink_to("elsewhere")
    (folder / "w.sock.lock").touch()

    remove_leftovers(str(folder))

    assert names(folder) == ["w.sock"]


def test_a_lock_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (folder / "w.sock.lock").symlink_to(tmp_path / "file")

    remove_leftovers(str(folder))

    assert (tmp_path / "file").read_text() == "kept"


def test_rehearsals_of_killed_processes_are_removed_and_those_that_are_held_stay(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        ended = process.pid
        process.kill()
    for name in (f"rehearsal-{ended}-gone", f"rehearsal-{ended}-held", f"rehearsal-{os.getpid()}-young"):
        (folder / name / "config").mkdir(parents=True)
    (folder / f"rehearsal-{os.getpid()}-old").mkdir()
    os.utime(folder / f"rehearsal-{os.getpid()}-old", (time.time() - 7200,) * 2)  # another process has its id now
    (folder / "rehearsal-of-someone").mkdir()
    held = hold_rehearsal(str(folder / f"rehearsal-{ended}-held"))

    remove_leftovers(str(folder))

    assert names(folder) == sorted(
        [f"rehearsal-{ended}-held", f"rehearsal-{os.getpid()}-young", "rehearsal-of-someone"]
    )
    os.close(held)


def test_failures_stay_for_a_day(folder: Path) -> None:
    for name, age in (("new", 60), ("old", 90000)):
        (folder / f"{name}.sock.failed").touch()
        os.utime(folder / f"{name}.sock.failed", (time.time() - age,) * 2)

    remove_leftovers(str(folder))

    assert names(folder) == ["new.sock.failed"]


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_leftovers(str(tmp_path / "missing"))


def test_a_lock_is_held_once_while_files_are_removed(folder: Path) -> None:
    """Who locks a file that is removed meanwhile does not hold the place: another one may have made a new file."""
    address, holders, most, ends = str(folder / "w.sock"), [0], [0], threading.Event()

    def hold() -> None:
        for _ in range(150):
            lock = take_lock(address, create=True)
            if lock is not None:
                holders[0] += 1
                most[0] = max(most[0], holders[0])
                time.sleep(0)
                holders[0] -= 1
                os.close(lock)

    def remove() -> None:
        while not ends.is_set():
            remove_leftovers(str(folder))

    threads = [threading.Thread(target=hold) for _ in range(3)]
    remover = threading.Thread(target=remove)
    for thread in (*threads, remover):
        thread.start()
    for thread in threads:
        thread.join()
    ends.set()
    remover.join()

    assert most[0] == 1


def test_a_lock_whose_file_was_removed_is_not_taken(folder: Path) -> None:
    address = str(folder / "w.sock")
    first = take_lock(address, create=True)
    assert first is not None
    assert take_lock(address, create=True) is None
    (folder / "w.sock.lock").unlink()

    second = take_lock(address, create=True)

    assert second is not None
    assert not os.path.samestat(os.fstat(first), os.fstat(second))
    for lock in (first, second):
        os.close(lock)


def test_stop_removes_what_a_killed_worker_left(fresh: WarmShell) -> None:
    state = fresh.warm_up()
    folder = fresh.runtime / "afk"
    os.kill(state.pid, signal.SIGKILL)
    until(lambda: has_ended(state.pid) and not processes_of(fresh.runtime), "the end of the worker and of its child")
    (folder / f"rehearsal-{state.pid}-x").mkdir()
    os.utime(folder / f"rehearsal-{state.pid}-x", (time.time() - 7200,) * 2)  # its process id may be another's already
    assert f"{Path(fresh.address).name}.lock" in names(folder)

    assert fresh.afk("worker", "stop").code == 0

    assert names(folder) == []


def test_the_next_worker_removes_what_a_killed_one_of_another_installation_left(fresh: WarmShell) -> None:
    folder = fresh.runtime / "afk"
    folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        os.close(make_worker(folder, "other", stack))
    descriptor = os.open(folder / "held.sock.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    fresh.warm_up()

    assert not {"other.sock", "other.sock.lock", "other.sock.4711"} & set(names(folder))
    assert "held.sock.lock" in names(folder)
    os.close(descriptor)

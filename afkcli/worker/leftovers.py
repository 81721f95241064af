"""Removes what killed processes left in the folder of the sockets, while others start and end there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time

from afkcli.worker import failures, locks, place

REHEARSAL = "rehearsal-"
_LOCK = f"{place.ENDING}{locks.ENDING}"
_SECONDS_OLD = 60.0
"""After so long a folder is locked if it is in use, whatever process has the process id in its name by now."""


def remove_leftovers(folder: str) -> None:
    """Remove the locks and sockets of workers that have ended, the folders of their rehearsals, and old failures.

    Each is locked first, so that nothing is removed that a process holds.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}"
        with contextlib.suppress(OSError):
            if name.endswith(_LOCK):
                _remove_worker(path.removesuffix(locks.ENDING), names)
            elif name.startswith(REHEARSAL):
                _remove_rehearsal(path)
            elif name.endswith(f"{place.ENDING}{failures.ENDING}"):
                failures.remove_outdated(path.removesuffix(failures.ENDING))


def hold_rehearsal(path: str) -> int:
    """Open the folder of a rehearsal so that no other process removes it; return the descriptor to close at its end.

    Raises:
        OSError: it cannot be opened.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder


def _remove_worker(address: str, names: list[str]) -> None:
    """Remove the lock of a socket and the socket, unless a worker holds the lock."""
    lock = locks.take_lock(address, create=False)
    if lock is None:
        return
    try:
        folder, _, name = address.rpartition("/")
        unfinished = [one for one in names if one.startswith(f"{name}.") and one[len(name) + 1 :].isdecimal()]
        for path in (address, *(f"{folder}/{one}" for one in unfinished)):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)  # noqa: PTH108
        os.unlink(f"{address}{locks.ENDING}")  # noqa: PTH108
    finally:
        os.close(lock)


def _remove_rehearsal(path: str) -> None:
    """Remove the folder of a rehearsal whose process was killed.

    Between its making and its lock, the process that its name has is there.
    """
    pid = path.rpartition("/")[2].removeprefix(REHEARSAL).partition("-")[0]
    is_there = os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    if not pid.isdecimal() or (is_there and time.time() - os.lstat(path).st_mtime < _SECONDS_OLD):
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(folder)

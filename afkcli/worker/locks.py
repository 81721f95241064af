"""The lock of a worker's place, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
import time

ENDING = ".lock"
_TRIES = 4
_TRY_SECONDS = 0.02


def take_lock(address: str, *, create: bool) -> int | None:
    """Take the lock of a socket, and return its descriptor; None if another process holds it.

    What removes the files of workers that have ended holds a lock for a moment, and so does a look whether there is a
    worker: it is tried a few times. A file that was removed meanwhile is not a lock, since others take a new one.

    Args:
        address: the path of the socket.
        create: whether the file is made if there is none; else a missing one raises FileNotFoundError.

    Raises:
        OSError: the file cannot be opened.
    """
    path = f"{address}{ENDING}"
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    for _ in range(_TRIES):
        lock = os.open(path, flags, 0o600)
        if _is_locked(lock) and is_file_at(lock, path):
            return lock
        os.close(lock)
        if not create:
            break
        time.sleep(_TRY_SECONDS)
    return None


def _is_locked(descriptor: int) -> bool:
    """Lock an open file for this process; return False if another one has it, or it cannot be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_file_at(descriptor: int, path: str) -> bool:
    """Return whether an open file is the one that a path names."""
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)

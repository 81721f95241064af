"""The queue for the write lock of the database: who waits is asleep, and the one who came first is next.

SQLite's lock is what keeps two writers apart. But its waiters sleep for up to 100 ms and then try again, whoever was
first; of fifty processes some never get it. So a process that wants to write locks a file beside the database first,
whose waiters the system keeps in order and wakes one by one. Nothing depends on that file: where it cannot be locked
(Windows, some file systems), where a writer does not know of it (an earlier afk, another program), and where its owner
is stopped outside a transaction, the lock of SQLite decides alone. A process that dies gives the file back.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def _open(file: Path) -> int:
    """Return a descriptor of the file, which is created where it is missing, for the user alone."""
    try:
        return os.open(file, _FLAGS)
    except FileNotFoundError:
        descriptor = os.open(file, _FLAGS | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o600)
        os.utime(descriptor, (0, 0))  # there was no checkpoint yet
        return descriptor


class Place:
    """A place in the queue, of one transaction; it belongs to one operating-system thread.

    Args:
        file: the file that is locked.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None
        self._waiter: _Waiter | None = None
        self._there = sys.platform != "win32"

    def enter(self) -> bool:
        """Take the first place if the queue is empty, and return whether it is taken. It does not wait."""
        if self._descriptor is None and self._there:
            self._descriptor = self._locked()
        return self._descriptor is not None or not self._there

    def wait(self, seconds: float) -> bool:
        """Wait `seconds` at most to be the first, and return whether it is; the place is kept for the next call."""
        if self._descriptor is not None:
            return True
        if not self._there:
            time.sleep(seconds)
            return True
        if self._waiter is None:
            self._waiter = _Waiter(self._file)
        if not self._waiter.ready.wait(seconds):
            return False
        self._descriptor, self._waiter = self._waiter.take(), None
        self._there = self._descriptor is not None
        return True

    def leave(self) -> None:
        """Let the next one in, or give up waiting."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.give_up()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _locked(self) -> int | None:
        """Return a descriptor of the locked file; None if another process has it, or if it cannot be locked."""
        descriptor = None
        try:
            descriptor = _open(self._file)
            _lock(descriptor, wait=False)
        except BlockingIOError:
            pass
        except OSError:  # a folder that cannot be written, a file system without locks
            self._there = False
        else:
            return descriptor
        if descriptor is not None:
            os.close(descriptor)
        return None


class _Waiter:
    """A thread that waits for the file, because such a wait cannot be given a limit."""

    def __init__(self, file: Path) -> None:
        self.ready = threading.Event()
        self._file = file
        self._changing = threading.Lock()
        self._given_up = False
        self._descriptor: int | None = None
        threading.Thread(target=self._wait, name="afk-store-queue", daemon=True).start()

    def take(self) -> int | None:
        """Return the descriptor of the locked file, None if it cannot be locked; to be called when it is ready."""
        descriptor, self._descriptor = self._descriptor, None
        return descriptor

    def give_up(self) -> None:
        """Give the file back as soon as it is locked."""
        with self._changing:
            self._given_up = True
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _wait(self) -> None:
        descriptor = None
        with suppress(OSError):
            descriptor = _open(self._file)
            try:
                _lock(descriptor, wait=True)
            except OSError:
                os.close(descriptor)
                descriptor = None
        with self._changing:
            given_up = self._given_up
            self._descriptor = None if given_up else descriptor
        if given_up and descriptor is not None:
            os.close(descriptor)
        self.ready.set()


if sys.platform == "win32":

    def _lock(descriptor: int, *, wait: bool) -> None:
        raise OSError
else:

    def _lock(descriptor: int, *, wait: bool) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

"""Taking the write lock of the database, and waiting for it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from afk_store_disk.problems import is_locked
from afkcli.plugin import say_waiting, waiting_for, while_waiting

if TYPE_CHECKING:
    from afk_store_disk.queue import Place

T = TypeVar("T")

QUEUE = "threads.queue"

LOCK_TIMEOUT = 60.0
"""Seconds that a call waits for the write lock, unless `[stores.disk] lock_timeout` says something else."""

SHORT_SECONDS = 0.02
"""How long to wait for the write lock with what can be put aside, of the 50 ms that the journal has for its write."""

_SLICE_SECONDS = 0.05
_SAY_SECONDS = 1.0
_PAST_QUEUE_SECONDS = 1.0  # after this time it also asks SQLite alone, for the first in the queue may be stopped
_RETRY_SECONDS = 0.25


class WriteLock:
    """The write lock of one database, for one store.

    Args:
        file: the database.
        timeout: seconds to wait for the lock.
    """

    def __init__(self, file: Path, timeout: float) -> None:
        self.timeout = timeout
        self._file = file
        self._queue = file.with_name(QUEUE)
        self._out_of_reach = False  # when it was last asked for

    def take(self, con: sqlite3.Connection, *, at_once: bool, keep: Callable[[], None]) -> Place:
        """Begin a transaction that holds the lock, and return its place in the queue, to be left after its end.

        Args:
            con: the connection.
            at_once: wait `SHORT_SECONDS` at most, and not at all if the lock was out of reach at the last call: several
                turns may be open in one process.
            keep: called while it waits; it keeps the caller's lease.

        Raises:
            sqlite3.OperationalError: the lock was out of reach for `timeout`, or something else is wrong.
            StoreError: whoever wanted this has given up.
        """
        from afk_store_disk.queue import Place  # not at the top: a list of threads writes nothing

        place = Place(self._queue)
        try:
            patience = 0.0 if at_once and self._out_of_reach else SHORT_SECONDS
            self._out_of_reach = not self._take_soon(con, place, patience)
            if self._out_of_reach and at_once:
                self._begin(con, 0.0)
                self._out_of_reach = False
            elif self._out_of_reach:
                self._take_in_turn(con, place, keep)
        except BaseException:
            place.leave()
            raise
        return place

    def _take_soon(self, con: sqlite3.Connection, place: Place, seconds: float) -> bool:
        """Take the lock if it is free within `seconds`; return whether it is taken."""
        end = time.monotonic() + seconds
        while not place.enter():
            if time.monotonic() >= end:
                return False
            time.sleep(SHORT_SECONDS / 4)
        return self._is_taken(con, max(0.0, min(seconds, end - time.monotonic())))

    def _take_in_turn(self, con: sqlite3.Connection, place: Place, keep: Callable[[], None]) -> None:
        import random  # takes 3 ms, and few calls have to wait

        wait = _Wait(self._file, self.timeout)
        past_queue = wait.began + _PAST_QUEUE_SECONDS
        with waiting_for(f"{self._file.name}, which another process has locked"):
            while True:
                if while_waiting():
                    place.leave()  # the others need not wait for what this process imports
                    time.sleep(SHORT_SECONDS)
                    first = False
                else:
                    first = place.wait(_SLICE_SECONDS)
                keep()
                if first or time.monotonic() >= past_queue:
                    if self._is_taken(con, SHORT_SECONDS if first else 0.0):
                        self._out_of_reach = False
                        return
                    past_queue = time.monotonic() + _RETRY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311
                if wait.is_over():
                    self._begin(con, 0.0)
                    return

    def _is_taken(self, con: sqlite3.Connection, seconds: float) -> bool:
        try:
            self._begin(con, seconds)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return False
        return True

    def _begin(self, con: sqlite3.Connection, seconds: float) -> None:
        wait_at_most(con, seconds)  # each time: calls made while this one waits have their own
        con.execute("BEGIN IMMEDIATE")


class Connection(sqlite3.Connection):
    """A connection that knows how long it waits for a lock, in milliseconds; None until it was told."""

    busy_timeout: int | None = None


def wait_at_most(con: sqlite3.Connection, seconds: float) -> None:
    """Have a connection wait so long for locks. That is a statement of its own, so it is left out where it is so."""
    timeout = int(seconds * 1000)
    if not isinstance(con, Connection) or con.busy_timeout != timeout:
        con.execute(f"PRAGMA busy_timeout = {timeout}")
        if isinstance(con, Connection):
            con.busy_timeout = timeout


class _Wait:
    """One wait for the lock. It says so when it has lasted a second."""

    def __init__(self, file: Path, timeout: float) -> None:
        self.began = time.monotonic()
        self._file = file
        self._timeout = timeout
        self._said = False

    def is_over(self) -> bool:
        """Return whether the time is over."""
        waited = time.monotonic() - self.began
        if waited >= self._timeout:
            return True
        if waited >= _SAY_SECONDS and not self._said:
            self._said = True
            say_waiting(f"{self._file} is locked by another process; waiting up to {self._timeout:g} s")
        return False


def patiently(file: Path, timeout: float, call: Callable[[], T]) -> T:
    """Return what `call` returns; it is called again while the database is locked, until `timeout` is over."""
    wait = _Wait(file, timeout)
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or wait.is_over():
                raise
        while_waiting()
        time.sleep(SHORT_SECONDS)

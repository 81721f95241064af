"""The disk store with faults: it kills or stops its process at a chosen point between its writes, or has short leases.

What to do is read from the environment, so that a test can say it for each run (see `tests.faults.world`).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import afk_store_disk.leases
import afk_store_disk.spool
import afk_store_disk.store
import afk_store_disk.write_lock

import afkcli.core.thread.writer
from afkcli.hookspecs import Store, hookimpl

AFK_HOOKS = 1

_REMOVE = afk_store_disk.spool.Spool.remove
_WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT")


class FaultyConnection(afk_store_disk.write_lock.Connection):
    """A connection with a point before each statement that writes, and one after each COMMIT."""

    passed = 0
    commits = 0

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        word = sql.split()[0]
        if word in _WRITES and sql != "BEGIN":  # a bare BEGIN only reads
            pass_point(f"before {word}")
        if word == "COMMIT":
            FaultyConnection.commits += 1
            if FaultyConnection.commits == int(os.environ.get("AFK_TEST_STOP_AT_COMMIT", 0)):
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # os.kill may let this thread commit first
        cursor = super().execute(sql, *arguments)
        if word == "COMMIT":
            pass_point("after COMMIT")
        return cursor


def pass_point(name: str) -> None:
    """Note the point, and die here if it is the chosen one."""
    FaultyConnection.passed += 1
    if path := os.environ.get("AFK_TEST_POINTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
    if FaultyConnection.passed == int(os.environ.get("AFK_TEST_KILL_AT", 0)):
        os.kill(os.getpid(), signal.SIGKILL)


def write_aside(descriptor: int, line: bytes) -> int:
    """Write a line of the spool in two halves, with points around them."""
    pass_point("before a line aside")
    os.write(descriptor, line[: len(line) // 2])
    pass_point("half a line aside")
    os.write(descriptor, line[len(line) // 2 :])
    pass_point("after a line aside")
    return len(line)


def remove(spool: afk_store_disk.spool.Spool, name: str) -> None:
    """Remove a file that was brought in, with a point before it."""
    if (spool.folder / name).exists():
        pass_point("before removal")
    _REMOVE(spool, name)


def watch() -> None:
    """Have the writes of every connection and spool that is opened from now on pass the points."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect_faulty(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **{**options, "factory": FaultyConnection})

    sqlite3.connect = connect_faulty  # type: ignore[assignment]
    vars(afk_store_disk.spool)["_write"] = write_aside
    afk_store_disk.spool.Spool.remove = remove  # type: ignore[method-assign]


@hookimpl
def afk_store(settings: object) -> Store:
    if lease := float(os.environ.get("AFK_TEST_LEASE", 0)):
        vars(afk_store_disk.leases)["LEASE_SECONDS"] = lease
        vars(afkcli.core.thread.writer)["RENEW_SECONDS"] = lease / 4
    watch()
    return afk_store_disk.store.open_store()

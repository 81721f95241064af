"""Finds the folder of the store, and creates folder and database so that only the user can read them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from afk_store_disk.cache import OlderSchemaError, ThreadCache
from afk_store_disk.mounts import network_type
from afk_store_disk.reasons import ELSEWHERE
from afk_store_disk.write_lock import WriteLock, patiently
from afkcli.plugin import StoreError, keep_place, make_private_folder, private_file, sync_folder

DATABASE, INDEX, TEXTS, LOCK, SPOOL = "threads.db", "index.db", "search.db", "threads.lock", "spool"

_opened: set[tuple[int, int]] = set()
"""The databases that this process has or had open, by device and number of the file."""

_opening = threading.Lock()


def open_database(folder: Path, lock_timeout: float) -> ThreadCache:
    """Return the database in `folder`; both are created where they are not there, an older schema is migrated.

    Args:
        folder: the folder.
        lock_timeout: seconds to wait for locks of other processes.

    Raises:
        StoreError: the folder is on a network file system, or the database cannot be used.
    """
    names = [DATABASE, *(f"{DATABASE}-{end}" for end in ("wal", "shm", "journal")), INDEX, TEXTS, LOCK, SPOOL]
    keep_place(*(folder.absolute() / name for name in names))
    refuse_network(folder)
    file = folder / DATABASE
    if not file.exists():
        make_private_folder(folder)
        with _locked(folder / LOCK):
            if not file.exists():
                _create(file)
    elif file.stat().st_mode & 0o077 and os.name == "posix":
        with suppress(PermissionError):  # another user owns it, and decides who reads it
            file.chmod(0o600)
    _look_at_log(file)
    lock = WriteLock(file, lock_timeout)
    try:
        return patiently(file, lock_timeout, lambda: ThreadCache(file, lock))
    except OlderSchemaError:
        from afk_store_disk.migrations import migrate

        patiently(file, lock_timeout, lambda: migrate(file))
        return ThreadCache(file, lock)


def _look_at_log(file: Path) -> None:
    """Report damage of the log that another process left; once in a process, before its first connection."""
    found = file.stat()
    with _opening:
        first = (found.st_dev, found.st_ino) not in _opened
        _opened.add((found.st_dev, found.st_ino))
        if first and any(file.with_name(f"{DATABASE}-{suffix}").exists() for suffix in ("wal", "shm")):
            from afk_store_disk.log import tell_damage

            tell_damage(file)


def refuse_network(folder: Path) -> None:
    """Raise `StoreError` if `folder` is on a network file system."""
    kind = network_type(folder)
    if kind is not None:
        raise StoreError(
            f"{folder} is on a network file system ({kind}), where locks do not keep two runs apart; {ELSEWHERE}"
        )


def _create(file: Path) -> None:
    """Build the database beside `file` and put it there in one step, so that no process ever sees half of it."""
    from afk_store_disk.disk import NewCache

    _put_aside_logs(file)
    new = file.with_suffix(".new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    os.close(private_file(new))
    NewCache(new).close()
    new.replace(file)
    sync_folder(file.parent)


def _put_aside_logs(file: Path) -> None:
    """Put aside the logs of a database that was `file` once and was deleted or moved away, and say so.

    SQLite knows a log by its name alone: it would write the pages of the old database over those of the new one.
    """
    file.with_name(f"{file.name}-shm").unlink(missing_ok=True)
    for log in (file.with_name(f"{file.name}-{suffix}") for suffix in ("wal", "journal")):
        if not log.exists():
            continue
        if not log.stat().st_size:
            log.unlink()
            continue
        import logging  # takes 3 ms, and this is rare
        import time

        kept = log.with_name(f"{log.name}.left-{int(time.time())}")
        log.replace(kept)
        logging.getLogger("afkcli").warning(
            "afk: %s is a log of an earlier %s, which is not there any more; it is kept at %s", log, file.name, kept
        )


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock file; a process that dies gives it back."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as stream:
        if os.name == "posix":
            os.fchmod(descriptor, 0o600)
        _lock(stream)
        yield


if sys.platform == "win32":

    def _lock(stream: IO[str]) -> None:
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)
else:

    def _lock(stream: IO[str]) -> None:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX)

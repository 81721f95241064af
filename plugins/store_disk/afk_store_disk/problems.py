"""Turns every failure of SQLite and the file system into a `StoreError` of one line for a person."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afk_store_disk.reasons import ELSEWHERE, probe, reason
from afkcli.plugin import LEASE_SECONDS, AfkError, JsonError, StoreError

BUSY_SECONDS = LEASE_SECONDS / 2
"""How long SQLite itself waits for a lock where afk cannot do anything else meanwhile, as while it opens a file."""

_FULL = "the disk is full: nothing was written to {file}; free some space"
_BUSY = "{file} was locked by another process for {seconds:g} s; try again"
_READ_ONLY = f"{{file}} cannot be written ({{error}}); change its permissions, or {ELSEWHERE}"
_CANNOT_OPEN = f"{{file}} cannot be opened ({{error}}); check the folder and its permissions, or {ELSEWHERE}"
_DAMAGED = f"{{file}} is damaged ({{error}}); restore it from a backup, or {ELSEWHERE}"
_IO = f"reading or writing {{file}} failed ({{error}}); check the disk and its free space, or {ELSEWHERE}"
_TOO_LARGE = "{file} has a row that is too large to be read or written ({error})"
_OTHER = "the store {file} failed ({error}); `afk doctor` tells more"

_LINES = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FORMAT: _DAMAGED,
    sqlite3.SQLITE_ERROR: _DAMAGED,  # our statements are fixed, so only a wrong schema makes them fail
    sqlite3.SQLITE_SCHEMA: _DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: _DAMAGED,
    sqlite3.SQLITE_MISMATCH: _DAMAGED,
    sqlite3.SQLITE_IOERR: _IO,
    sqlite3.SQLITE_TOOBIG: _TOO_LARGE,
}


_OF_THE_SYSTEM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
"""What SQLite says where the operating system refused something."""

INDEX_DAMAGED = "its index of keys does not match its rows"

UNSTORABLE = (UnicodeError, JsonError, OverflowError)
"""What is raised for data that has no form in the database; other data is not concerned."""


OF_THE_TRANSACTION = (sqlite3.Error, MemoryError)
"""What may have ended the transaction in which it was raised, for all that was written in it."""


def unstorable(error: Exception, file: Path) -> StoreError:
    """Return the error for data that raised one of `UNSTORABLE`."""
    return StoreError(f"this cannot be stored in {file}: {error}")


def damaged(file: Path, what: str) -> StoreError:
    """Return the error for a database in which `what` is wrong."""
    return StoreError(_DAMAGED.format(file=file, error=what))


@contextmanager
def store_errors(file: Path, lock_timeout: float = BUSY_SECONDS) -> Iterator[None]:
    """Raise what fails inside as a `StoreError` that names `file`; errors of afk's own pass unchanged.

    Args:
        file: the database.
        lock_timeout: seconds for which a lock was waited for.
    """
    try:
        yield
    except AfkError:
        raise
    except sqlite3.Error as error:
        raise StoreError(_sqlite_line(error, file, lock_timeout)) from error
    except OSError as error:
        line = _CANNOT_OPEN.format(file=error.filename or file, error=error.strerror or error)
        raise StoreError(reason(error, file) or line) from error
    except MemoryError as error:  # as which Python raises SQLITE_NOMEM
        raise StoreError(f"not enough memory to use {file}; end some programs") from error
    except UnicodeDecodeError as error:  # SQLite's own message about a damaged schema
        raise StoreError(_DAMAGED.format(file=file, error=error.reason)) from error
    except UNSTORABLE as error:
        raise unstorable(error, file) from error


def as_store_error(error: Exception, file: Path) -> Exception:
    """Return what `store_errors` raises for `error`; what it does not know, as a `StoreError` too."""
    try:
        with store_errors(file):
            raise error
    except AfkError as known:
        return known
    except Exception as unknown:
        return StoreError(_OTHER.format(file=file, error=f"{type(unknown).__name__}: {unknown}"))


def is_locked(error: Exception) -> bool:
    """Return whether the write lock was not to be had in time."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def is_too_large(error: sqlite3.Error) -> bool:
    """Return whether a value is larger than this store reads."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_TOOBIG


def spoils_a_row(error: sqlite3.Error) -> bool:
    """Return whether one row may be what could not be read, so that the others are worth a try."""
    return is_too_large(error) or getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def _sqlite_line(error: sqlite3.Error, file: Path, lock_timeout: float) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL) & 0xFF  # the low byte is the primary code
    if code in _OF_THE_SYSTEM:
        refused = probe(file)
        line = reason(refused, file) if refused is not None else None
        if line is not None:
            return line
    text = " ".join(str(error).split())
    return _LINES.get(code, _OTHER).format(file=file, error=text, seconds=lock_timeout)

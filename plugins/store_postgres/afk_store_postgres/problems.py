"""Turns every failure of the server and of the connection into a `StoreError` of one line for a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from afkcli.plugin import AfkError, JsonError, StoreError, mask_secrets, one_line


class NoReplyError(psycopg.OperationalError):
    """The server did not answer in time."""


_PASSING = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.IdleInTransactionSessionTimeout,
    errors.UniqueViolation,  # another process was faster, so the next try sees what it wrote
)
_STARTING = re.compile(
    r"starting up|shutting down|recovery mode|too many (clients|connections)|remaining connection slots"
)
"""What a server says, before it knows a code for it, while it will soon take connections again."""
_UNTRUSTED = re.compile(r"certificate|does not support SSL|SSL error: (?!unexpected eof)")
"""What libpq says of a server that it does not trust; no try after it says anything else."""

_READ_ONLY = "{where} is read-only ({error}); connect to the primary server (target_session_attrs=read-write)"
_LINES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (errors.InsufficientPrivilege,),
        "{where} does not allow this ({error}); grant the role what `docs/how-to/postgres.md` lists",
    ),
    ((errors.ReadOnlySqlTransaction, errors.FeatureNotSupported), _READ_ONLY),
    (
        (errors.DiskFull, errors.InsufficientResources),
        "{where} has no room left: nothing was written ({error}); free some space there",
    ),
    (
        (
            errors.UndefinedTable,
            errors.UndefinedColumn,
            errors.InvalidSchemaName,
            errors.DataCorrupted,
            errors.IndexCorrupted,
        ),
        "{where} is damaged ({error}); restore it from a backup",
    ),
    ((errors.ProgramLimitExceeded,), "this is too large for {where} ({error})"),
)


def is_passing(error: psycopg.Error) -> bool:
    """Return whether the same call may succeed in a moment: the connection was lost, or others were in the way."""
    return isinstance(error, _PASSING) or is_lost(error)


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is of no use any more."""
    if isinstance(error, (NoReplyError, psycopg.InterfaceError)):
        return True
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (state is None or state.startswith(("08", "57P")))


def is_starting(error: psycopg.Error) -> bool:
    """Return whether a server that refused a connection will soon take it."""
    return isinstance(error, _PASSING) or _STARTING.search(str(error)) is not None


@contextmanager
def store_errors(where: str) -> Iterator[None]:
    """Raise what fails inside as a `StoreError` that names `where`; errors of afk's own pass unchanged."""
    try:
        yield
    except AfkError:
        raise
    except Exception as error:
        raise as_store_error(error, where) from error


def as_store_error(error: Exception, where: str) -> AfkError:
    """Return the error that a person sees."""
    if isinstance(error, AfkError):
        return error
    if isinstance(error.__context__, NoReplyError):  # which left its pipeline in disorder
        error = error.__context__
    text = mask_secrets(one_line(str(error) or type(error).__name__))
    if isinstance(error, (UnicodeError, JsonError, OverflowError, psycopg.DataError)):
        return StoreError(f"this cannot be stored in {where}: {text}")
    for kinds, line in _LINES:
        if isinstance(error, kinds):
            return StoreError(line.format(where=where, error=text))
    if isinstance(error, psycopg.OperationalError) and _UNTRUSTED.search(text):
        return StoreError(f"{where} is not trusted ({text}); check sslrootcert, sslmode and the name of the server")
    if isinstance(error, psycopg.Error) and is_lost(error):
        return StoreError(f"{where} cannot be reached ({text}); check that the server runs, and AFK_DATABASE_URL")
    if isinstance(error, MemoryError):
        return StoreError(f"not enough memory to use {where}; end some programs")
    return StoreError(f"{where} failed ({type(error).__name__}: {text}); `afk doctor` tells more")

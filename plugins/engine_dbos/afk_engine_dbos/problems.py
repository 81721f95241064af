"""Turns every failure of the server, of the connection and of DBOS into an `EngineError` of one line for a person."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from afkcli.plugin import AfkError, EngineError, mask_secrets, one_line

_PASSING = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.UniqueViolation,  # another process was faster, so the next try sees what it wrote
)
_STARTING = re.compile(
    r"starting up|shutting down|recovery mode|too many (clients|connections)|remaining connection slots"
)
"""What a server says, before it knows a code for it, while it will soon take connections again."""
_UNTRUSTED = re.compile(r"certificate|does not support SSL|SSL error: (?!unexpected eof)")
"""What libpq says of a server that it does not trust."""

_LINES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (errors.InsufficientPrivilege,),
        "{where} does not allow this ({error}); grant the role what `docs/how-to/many-machines.md` lists",
    ),
    ((errors.ReadOnlySqlTransaction,), "{where} is read-only ({error}); connect to the primary server"),
    (
        (errors.DiskFull, errors.InsufficientResources),
        "{where} has no room left: nothing was written ({error}); free some space there",
    ),
    (
        (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName, errors.DataCorrupted),
        "{where} is damaged ({error}); restore it from a backup",
    ),
)


def origin(error: BaseException) -> BaseException:
    """Return the error of psycopg that SQLAlchemy has wrapped, or the error itself."""
    inner = getattr(error, "orig", None)
    return inner if isinstance(inner, BaseException) else error


def is_lost(error: BaseException) -> bool:
    """Return whether the connection is of no use any more."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def is_passing(error: BaseException) -> bool:
    """Return whether the same call may succeed in a moment: the connection was lost, or others were in the way."""
    return isinstance(error, _PASSING) or is_lost(error)


def is_starting(error: BaseException) -> bool:
    """Return whether a server that refused a connection will soon take it."""
    return isinstance(error, _PASSING) or _STARTING.search(str(error)) is not None


def engine_error(error: BaseException, where: str) -> AfkError:
    """Return the error that a person sees."""
    if isinstance(error, AfkError):
        return error
    error = origin(error)
    text = mask_secrets(one_line(str(error) or type(error).__name__))
    for kinds, line in _LINES:
        if isinstance(error, kinds):
            return EngineError(line.format(where=where, error=text))
    if isinstance(error, psycopg.OperationalError) and _UNTRUSTED.search(text):
        return EngineError(f"{where} is not trusted ({text}); check sslrootcert, sslmode and the name of the server")
    if is_lost(error):
        return EngineError(f"{where} cannot be reached ({text}); check that the server runs, and AFK_DATABASE_URL")
    return EngineError(f"{where} failed ({type(error).__name__}: {text})")

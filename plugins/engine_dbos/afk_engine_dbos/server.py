"""The server: one connection for what is read and written, and one whose session shows that a worker lives."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from afk_engine_dbos.layout import STEPS, Layout
from afk_engine_dbos.problems import engine_error, is_lost, is_passing, is_starting, origin
from afk_engine_dbos.workflows import Workflows, migrate
from afkcli.plugin import AfkError, EngineError, keep_secret

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

for _logger in ("psycopg", "sqlalchemy", "dbos"):  # else their warnings go to stderr, which is afk's
    logging.getLogger(_logger).addHandler(logging.NullHandler())

_ALWAYS: Final[dict[str, Any]] = {"fallback_application_name": "afk", "client_encoding": "UTF8"}
_UNLESS_GIVEN: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_PAUSES: Final = (0.0, 0.1, 0.2, 0.5, 1.0)
_SESSION: Final = "SET idle_in_transaction_session_timeout = '30s'"
"""A host that disappeared in a transaction gives its locks back after so long."""
_KEPT_SESSION: Final = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)
"""The server learns within half a minute that the host of a worker has disappeared."""


class Server:
    """How a server is reached, and the schemas on it.

    Args:
        url: a connection string of libpq, or "".
        schema: the schema of our tables.
        dbos_schema: the schema of DBOS's tables.
        wait_timeout: seconds that a call waits for a server that is away.

    Raises:
        EngineError: the string is not one of libpq.
    """

    def __init__(self, url: str, schema: str, dbos_schema: str, wait_timeout: float) -> None:
        self.layout = Layout(schema)
        self.dbos_schema = dbos_schema
        self.wait_timeout = wait_timeout
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error as error:
            keep_secret(url)
            where = "the connection string of PostgreSQL (AFK_DATABASE_URL, or url in [engines.dbos])"
            raise engine_error(error, where) from None
        for name in ("password", "sslpassword"):  # not the user, whose name says who was refused
            secret = str(given.get(name) or "")
            keep_secret([secret, quote(secret), quote(secret, safe="")])
        left_to_libpq = "service" in given or any(name in os.environ for name in ("PGSERVICE", "PGCONNECT_TIMEOUT"))
        self._arguments = {**_ALWAYS, **({} if left_to_libpq else _UNLESS_GIVEN), **given}
        self.where = _where(given)

    def connect(self) -> Connection:
        """Return a new connection, which begins transactions by itself."""
        connection: Connection = psycopg.connect(**self._arguments)
        connection.autocommit = True
        connection.execute(_SESSION)
        connection.autocommit = False
        return connection

    def prepare(self) -> bool:
        """Make the tables where there are none; return whether there were."""
        with psycopg.connect(autocommit=True, **self._arguments) as connection:
            if self.layout.version(connection) == len(STEPS):
                return True
            migrate(self.connect, self.dbos_schema)
            self.layout.make(connection)
            return False

    def is_prepared(self) -> bool:
        """Return whether the tables are there."""
        with psycopg.connect(autocommit=True, **self._arguments) as connection:
            return self.layout.version(connection) == len(STEPS)

    def key_of(self, worker: str) -> int:
        """Return the number of the advisory lock of a worker."""
        name = f"afk.worker\0{self.layout.name}\0{worker}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


class Session:
    """One connection for one operating-system thread. A call that is cut off is made again on a new one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._workflows: Workflows | None = None
        self._has_connected = False
        self._is_prepared = False

    def run(self, work: Callable[[Workflows, bool], T], *, makes_tables: bool = False) -> T:
        """Return what `work` returns within a transaction, which is durable then.

        Args:
            work: takes DBOS's queue, and whether an earlier call may have been carried out although it failed.
            makes_tables: whether tables are made where there are none.

        Raises:
            EngineError: the server is away for too long, or refuses the work.
        """
        deadline = time.monotonic() + self.server.wait_timeout
        tries = 0
        while True:
            try:
                workflows = self._opened(makes_tables)
                with workflows.begin():
                    return work(workflows, tries > 0)
            except AfkError:
                raise
            except Exception as error:
                cause = origin(error)
                had_connection = self._workflows is not None
                if is_lost(cause):
                    self.close()
                if not self._is_worth_another_try(cause, had_connection, deadline):
                    raise engine_error(cause, self.server.where) from error
            time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def _opened(self, makes_tables: bool) -> Workflows:
        if not self._is_prepared:
            there = self.server.prepare() if makes_tables else self.server.is_prepared()
            self._is_prepared = there or makes_tables
            if not self._is_prepared:
                raise NoTablesError(
                    f"{self.server.where} has no batches; `afk batch run --engine dbos` makes the first"
                )
        if self._workflows is None:
            self._workflows = Workflows(self.server.connect, self.server.dbos_schema)
            self._has_connected = True
        return self._workflows

    def _is_worth_another_try(self, error: BaseException, had_connection: bool, deadline: float) -> bool:
        if time.monotonic() >= deadline:
            return False
        if not had_connection and not self._has_connected:
            return is_starting(error)  # else a wrong address would be waited for
        return is_passing(error)

    def close(self) -> None:
        workflows, self._workflows = self._workflows, None
        if workflows is not None:
            with suppress(Exception):  # it is lost, or it does not matter any more
                workflows.close()


class NoTablesError(EngineError):
    """There are no tables, so there is no batch."""


class WorkerLocks:
    """The advisory locks of the workers of this process, held by one session: it ends with the process or its host.

    `check` makes the session anew where it was lost, as by a server that was started again. For one operating-system
    thread.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection | None = None
        self._held: set[str] = set()
        self._wanted: set[str] = set()

    def hold(self, worker: str) -> None:
        """Hold the lock of a worker.

        Raises:
            EngineError: another process is this worker, or the server cannot be reached.
        """
        self._wanted.add(worker)
        deadline = time.monotonic() + self._server.wait_timeout
        while not self.check():
            if time.monotonic() >= deadline:
                raise EngineError(f"{self._server.where} does not give the worker {worker} its lock")
            time.sleep(0.2)

    def check(self) -> bool:
        """Return whether all locks are held; take those that are not, on a new connection if the old one was lost."""
        try:
            if self._connection is None:
                self._held.clear()
                self._connection = psycopg.connect(autocommit=True, **self._server._arguments)
                for setting in _KEPT_SESSION:
                    self._connection.execute(setting)
            missing = self._wanted - self._held
            if not missing:
                self._connection.execute("SELECT 1")
            for worker in missing:
                key = self._server.key_of(worker)
                row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
                if row is not None and row[0]:
                    self._held.add(worker)
        except psycopg.Error:
            self._drop()
        return self._connection is not None and self._wanted == self._held

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def release(self) -> None:
        self._wanted.clear()
        self._held.clear()
        self._drop()


def _where(given: dict[str, Any]) -> str:
    """Return what messages call the server: no part of it is secret."""
    host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
    at = f" at {host}{':' if port else ''}{port}" if host else ""
    return f"PostgreSQL{at}{f', database {database}' if database else ''}"

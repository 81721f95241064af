"""Connections to the server: kept for the next call, watched while they wait, and made again when they are lost.

What a session would remember is never used (no prepared statements, no `SET`, no session locks), so that connections
may go through a pooler in transaction mode.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from afk_store_postgres.problems import NoReplyError, as_store_error, is_lost, is_passing, is_starting, store_errors
from afkcli.plugin import keep_secret, say_waiting, while_waiting

T = TypeVar("T")

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # else its warnings go to stderr, which is afk's

REPLY_SECONDS = 10.0
"""How long a reply to a write may take: then the connection counts as lost, as after a cut of the network."""
CONNECT_SECONDS = 5
KEPT_SECONDS = 120.0
"""Connections that were not used for so long are not trusted: routers forget them."""
KEPT_CONNECTIONS = 4
_TICK_SECONDS = 0.05
_PAUSES = (0.0, 0.1, 0.2, 0.5, 1.0)

_ALWAYS: dict[str, Any] = {"fallback_application_name": "afk", "client_encoding": "UTF8"}
_UNLESS_GIVEN: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up on a server which does not answer for `reply_seconds`."""

    reply_seconds = REPLY_SECONDS

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            state = next(gen)
            heard = time.monotonic()
            while True:
                ready = yield state
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.reply_seconds:
                    raise NoReplyError(f"no reply for {self.reply_seconds:g} s")
                state = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class _Idle(NamedTuple):
    connection: WatchedConnection
    since: float


class Connections:
    """The connections of one store in one process; any operating-system thread may use it.

    Args:
        url: a connection string of libpq, or "".
        wait_timeout: seconds that a call waits for a server that is away.

    Raises:
        StoreError: the string is not one of libpq.
    """

    def __init__(self, url: str, wait_timeout: float) -> None:
        self._wait_timeout = wait_timeout
        self._waits = threading.local()
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._pid = os.getpid()
        self._has_connected = False
        with store_errors("the connection string of PostgreSQL (AFK_DATABASE_URL, or url in [stores.postgres])"):
            given = conninfo_to_dict(url)
        for name in ("password", "sslpassword"):  # not the user, whose name may be that of the host or of the database
            secret = str(given.get(name) or "")
            keep_secret([secret, quote(secret), quote(secret, safe="")])
        unless = {} if _leaves_to_libpq(given) else _UNLESS_GIVEN
        self._arguments: dict[str, Any] = {**_ALWAYS, **unless, **given}
        self.where = _where(given)

    def use(self, work: Callable[[WatchedConnection, bool], T], *, reply_seconds: float | None = None) -> T:
        """Return what `work` returns for a connection; it is called again if the connection is lost.

        Args:
            work: takes a connection without a transaction, and whether an earlier call may have been carried out
                although it failed. It ends its own transaction.
            reply_seconds: how long the server may be silent; None for `REPLY_SECONDS`.

        Raises:
            StoreError: the server is away for too long, or refuses the work.
        """
        with store_errors(self.where):
            return self._use(work, REPLY_SECONDS if reply_seconds is None else reply_seconds)

    def _use(self, work: Callable[[WatchedConnection, bool], T], reply_seconds: float) -> T:
        deadline = time.monotonic() + self._wait_timeout
        tries = 0
        while True:
            connection: WatchedConnection | None = None
            try:
                connection = self._take()
                connection.reply_seconds = reply_seconds
                result = work(connection, tries > 0)
            except psycopg.Error as error:
                self._put_away(connection, error)
                if not self._is_worth_another_try(error, connection, deadline):
                    raise
                self._pause(tries, error, deadline)
                tries += 1
            except BaseException:
                self._put_away(connection, None)
                raise
            else:
                self._keep(connection)
                return result

    def _is_worth_another_try(
        self, error: psycopg.Error, connection: WatchedConnection | None, deadline: float
    ) -> bool:
        if getattr(self._waits, "is_waiting", False) or time.monotonic() >= deadline:
            return False
        if connection is None and not self._has_connected:
            return is_starting(error)  # else a wrong address would be waited for
        return is_passing(error)

    def _pause(self, tries: int, error: psycopg.Error, deadline: float) -> None:
        """Wait before the next try, while the other runs of this process go on; say so if it takes long."""
        now = time.monotonic()
        if tries == 0:
            self._waits.since = now
            self._waits.has_said = False
        until = min(deadline, now + _PAUSES[min(tries, len(_PAUSES) - 1)] * random.uniform(0.8, 1.2))  # noqa: S311
        self._waits.is_waiting = True
        try:
            while True:
                while_waiting()
                if not self._waits.has_said and time.monotonic() - self._waits.since >= 1:
                    self._waits.has_said = True
                    left = max(0.0, deadline - time.monotonic())
                    say_waiting(f"{as_store_error(error, self.where)}; waiting up to {left:.0f} s")
                if time.monotonic() >= until:
                    return
                time.sleep(_TICK_SECONDS)
        finally:
            self._waits.is_waiting = False

    def _take(self) -> WatchedConnection:
        if getattr(self._waits, "is_waiting", False):
            raise NoReplyError("the server is away")  # what is journaled meanwhile is due again
        with self._lock:
            if self._pid != os.getpid():  # forked: the connections belong to the other process
                self._idle, self._pid = [], os.getpid()
            while self._idle:
                connection, since = self._idle.pop()
                if not connection.closed and time.monotonic() - since < KEPT_SECONDS:
                    return connection
                with suppress(psycopg.Error):
                    connection.close()
        connection = WatchedConnection.connect(autocommit=True, prepare_threshold=None, **self._arguments)
        self._has_connected = True
        return connection

    def _keep(self, connection: WatchedConnection) -> None:
        with self._lock:
            if len(self._idle) < KEPT_CONNECTIONS and self._pid == os.getpid() and not connection.closed:
                self._idle.append(_Idle(connection, time.monotonic()))
                return
        with suppress(psycopg.Error):
            connection.close()

    def _put_away(self, connection: WatchedConnection | None, error: psycopg.Error | None) -> None:
        """Keep a connection after a failure if it is sound, else close it, and the idle ones, which are as old."""
        if connection is None:
            return
        try:
            if error is None or not is_lost(error):
                connection.execute("ROLLBACK")
                self._keep(connection)
                return
        except psycopg.Error:
            pass
        with suppress(psycopg.Error):
            connection.close()
        self.close()

    def close(self) -> None:
        """Close the connections that no call uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            if self._pid == os.getpid():
                with suppress(psycopg.Error):
                    connection.close()


def _leaves_to_libpq(given: dict[str, Any]) -> bool:
    """Return whether a service file or a variable of libpq may say how long to wait, which an argument would hide."""
    variables = ("PGSERVICE", "PGCONNECT_TIMEOUT")
    return "service" in given or any(name in os.environ for name in variables)


def _where(given: dict[str, Any]) -> str:
    """Return what messages call the server: no part of it is secret."""
    host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
    at = f" at {host}{':' if port else ''}{port}" if host else ""
    return f"PostgreSQL{at}{f', database {database}' if database else ''}"

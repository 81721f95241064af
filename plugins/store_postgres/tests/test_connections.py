"""The connections of the store: a server that is away, a network that is silent, a process that is forked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from afk_store_postgres import connections, unit
from afk_store_postgres.connections import WatchedConnection
from afk_store_postgres.problems import as_store_error, is_lost, is_passing, is_starting
from afk_store_postgres.store import PostgresStore
from psycopg import errors

from afkcli.core.contract import waiting
from afkcli.plugin import StoreError
from afkcli.testing.store_steps import acquired, asked, digest, save, save_turn, with_journal, with_seal
from tests.faults.proxy import CuttableProxy
from tests.postgres_server import PostgresServer

Open = Callable[[], PostgresStore]


class Waiter:
    """Notes what a store does while it waits on this thread."""

    def __init__(self) -> None:
        self.ticks = 0
        self.said: list[str] = []
        self.on_tick: Callable[[], object] = lambda: None

    def while_waiting(self) -> bool:
        self.ticks += 1
        self.on_tick()
        return False

    def say_waiting(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    found = Waiter()
    waiting.on_waiting(found)
    yield found
    del waiting._thread.waiting


@pytest.fixture
def stopped(server: PostgresServer, store: PostgresStore) -> Iterator[PostgresStore]:
    """A store whose server has just lost its power; it is started again after the test."""
    store.add("turns", 1)
    server.stop_at_once()
    yield store
    server.start()


def test_a_call_waits_for_the_server_and_other_runs_go_on(
    stopped: PostgresStore, server: PostgresServer, waiter: Waiter
) -> None:
    def after_some_ticks() -> None:
        if waiter.ticks == 30:
            server.start()

    waiter.on_tick = after_some_ticks
    assert stopped.add("turns", 1) == 2
    assert waiter.ticks >= 30
    (line,) = waiter.said
    assert line.startswith("PostgreSQL at ")
    assert "cannot be reached" in line
    assert "waiting up to" in line


def test_a_call_gives_up_after_the_time_that_is_set(stopped: PostgresStore, waiter: Waiter) -> None:
    stopped._connections._wait_timeout = 0.3
    with pytest.raises(StoreError, match=r"cannot be reached .*check that the server runs"):
        stopped.add("turns", 1)
    assert waiter.ticks > 1


def test_a_call_that_no_one_wants_any_more_ends(stopped: PostgresStore, waiter: Waiter) -> None:
    def give_up() -> None:
        raise StoreError("the call was given up while it waited")

    waiter.on_tick = give_up
    with pytest.raises(StoreError, match="given up"):
        stopped.add("turns", 1)


def test_what_is_due_meanwhile_fails_at_once_and_is_due_again(
    stopped: PostgresStore, server: PostgresServer, waiter: Waiter
) -> None:
    failures: list[str] = []

    def write_what_is_due() -> None:
        try:
            stopped.add("other", 1)
        except StoreError as error:
            failures.append(str(error))
        if waiter.ticks == 3:
            server.start()

    waiter.on_tick = write_what_is_due
    assert stopped.add("turns", 1) == 2
    assert len(failures) == waiter.ticks
    assert "the server is away" in failures[0]
    waiter.on_tick = lambda: None
    assert stopped.add("other", 1) == 1


def test_a_wrong_address_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, waiter: Waiter) -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        PostgresStore("postgresql://127.0.0.1:1/db", wait_timeout=3600)
    assert waiter.ticks == 0


def test_a_network_that_forwards_nothing_any_more_counts_as_lost(
    server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch, waiter: Waiter
) -> None:
    monkeypatch.setattr(connections, "REPLY_SECONDS", 0.5)
    monkeypatch.setattr(connections, "_UNLESS_GIVEN", {"connect_timeout": 2})
    with CuttableProxy(f"{server.socket_folder}/.s.PGSQL.5432") as proxy:
        store = PostgresStore(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", schema=schema)
        lease = asked(store)
        proxy.cut()
        waiter.on_tick = proxy.mend
        lease = save(store, lease, with_journal(lease.thread, "text"))
        assert waiter.ticks >= 1
        store._connections._wait_timeout = 0.0
        proxy.cut()
        with pytest.raises(StoreError, match=r"cannot be reached \(no reply for 0.5 s\)"):
            save(store, lease, with_journal(lease.thread, "more"))
        store._connections._wait_timeout = 20
        proxy.mend()
        proxy.cut()
        lease = save(store, lease, with_seal(lease.thread, []))
        assert store.find("t-42") == lease.thread
        store.close()


def test_the_driver_writes_nothing_to_stderr(server: PostgresServer, schema: str) -> None:
    code = (
        "import logging, sys; from afk_store_postgres.store import PostgresStore;"
        "store = PostgresStore(sys.argv[1], schema=sys.argv[2]); logging.getLogger('psycopg').warning('a warning')"
    )
    command = [sys.executable, "-c", code, server.url(), schema]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_large_attachment_may_take_longer_to_send_than_a_reply(
    server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch, waiter: Waiter
) -> None:
    monkeypatch.setattr(unit, "SLOWEST_BYTES", 1000)
    monkeypatch.setattr(unit, "REPLY_SECONDS", 0.05)
    monkeypatch.setattr(connections, "REPLY_SECONDS", 0.5)
    data = b"x" * 100_000
    with CuttableProxy(f"{server.socket_folder}/.s.PGSQL.5432", pause=0.8) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        store = PostgresStore(url, schema=schema)
        lease = asked(store)
        save(store, lease, with_journal(lease.thread, "text"), {digest(data): data})
        assert waiter.ticks == 0
        assert store.content(lease.thread.key, digest(data)) == data
        store.close()


def test_connections_are_used_again(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    real = WatchedConnection.connect

    def connect(*arguments: object, **options: object) -> WatchedConnection:
        made.append(options)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(WatchedConnection, "connect", connect)
    save_turn(store, acquired(store), "question", "answer")
    store.add("turns", 1)
    assert made == []
    threads = [threading.Thread(target=lambda: [store.add("turns", 1) for _ in range(5)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) <= 3
    assert store.add("turns", 0) == 16


def test_a_call_leaves_nothing_in_its_session(store: PostgresStore) -> None:
    """So that a pooler may give each transaction another session."""
    lease = save_turn(store, acquired(store), "question", "answer")
    store.add("turns", 1)
    assert len(store.list(search="answer")) == 1
    store.delete(lease)
    left = store._read(
        lambda connection: connection.execute(
            "SELECT name FROM pg_settings WHERE source = 'session'"
            " UNION ALL SELECT name FROM pg_prepared_statements"
            " UNION ALL SELECT locktype FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            " UNION ALL SELECT relname::text FROM pg_class WHERE relpersistence = 't'"
        ).fetchall()
    )
    assert left == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_forked_process_makes_connections_of_its_own(store: PostgresStore) -> None:
    store.add("turns", 1)
    child = os.fork()
    if child == 0:
        try:
            done = store.add("turns", 1) == 2
            store.close()
        finally:
            os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.add("turns", 1) == 3


def test_a_transaction_of_a_dead_host_gives_its_locks_back(
    store: PostgresStore, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = asked(store)
    stuck = server.connect()
    stuck.execute("BEGIN")
    stuck.execute("SET LOCAL idle_in_transaction_session_timeout = 300")  # as the store sets it, to 10 s
    stuck.execute(f"SELECT * FROM {schema}.thread FOR UPDATE".encode())
    save(store, lease, with_journal(lease.thread, "text"))
    stuck.close()


@pytest.mark.parametrize(
    ("error", "passing", "lost"),
    [
        (errors.AdminShutdown(), True, True),
        (errors.CrashShutdown(), True, True),
        (errors.ConnectionFailure(), True, True),
        (errors.DeadlockDetected(), True, False),
        (errors.SerializationFailure(), True, False),
        (errors.LockNotAvailable(), True, False),
        (errors.QueryCanceled(), False, False),
        (errors.InsufficientPrivilege(), False, False),
        (errors.DiskFull(), False, False),
        (errors.UndefinedTable(), False, False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, True),
    ],
)
def test_only_what_may_pass_is_tried_again(error: psycopg.Error, passing: bool, lost: bool) -> None:
    assert (is_passing(error), is_lost(error)) == (passing, lost)


@pytest.mark.parametrize(
    ("text", "starting"),
    [
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  the database system is shutting down", True),
        ("FATAL:  the database system is in recovery mode", True),
        ("FATAL:  sorry, too many clients already", True),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", True),
        ('FATAL:  password authentication failed for user "afk"', False),
        ('FATAL:  database "threads" does not exist', False),
        ("connection refused", False),
    ],
)
def test_a_server_that_will_soon_take_connections_is_waited_for_at_the_start(text: str, starting: bool) -> None:
    assert is_starting(psycopg.OperationalError(text)) == starting


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.DiskFull("no space"), "has no room left: nothing was written (no space); free some space there"),
        (errors.ReadOnlySqlTransaction("x"), "is read-only (x); connect to the primary server"),
        (errors.InsufficientPrivilege("x"), "docs/how-to/postgres.md"),
        (errors.ProgramLimitExceeded("x"), "too large"),
        (psycopg.OperationalError("SSL error: certificate verify failed"), "is not trusted"),
        (psycopg.OperationalError("SSL error: unexpected eof while reading"), "cannot be reached"),
        (psycopg.OperationalError("SSL SYSCALL error: EOF detected"), "cannot be reached"),
        (MemoryError(), "not enough memory"),
        (ValueError("two\nlines"), "failed (ValueError: two lines)"),
    ],
)
def test_an_error_is_one_line_with_the_next_step(error: Exception, said: str) -> None:
    line = str(as_store_error(error, "PostgreSQL at db"))
    assert said in line
    assert "\n" not in line


def test_the_plugin_is_light_until_the_store_is_selected() -> None:
    code = "import afk_store_postgres, sys; print([name for name in sys.modules if 'psycopg' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

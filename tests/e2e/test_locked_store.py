"""Another program holds the write lock of the database: a run says so, waits, and its turn is in its thread."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Shell

WAITS = "threads.db is locked by another process; waiting up to 60 s"


@contextmanager
def locked(shell: Shell) -> Iterator[sqlite3.Connection]:
    """Hold the write lock as `sqlite3 threads.db "BEGIN IMMEDIATE"` does."""
    holder = sqlite3.connect(shell.home / "afk" / "data" / "threads.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield holder
    finally:
        if holder.in_transaction:
            holder.execute("ROLLBACK")
        holder.close()


@pytest.fixture
def used(keyed: Shell, server: ModelServer) -> Shell:
    """A shell with a thread `t`."""
    server.script(Step(text="one"))
    assert keyed.afk("run", "-t", "t", "first").code == 0
    return keyed


def questions(shell: Shell) -> list[str]:
    """Return the questions of the turns that are sealed in the thread `t`."""
    lines = [json.loads(line) for line in shell.afk("threads", "export", "t").out.splitlines()]
    seals = [json.loads(line["body"]) for line in lines if line.get("kind") == "seal"]
    return [seal["messages"][0]["parts"][0]["text"] for seal in seals]


def test_a_run_that_starts_while_the_store_is_locked_says_so_and_is_saved(used: Shell, server: ModelServer) -> None:
    server.script(Step(text="two"))
    with locked(used):
        process = used.start("run", "-t", "t", "second")
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert said.startswith("afk: ")
        assert WAITS in said
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (0, b"two\n", b"")
    assert questions(used) == ["first", "second"]


def test_scripts_get_the_wait_before_the_start_as_a_warning(used: Shell, server: ModelServer) -> None:
    server.script(Step(text="two"))
    with locked(used):
        process = used.start("run", "--json", "-t", "t", "second")
        assert process.stderr is not None
        assert WAITS in process.stderr.readline().decode()
    out, _ = process.communicate(timeout=LIMIT)
    events = [json.loads(line) for line in out.splitlines()]
    warnings = [(event["code"], event["message"]) for event in events if event["type"] == "warning"]
    assert [code for code, _ in warnings] == ["store_locked"]
    assert WAITS in warnings[0][1]
    assert events[0]["type"] == "run_started"


def test_a_run_that_ends_while_the_store_is_locked_warns_its_reader_and_is_saved(
    used: Shell, server: ModelServer
) -> None:
    server.script(Step(text=["t", "wo"], fault=Fault.HANG, fault_after=1))
    process = used.start("run", "--json", "-t", "t", "second")
    assert process.stdout is not None
    events = [json.loads(process.stdout.readline())]
    while events[-1]["type"] != "text_delta":
        events.append(json.loads(process.stdout.readline()))
    with locked(used):
        server.release()
        while not (events[-1]["type"] == "warning" and events[-1]["code"] == "store_locked"):
            events.append(json.loads(process.stdout.readline()))
        assert WAITS in events[-1]["message"]
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, b"")
    last = json.loads(out.splitlines()[-1])
    assert (last["type"], last["result"]["saved"]) == ("completed", True)
    assert questions(used) == ["first", "second"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_waits_to_start(used: Shell, server: ModelServer, number: signal.Signals) -> None:
    with locked(used):
        process = used.start("run", "-t", "t", "second")
        assert process.stderr is not None
        assert WAITS in process.stderr.readline().decode()
        process.send_signal(number)
        assert process.wait(LIMIT) == -number
    assert questions(used) == ["first"]
    assert len(server.requests) == 1


def test_threads_are_listed_and_read_while_the_store_is_locked(used: Shell) -> None:
    with locked(used):
        for command in (("threads",), ("threads", "show", "t"), ("threads", "--search", "first")):
            done = used.afk(*command)
            assert (done.code, done.err) == (0, "")


def test_the_time_to_wait_is_a_setting(used: Shell, server: ModelServer, tmp_path: Path) -> None:
    """When it is over, the run answers all the same, and its turn is in a rescue file."""
    server.script(Step(text="two"))
    config = used.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[stores.disk]\nlock_timeout = 0.1\n")
    with locked(used):
        done = used.afk("run", "-t", "t", "second")
    assert (done.code, done.out) == (1, "two\n")
    assert "was locked by another process for 0.1 s; try again; it is kept in " in done.err
    config.write_text("[stores.disk]\nlock_timeout = -1\n")
    done = used.afk("run", "-t", "t", "third")
    assert done.code == 2
    assert "lock_timeout must be a number of seconds from 0 to 3600 (got -1)" in done.err

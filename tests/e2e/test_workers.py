"""What `pytest --warm` does: each home has a worker before its first command, and the commands that ran warm count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from afkcli.worker import place
from afkcli.worker.caller import stat_of
from afkcli.worker.state import read_state
from tests.e2e.shell import AFK, Shell
from tests.e2e.workers import Workers
from tests.worker.warm.conftest import is_so_within, until

SESSION = """
import json, os, signal, sys
from pathlib import Path
from tests.e2e.workers import Workers

program, environment = sys.argv[1:]
workers = Workers(Path(program))
environment = json.loads(environment)
environment |= workers.variables(environment)
workers.wait_for(environment)
print(environment["AFK_WORKER_SOCKET"], flush=True)
signal.pause()
"""
"""Tests that have a worker, until they are ended by a signal."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the worker is for Linux")


@dataclass
class Kept(Shell):
    """A shell with the workers of a test."""

    workers: Workers | None = None

    def environment(self, **extra: str) -> dict[str, str]:
        env = super().environment(**extra)
        assert self.workers is not None
        return {**env, **self.workers.variables(env), **extra}


def reason_of(kept: Kept) -> str:
    """Return why the worker's last command ran cold."""
    state = read_state(kept.environment()[place.SOCKET_VARIABLE])
    return state.reason if state is not None else ""


def served(workers: Workers) -> bool:
    """Return whether a worker says within a moment that it has run the last command."""
    return is_so_within(5, lambda: workers.running() and workers.served)


@pytest.fixture
def kept(keyed: Shell) -> Iterator[Kept]:
    workers = Workers(AFK)
    try:
        yield Kept(home=keyed.home, folder=keyed.folder, env=keyed.env, cold=True, workers=workers)
    finally:
        workers.close()


def test_the_first_command_of_a_home_runs_warm_and_counts(kept: Kept, server: ModelServer) -> None:
    server.script(Step(text="Hello."))
    workers = kept.workers
    assert workers is not None
    env = kept.environment()

    commands = 0
    while commands < 5:  # it runs cold where the worker does not answer within a second: the machine is busy
        commands += 1
        workers.wait_for(env)
        ran = kept.afk("run", "-q", "hi")
        assert (ran.code, ran.out) == (0, "Hello.\n")
        if served(workers):
            break
    workers.stop()

    assert (workers.served, workers.commands) == (1, commands)
    assert not place.is_held(env[place.SOCKET_VARIABLE])


def test_what_runs_cold_does_not_count_and_the_reason_is_kept(kept: Kept) -> None:
    workers = kept.workers
    assert workers is not None
    workers.wait_for(kept.environment())

    assert kept.afk("plugins").code == 0
    until(lambda: reason_of(kept), "the reason")
    workers.stop()

    assert (workers.served, workers.commands) == (0, 1)
    assert dict(workers.reasons) == {"`afk plugins` runs cold": 1}


def test_a_config_that_was_written_since_is_that_of_another_worker(kept: Kept, server: ModelServer) -> None:
    workers = kept.workers
    assert workers is not None
    workers.wait_for(kept.environment())
    config = kept.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('instructions = "Be kind."\n')

    for _ in range(5):
        workers.wait_for(kept.environment())
        ran = kept.afk("run", "-q", "hi")
        assert ran.code == 0
        if served(workers):
            break
    workers.stop()

    assert "Be kind." in str(server.bodies[-1]["messages"])
    assert workers.served == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_ends_when_the_tests_are_ended_by_a_signal(kept: Kept, number: int) -> None:
    environment = {**kept.environment(), place.SOCKET_VARIABLE: ""}
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, str(AFK), json.dumps(environment)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "AFK_WORKER": "off"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        address = tests.stdout.readline().strip()
        state = read_state(address)
        assert state is not None

        tests.send_signal(number)

    until(lambda: stat_of(state.pid)[:1] in ([], ["Z"]), "the end of the worker")
    until(lambda: not Path(address).parents[1].exists(), "the end of its folder")

"""What `pytest --warm` does: each home has a worker before its first command, and the commands that ran warm count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from afkcli.worker import place
from tests.e2e.shell import AFK, Shell
from tests.e2e.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the worker is for Linux")


@dataclass
class Kept(Shell):
    """A shell with the workers of a test."""

    workers: Workers | None = None

    def environment(self, **extra: str) -> dict[str, str]:
        env = super().environment(**extra)
        assert self.workers is not None
        return {**env, **self.workers.variables(env), **extra}


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

    workers.wait_for(env)
    ran = kept.afk("run", "-q", "hi")
    workers.stop()

    assert (ran.code, ran.out) == (0, "Hello.\n")
    assert (workers.served, workers.commands) == (1, 1)
    assert not place.is_held(env[place.SOCKET_VARIABLE])


def test_what_runs_cold_does_not_count_and_the_reason_is_kept(kept: Kept) -> None:
    workers = kept.workers
    assert workers is not None
    workers.wait_for(kept.environment())

    assert kept.afk("plugins").code == 0
    workers.stop()

    assert (workers.served, workers.commands) == (0, 1)
    assert dict(workers.reasons) == {"`afk plugins` runs cold": 1}

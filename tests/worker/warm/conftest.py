"""A shell whose commands run warm where they may: real processes, and a worker of its own for the tests of a file."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from afkcli.testing.model_server import ModelServer
from afkcli.worker import place
from afkcli.worker.state import State, read_state
from tests.e2e.shell import AFK, LIMIT, Finished, Shell
from tests.worker.warm.processes import children_of, has_ended, processes_of, with_key

collect_ignore_glob = [] if sys.platform == "linux" else ["*"]


def until(is_so: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    assert is_so_within(LIMIT, is_so), f"not within {LIMIT} s: {what}"


def is_so_within(seconds: float, is_so: Callable[[], object]) -> bool:
    """Wait until something is so; return False if it is not in time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


Ran = TypeVar("Ran")


@dataclass
class WarmShell(Shell):
    """A shell with a folder for sockets, in which the test starts and ends workers."""

    runtime: Path = Path()

    def environment(self, **extra: str) -> dict[str, str]:
        on = {"AFK_WORKER": "on", "XDG_RUNTIME_DIR": str(self.runtime)}
        env = {**super().environment(), **on, **self.env, **extra}
        env.pop(place.SOCKET_VARIABLE, None)  # of the option `--warm`
        return env

    @property
    def address(self) -> str:
        """The socket of the worker."""
        found = place.socket_path(self.environment(), str(AFK))
        assert found is not None
        return found

    @property
    def worker(self) -> State | None:
        """What the worker tells of itself; None if there is none."""
        return read_state(self.address)

    @property
    def served(self) -> int:
        """How many commands were run warm."""
        state = self.worker
        return state.served if state is not None else 0

    def warm_up(self) -> State:
        """Run a command, and wait for the worker that it starts; return what that one tells of itself."""
        for _ in range(5):
            state = self.worker
            if state is not None and Path(self.address).is_socket():
                return state
            assert self.afk("run", "-n", "-q", "--no-memory", "warm up").code == 0
            is_so_within(20, lambda: self.worker and Path(self.address).is_socket())
        raise AssertionError("no worker was started")

    def warm(self, call: Callable[[], Ran]) -> Ran:
        """Return what a call returns that runs one command; it is called again where the command ran cold.

        It does where the worker does not answer within a second: the machine is busy.
        """
        for _ in range(5):
            self.warm_up()
            served = self.served
            ran = call()
            if is_so_within(5, lambda served=served: self.served > served):  # type: ignore[misc]
                return ran
        raise AssertionError(f"the command runs cold: {self.worker}")

    def left_behind(self) -> set[int]:
        """Return the processes of this shell that are neither its worker nor the child that stands by."""
        state = self.worker
        kept = {state.pid, *standing_by(state.pid)} if state is not None else set()
        return processes_of(self.runtime) - kept

    def stop_worker(self) -> None:
        """End the worker, and wait until it has gone."""
        with contextlib.suppress(FileNotFoundError):
            for address in place.held(str(self.runtime / "afk")):
                until(lambda address=address: self._is_ended(address), "the end of the worker")  # type: ignore[misc]

    @staticmethod
    def _is_ended(address: str) -> bool:
        """Return whether there is no worker; end one that is ready."""
        state = read_state(address)
        if state is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)
        return not place.is_held(address)


def standing_by(pid: int) -> list[int]:
    """Return the child of a worker that has taken no command and runs: it is in the worker's process group."""
    found = []
    for child in children_of(pid):
        with contextlib.suppress(ProcessLookupError):
            found += [child] if os.getpgid(child) == os.getpgid(pid) and not has_ended(child) else []
    return found


def warm_shell(folder: Path, server: ModelServer) -> Iterator[WarmShell]:
    """Give a shell whose model is the server's, and end its worker."""
    for name in ("home", "work"):
        (folder / name).mkdir()
    with tempfile.TemporaryDirectory(prefix="afk-run-") as runtime:  # the path of a socket has at most 107 bytes
        shell = WarmShell(home=folder / "home", folder=folder / "work", cold=True, runtime=Path(runtime))
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        shell.env.update(AFK_MODEL="openai/gpt-5.2-mini")
        try:
            yield shell
        finally:
            shell.stop_worker()
            until(lambda: not processes_of(shell.runtime), "the end of all processes")


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test no process is left but a worker and its child, and no process has the key."""
    shells = [request.getfixturevalue(name) for name in ("shell", "fresh") if name in request.fixturenames]
    yield
    for one in shells:
        until(lambda one=one: not one.left_behind(), "the end of all processes of the test")  # type: ignore[misc]
        assert not with_key(processes_of(one.runtime))


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as model_server:
        yield model_server


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, server: ModelServer) -> Iterator[WarmShell]:
    """A shell whose worker all tests of a file share."""
    yield from warm_shell(tmp_path_factory.mktemp("warm"), server)


@pytest.fixture
def fresh(tmp_path: Path, server: ModelServer) -> Iterator[WarmShell]:
    """A shell of a test that changes or ends the worker."""
    yield from warm_shell(tmp_path, server)


@dataclass
class Both:
    """One command cold and warm."""

    cold: Finished
    warm: Finished


@pytest.fixture
def both(shell: WarmShell) -> Callable[..., Both]:
    """What runs a command cold and then warm, and fails if the second one did not run warm."""

    def run(*arguments: str, stdin: bytes | None = None, **env: str) -> Both:
        shell.warm_up()
        cold = shell.afk(*arguments, stdin=stdin, **{**env, "AFK_WORKER": "off"})
        return Both(cold=cold, warm=shell.warm(lambda: shell.afk(*arguments, stdin=stdin, **env)))

    return run

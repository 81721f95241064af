"""A world for one case: a clean home, a scripted server, and runs of the installed `afk` as real processes."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from afkcli.testing.model_script import Step
from tests.e2e import workers
from tests.e2e.shell import AFK, LIMIT, Finished, Shell
from tests.e2e.warm import start
from tests.faults.server import StampingServer

PLUGINS = Path(__file__).parent / "plugins"
KEY = "sk-canary-0123456789"


@dataclass(slots=True)
class Running:
    """One `afk run --json` of one message on one thread; what it writes goes to files."""

    thread: str
    message: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    killed_at: float | None = None
    disturbed: list[str] = field(default_factory=list)

    def send(self, number: int) -> None:
        """Send a signal, if the process is still there; a SIGKILL is remembered with its time."""
        if self.process.poll() is not None:
            return
        if number == signal.SIGKILL:
            self.killed_at = time.time()
        self.disturbed.append(signal.Signals(number).name)
        self.process.send_signal(number)

    def wait(self, seconds: float = LIMIT) -> int:
        """Wait for the end, `seconds` at most, and return the exit code (-N for a signal N)."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.disturbed.append(f"hung for {seconds} s")
            return self.process.wait()

    @property
    def stderr(self) -> str:
        return self.err.read_text("utf-8", "replace")

    def events(self) -> list[dict[str, Any]]:
        """Return the events on stdout; a last line that was cut by a kill is left out."""
        events = []
        for line in self.out.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
        return events


@dataclass(slots=True)
class World:
    """A clean home and a server; `seed` makes its chances repeatable."""

    root: Path
    server: StampingServer
    seed: str
    shell: Shell
    runs: list[Running] = field(default_factory=list)

    def chance(self, *what: object) -> Random:
        """Return random numbers that are the same for the same seed and the same `what`."""
        return Random("/".join(map(str, (self.seed, *what))))

    def start(
        self,
        thread: str,
        message: str,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        **options: Any,
    ) -> Running:
        """Start `afk run --json -t THREAD MESSAGE`; `before` is put before it, as `nice` would be."""
        number = len(self.runs)
        out, err = self.root / f"{number}.{message}.out", self.root / f"{number}.{message}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = start(
                [*before, AFK, "run", "--json", "-t", thread, *arguments, message],
                cwd=self.shell.folder,
                env=self.shell.environment(**(env or {})),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                **options,
            )
        running = Running(thread, message, process, out, err)
        self.runs.append(running)
        return running

    def run(self, thread: str, message: str, arguments: Sequence[str] = (), **env: str) -> Running:
        """Run a message to its end."""
        running = self.start(thread, message, arguments, env)
        running.wait()
        return running

    def afk(self, *arguments: str) -> Finished:
        return self.shell.afk(*arguments)

    def asked(self, running: Running) -> bool:
        """Wait until the model was asked for `running`, or it has ended; return whether it was asked."""
        wait_until(lambda: self.server.requests_of(running.message) or running.process.poll() is not None)
        return bool(self.server.requests_of(running.message))

    def rest(self) -> None:
        """Kill what still runs, as after a failure in the middle of a case."""
        for running in self.runs:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()


@contextlib.contextmanager
def new_world(seed: str, *steps: Step) -> Iterator[World]:
    """Make a world, and leave nothing of it behind."""
    with tempfile.TemporaryDirectory(prefix="afk-faults-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        for folder in ("home", "work", "runs", "tmp"):
            (root / folder).mkdir()
        with StampingServer(steps) as server:
            shell = Shell(home=root / "home", folder=root / "work")
            shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY=KEY, AFK_MODEL="gpt-5.2-mini")
            shell.env.update(TMPDIR=str(root / "tmp"))
            world = World(root / "runs", server, seed, shell)
            try:
                yield world
            finally:
                world.rest()
                workers.stop(root)


NewWorld = Callable[..., contextlib.AbstractContextManager[World]]
"""What makes a world, as `new_world` does."""


def faulty_store(
    *,
    lease: float | None = None,
    kill_at: int | None = None,
    stop_at_commit: int | None = None,
    points: Path | None = None,
) -> dict[str, str]:
    """Return the environment that makes `plugins/faulty_store.py` the store; add `with_faulty_store` to the arguments.

    Args:
        lease: seconds that a lease lasts; renewed every quarter of that.
        kill_at: the number of the point between the store's own writes at which the process kills itself.
        stop_at_commit: the number of the commit before which the process stops itself (SIGSTOP), with the write lock.
        points: a file to which the name of every such point is appended.
    """
    env = {"AFK_STORE": "faulty_store"}
    if lease is not None:
        env["AFK_TEST_LEASE"] = str(lease)
    if kill_at is not None:
        env["AFK_TEST_KILL_AT"] = str(kill_at)
    if stop_at_commit is not None:
        env["AFK_TEST_STOP_AT_COMMIT"] = str(stop_at_commit)
    if points is not None:
        env["AFK_TEST_POINTS"] = str(points)
    return env


WITH_FAULTY_STORE = ("--plugin", str(PLUGINS / "faulty_store.py"))


def wait_until(met: Callable[[], object], seconds: float = LIMIT) -> bool:
    """Wait until `met` returns something true, and return whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if met():
            return True
        time.sleep(0.005)
    return False

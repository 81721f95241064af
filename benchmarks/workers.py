"""A warm worker of its own for each side that a case measures, and the moment when it has no work."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench, Side
from benchmarks.measure import Measured, ProgramFailedError
from benchmarks.memory import family
from benchmarks.server import cpu_seconds

READY_SECONDS, IDLE_SECONDS = 60, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The worker of a home of its own, which one provider uses: the `afk` that is called there, and its environment."""

    afk: Path
    env: dict[str, str]
    model: str

    @classmethod
    def make(cls, bench: Bench, name: str, afk: Path, model: str) -> Worker:
        env = bench.home(name)
        folder = Path(env["HOME"]) / "run"
        folder.mkdir(0o700)
        return cls(
            afk=afk, env={**env, "AFK_WORKER": "on", "AFK_WORKER_SOCKET": str(folder / "worker.sock")}, model=model
        )

    def turn(self, bench: Bench, thread: str = "bench") -> Side:
        """Return the call that measures a turn; its CPU time is that of the client and of the child that stood by."""
        side = bench.side([self.afk, "run", "-n", "-t", thread, "-m", self.model, "hi"], self.env)

        def measured() -> Measured:
            children = family(self.pid)[1:] if self.pid else []
            bench.server.beside = {child: cpu_seconds(child) for child in children}
            try:
                return side()
            finally:
                bench.server.beside = {}

        return measured

    def state(self) -> dict[str, object]:
        """Return what the worker tells of itself; empty while there is none."""
        with suppress(OSError, ValueError):
            state: dict[str, object] = json.loads(Path(f"{self.env['AFK_WORKER_SOCKET']}.lock").read_text())
            return state
        return {}

    @property
    def pid(self) -> int:
        return int(str(self.state().get("pid", 0)))

    @property
    def served(self) -> int:
        return int(str(self.state().get("served", 0)))

    def told_cold(self, before: int, turns: int) -> str:
        """Return how many of so many turns ran cold, and why; empty where all were warm.

        Args:
            before: `served` before the first of them.
            turns: their number.
        """
        cold = turns - (self.served - before)
        return f"{cold} of its turns ran cold: {self.state().get('reason')}" if cold > 0 else ""

    def make_warm(self, bench: Bench) -> None:
        """Start the worker by a cold turn; return after a warm one.

        Raises:
            ProgramFailedError: none gets warm.
        """
        deadline = time.monotonic() + READY_SECONDS
        turn = self.turn(bench)
        while self.served == 0:
            turn()
            if time.monotonic() > deadline:
                raise ProgramFailedError(f"no worker: {self.state().get('reason', 'none was started')}")
            time.sleep(0.5)

    def stop(self) -> None:
        """End the worker, and wait until it and its child have gone: they write into the home."""
        pid = self.pid
        if not pid:
            return
        processes = family(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + READY_SECONDS
        while any(Path(f"/proc/{one}").exists() for one in processes) and time.monotonic() < deadline:
            time.sleep(IDLE_SECONDS)


def after_work(workers: Iterable[Worker], side: Side) -> Side:
    """Return the call of a side that waits until all workers are idle: behind a run they prepare the next child."""

    def measured() -> Measured:
        deadline = time.monotonic() + READY_SECONDS
        spent = -1.0
        while time.monotonic() < deadline:
            now = sum(cpu_seconds(pid) for worker in workers if worker.pid for pid in family(worker.pid))
            if now == spent:
                break
            spent = now
            time.sleep(IDLE_SECONDS)
        return side()

    return measured

"""The start with a warm worker: from exec to the arrival of the request, small commands, and the memory of both."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, ANTHROPIC, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.measure import Measured, ProgramFailedError
from benchmarks.memory import Memory, family, owner
from benchmarks.peers.installing import Installed, native_codex
from benchmarks.report import Row, compare
from benchmarks.server import cpu_seconds

NATIVE_LIMIT, SCRIPT_LIMIT, LIST_LIMIT, RUN_MEMORY, IDLE_MEMORY = 0.2, 0.4, 0.6, 0.5, 1.5
SCRIPT = "http.client script"
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

    def turn(self, bench: Bench) -> Callable[[], Measured]:
        """Return the call that measures a turn; its CPU time is that of the client and of the child that stood by."""
        side = bench.side([self.afk, "run", "-n", "-t", "bench", "-m", self.model, "hi"], self.env)

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


@benchmark("warm", peers=("codex", "llm", "litellm"))
def warm_start(bench: Bench) -> list[Row]:
    """From exec to the arrival of the request, memory and log on; `afk threads`; the memory of a run and a worker."""
    bench.server.answer = answer(1)
    workers = _workers(bench)
    try:
        for worker in workers.values():
            worker.make_warm(bench)
        return [*_starts(bench, workers), *_memory(bench, workers["openai"])]
    finally:
        for worker in workers.values():
            worker.stop()


def _workers(bench: Bench) -> dict[str, Worker]:
    workers = {
        "openai": Worker.make(bench, "openai", AFK, MODEL),
        "anthropic": Worker.make(bench, "anthropic", AFK, ANTHROPIC),
    }
    litellm = bench.peers.get("litellm")
    if isinstance(litellm, Installed):
        afk = litellm.program.with_name("afk")
        workers["litellm"] = Worker.make(bench, "litellm", afk, f"litellm/openai/{MODEL}")
    return workers


def _starts(bench: Bench, workers: Mapping[str, Worker]) -> list[Row]:
    env = bench.home("others")
    sides = {name: worker.turn(bench) for name, worker in workers.items()}
    sides["threads"] = bench.side([AFK, "threads"], workers["openai"].env, requests=False)
    sides["script"] = bench.side([PYTHON, PROGRAMS / "stdlib_turn.py"], env)
    sides["click"] = bench.side([PYTHON, "-c", "import click"], env, requests=False)
    codex = bench.peers.get("codex", "left out")
    native = native_codex(codex) if isinstance(codex, Installed) else codex
    others = replace(bench, peers={**bench.peers, "codex": native})
    sides |= others.peer_sides(env, ["codex"])
    before = {name: worker.served for name, worker in workers.items()}
    results = bench.interleave({name: _after_work(workers.values(), side) for name, side in sides.items()})
    took = {name: ms(values) for name, values in figures(results, attrgetter("to_request")).items()}
    cpu = {name: ms(values) for name, values in figures(results, attrgetter("cpu_to_request")).items()}
    wall = {name: ms(values) for name, values in figures(results, attrgetter("wall")).items()}
    rows = []
    for name, worker in workers.items():
        case = f"warm, exec to request, {name}"
        cold = bench.runs + 1 - (worker.served - before[name])
        note = f"{cold} of its turns ran cold: {worker.state().get('reason')}" if cold > 0 else ""
        rows.append(others.against_peer(case, "codex", "ms", took[name], took.get("codex"), goal=NATIVE_LIMIT))
        rows.append(compare(case, SCRIPT, "ms", took[name], took["script"], goal=SCRIPT_LIMIT, note=note))
        rows.append(others.against_peer(f"{case}, CPU", "codex", "ms", cpu[name], cpu.get("codex")))
        rows.append(compare(f"{case}, CPU", SCRIPT, "ms", cpu[name], cpu["script"]))
    if "litellm" not in workers:
        reason = str(bench.peers.get("litellm", "left out"))
        rows.append(
            Row(case="warm, exec to request, litellm", against=SCRIPT, unit="ms", goal=SCRIPT_LIMIT, note=reason)
        )
    base = "python -c import click"
    return [*rows, compare("warm, afk threads", base, "ms", wall["threads"], wall["click"], goal=LIST_LIMIT)]


def _after_work(workers: Iterable[Worker], side: Callable[[], Measured]) -> Callable[[], Measured]:
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


def _memory(bench: Bench, worker: Worker) -> list[Row]:
    """Compare memory at the arrival of the request: client and child together, and an idle worker and its child."""
    env = bench.home("memory")
    seen: list[Memory] = []

    def look(connection: socket.socket) -> None:
        seen.append(Memory.of(*{bench.server.sender, owner(connection)}))

    sides = {"afk": worker.turn(bench), **bench.peer_sides(env, ["llm"])}
    bench.server.on_request = look
    try:
        memory = _rounds(bench, sides, seen)
    finally:
        bench.server.on_request = None
    idle = [Memory.of(*family(worker.pid)).share / 1e6]
    private = {name: [one.private / 1e6 for one in ones] for name, ones in memory.items()}
    share = [one.share / 1e6 for one in memory["llm"]] if "llm" in memory else None
    return [
        bench.against_peer(
            "warm, private memory at the request", "llm", "MB", private["afk"], private.get("llm"), goal=RUN_MEMORY
        ),
        bench.against_peer(
            "an idle worker and its child, memory",
            "llm",
            "MB",
            idle * (len(share) if share else 1),
            share,
            goal=IDLE_MEMORY,
        ),
    ]


def _rounds(
    bench: Bench, sides: Mapping[str, Callable[[], Measured]], seen: Sequence[Memory]
) -> dict[str, list[Memory]]:
    """Return the memory of each side at its last request, a value a round; the first round does not count."""
    found: dict[str, list[Memory]] = {name: [] for name in sides}
    for number in range(bench.runs + 1):
        for name, side in sides.items():
            side()
            if number:
                found[name].append(seen[-1])
    return found

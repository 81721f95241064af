"""The start with a warm worker: from exec to the arrival of the request, small commands, and the memory of both."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, ANTHROPIC, PROGRAMS, PYTHON, Bench, Side, benchmark, figures, ms
from benchmarks.memory import Memory, family, owner
from benchmarks.peers.installing import Installed, native_codex
from benchmarks.report import Row, compare
from benchmarks.workers import Worker, after_work

NATIVE_LIMIT, SCRIPT_LIMIT, LIST_LIMIT, RUN_MEMORY, IDLE_MEMORY = 0.2, 0.4, 0.6, 0.5, 1.5
SCRIPT = "http.client script"


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
    results = bench.interleave({name: after_work(workers.values(), side) for name, side in sides.items()})
    took = {name: ms(values) for name, values in figures(results, attrgetter("to_request")).items()}
    cpu = {name: ms(values) for name, values in figures(results, attrgetter("cpu_to_request")).items()}
    wall = {name: ms(values) for name, values in figures(results, attrgetter("wall")).items()}
    rows = []
    for name, worker in workers.items():
        case = f"warm, exec to request, {name}"
        note = worker.told_cold(before[name], bench.rounds)
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


def _rounds(bench: Bench, sides: Mapping[str, Side], seen: Sequence[Memory]) -> dict[str, list[Memory]]:
    """Return the memory of each side at its last request, a value a round; the first round does not count."""
    found: dict[str, list[Memory]] = {name: [] for name in sides}
    for number in range(bench.rounds):
        for name, side in sides.items():
            side()
            if number:
                found[name].append(seen[-1])
    return found

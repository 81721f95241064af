"""Many runs in one process."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from benchmarks.answers import answer
from benchmarks.bench import FEW_DELTAS, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.peers.installing import Installed
from benchmarks.report import Row, compare

MANY_RUNS = 200
TURNS, AT_ONCE, WORDS = 400, 50, 20


@benchmark("batch", peers=("openai-agents",))
def batch(bench: Bench) -> list[Row]:
    """Turns a second, from the first request to the end of the process: short turns without delay, 50 at once.

    Memory and log are on; the seals and the end of the process count. The agents of openai-agents keep their
    conversations too.
    """
    bench.server.answer = answer(WORDS)
    env = bench.home("batch")

    def command(python: Path, what: str) -> list[str | Path]:
        return [python, PROGRAMS / "many_runs.py", what, str(TURNS), str(AT_ONCE)]

    sides = {name: bench.side(command(PYTHON, name), env) for name in ("afk", "sdk", "raw")}
    agents = bench.peers.get("openai-agents", "left out")
    if isinstance(agents, Installed):
        sides["openai-agents"] = bench.side(command(agents.program, "openai-agents"), env)
    results = bench.interleave(sides)
    rates = figures(results, lambda one: TURNS / one.after_first)
    cpu = {name: ms(values) for name, values in figures(results, lambda one: one.cpu / TURNS).items()}
    case = f"{TURNS} turns, {AT_ONCE} at once"
    return [
        compare(case, "bare AsyncOpenAI", "/s", rates["afk"], rates["sdk"], goal=1.6, more_is_better=True),
        bench.against_peer(case, "openai-agents", "/s", rates["afk"], rates.get("openai-agents"), more_is_better=True),
        compare(f"{case}, CPU a turn", "bare AsyncOpenAI", "ms", cpu["afk"], cpu["sdk"]),
        bench.against_peer(f"{case}, CPU a turn", "openai-agents", "ms", cpu["afk"], cpu.get("openai-agents")),
        compare(f"the server itself, {case}", "afk", "/s", rates["raw"], rates["afk"], goal=3, more_is_better=True),
    ]


@benchmark("many")
def many_runs(bench: Bench) -> list[Row]:
    """Many runs at once in one process and event loop, memory and log on, against the same calls by the bare SDK."""
    bench.server.answer = answer(FEW_DELTAS)
    env = bench.home("many")
    sides = {
        name: bench.side([PYTHON, PROGRAMS / "many_runs.py", name, str(MANY_RUNS)], env) for name in ("afk", "sdk")
    }
    results = bench.interleave(sides)
    case = f"{MANY_RUNS} runs at once in a process"
    wall, cpu = (figures(results, attrgetter(name)) for name in ("wall", "cpu"))
    peak = figures(results, lambda one: one.peak / 1e6)
    return [
        compare(case, "bare AsyncOpenAI", "ms", ms(wall["afk"]), ms(wall["sdk"])),
        compare(f"{case}, CPU", "bare AsyncOpenAI", "ms", ms(cpu["afk"]), ms(cpu["sdk"])),
        compare(f"{case}, peak memory", "200 MB", "MB", peak["afk"], [200.0] * len(peak["afk"]), goal=1),
    ]

"""Many runs in one process."""

from __future__ import annotations

from operator import attrgetter

from benchmarks.bench import FEW_DELTAS, PROGRAMS, PYTHON, Bench, benchmark, ms
from benchmarks.report import Row, compare
from benchmarks.server import answer

MANY_RUNS = 200
_OF_MANY = (attrgetter("wall"), attrgetter("cpu"))


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
    wall, cpu = ({name: [moment(one) for one in ones] for name, ones in results.items()} for moment in _OF_MANY)
    peak = {name: [one.peak / 1e6 for one in ones] for name, ones in results.items()}
    return [
        compare(case, "bare AsyncOpenAI", "ms", ms(wall["afk"]), ms(wall["sdk"])),
        compare(f"{case}, CPU", "bare AsyncOpenAI", "ms", ms(cpu["afk"]), ms(cpu["sdk"])),
        compare(f"{case}, peak memory", "200 MB", "MB", peak["afk"], [200.0] * len(peak["afk"]), goal=1),
    ]

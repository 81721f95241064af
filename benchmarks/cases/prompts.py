"""`afk batch run`: files of prompts, against a bare loop of calls."""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, Side, benchmark, figures, ms
from benchmarks.measure import RUN_SECONDS, Measured
from benchmarks.report import Row, compare

PROMPTS = int(os.environ.get("BENCH_PROMPTS", "10000"))
BARE, WORDS, AT_ONCE = 1000, 20, 100
_RUNS = itertools.count()


@benchmark("prompts")
def prompts(bench: Bench) -> list[Row]:
    """Prompts a second without delay and CPU a prompt, their state on the disk; and what an answer's time adds."""
    bench.server.answer = answer(WORDS)
    env = bench.home("prompts")
    bare = bench.side([PYTHON, PROGRAMS / "many_runs.py", "sdk", str(BARE), str(AT_ONCE)], env)
    sides = {
        "batch": _batch(bench, env, PROMPTS, AT_ONCE),
        "few": _batch(bench, env, PROMPTS // 10, AT_ONCE),
        "sdk": bare,
    }
    results = bench.interleave(sides)
    numbers = {"batch": PROMPTS, "few": PROMPTS // 10, "sdk": BARE}
    rates = {name: [numbers[name] / one.after_first for one in ones] for name, ones in results.items()}
    cpu = {name: ms([one.cpu / numbers[name] for one in ones]) for name, ones in results.items()}
    peak = figures(results, lambda one: one.peak / 1e6)
    case = f"{PROMPTS:,} prompts, {AT_ONCE} in flight"
    return [
        compare(case, "bare AsyncOpenAI", "/s", rates["batch"], rates["sdk"], goal=1.6, more_is_better=True),
        compare(f"{case}, CPU a prompt", "bare AsyncOpenAI", "ms", cpu["batch"], cpu["sdk"]),
        compare(f"{case}, peak memory", f"{PROMPTS // 10:,} prompts", "MB", peak["batch"], peak["few"], goal=1.3),
        *_slow(bench, env),
    ]


def _slow(bench: Bench, env: dict[str, str]) -> list[Row]:
    """Answers of 1 s, a thousand in flight, and of 10 s, a hundred in flight."""
    with _delayed(bench, 1.0):
        sides = {
            "batch": _batch(bench, env, 1000, 1000),
            "sdk": bench.side([PYTHON, PROGRAMS / "many_runs.py", "sdk", "1000", "1000"], env),
        }
        thousand = bench.interleave(sides)
    with _delayed(bench, 10.0):
        hundred = bench.interleave({"batch": _batch(bench, env, 300, 100)})
    wall = figures(thousand, attrgetter("wall"))
    apart = [one.after_first - one.after_request for one in thousand["batch"]]
    working = [one.after_first for one in hundred["batch"]]
    case = "1,000 prompts of 1 s, 1,000 in flight"
    return [
        compare(case, "bare AsyncOpenAI", "s", wall["batch"], wall["sdk"], goal=0.7),
        compare(f"{case}, first to last request", "6 s", "s", apart, [6.0] * len(apart), goal=1),
        compare("300 prompts of 10 s, 100 in flight", "30 s", "s", working, [30.0] * len(working), goal=1 / 0.95),
    ]


def _batch(bench: Bench, env: dict[str, str], number: int, at_once: int) -> Side:
    """Return the call that measures a batch of so many prompts to a new file of results."""
    file = bench.folder / f"prompts-{number}.jsonl"
    lines = (json.dumps({"id": f"p{index}", "message": f"m{index}"}) for index in range(number))
    file.write_text("".join(f"{line}\n" for line in lines))

    def measure() -> Measured:
        results = bench.folder / f"results-{next(_RUNS)}.jsonl"
        options = ["-o", results, "-m", f"openai/{MODEL}", "--concurrency", str(at_once)]
        measured = bench.side([AFK, "batch", "run", file, *options], env, seconds=max(RUN_SECONDS, number / 50))()
        assert sum(1 for _ in results.open("rb")) == number
        results.unlink()
        return measured

    return measure


@contextmanager
def _delayed(bench: Bench, seconds: float) -> Iterator[None]:
    """Have the server wait before each answer."""

    def wait(connection: socket.socket) -> None:
        time.sleep(seconds)

    bench.server.on_request = wait
    try:
        yield
    finally:
        bench.server.on_request = None

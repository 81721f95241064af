"""Commands that ask no model."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.measure import Measured, run_on_terminal
from benchmarks.report import Row, compare

THREADS = 10_000
LINES = 50
HELP_LIMIT, LIST_LIMIT = 1.2, 2.0
BASE = "python -c import click"


def on_terminal(bench: Bench, command: Sequence[str | Path], env: dict[str, str]) -> Callable[[], Measured]:
    """Return the call that measures `command` on a terminal of 50 lines."""
    return partial(run_on_terminal, command, env, lines=LINES, cwd=bench.folder)


@benchmark("commands")
def small_commands(bench: Bench) -> list[Row]:
    """What the command line shows of itself, and the lists of threads, the whole process on a terminal.

    Also a run beside so many threads, to one in a store of its own.
    """
    env = bench.home("commands")
    bench.say(f"making {THREADS:,} threads")
    subprocess.run([PYTHON, PROGRAMS / "long_thread.py", "thread", "1", str(THREADS)], env=env, check=True)
    completing = {**env, "_AFK_COMPLETE": "bash_complete", "COMP_WORDS": "afk run -t thread-99", "COMP_CWORD": "3"}
    commands: dict[str, tuple[Sequence[str], float | None]] = {
        "afk --version": (["--version"], HELP_LIMIT),
        "afk --help": (["--help"], HELP_LIMIT),
        "afk run --help": (["run", "--help"], LIST_LIMIT),
        f"afk threads, {THREADS:,} threads": (["threads"], LIST_LIMIT),
        f"afk threads -q WORDS, {THREADS:,} threads": (["threads", "-q", "second case", "-n", "20"], None),
    }
    sides = {name: on_terminal(bench, [AFK, *arguments], env) for name, (arguments, _) in commands.items()}
    sides["click"] = on_terminal(bench, [PYTHON, "-c", "import click"], env)
    completion = f"completing a thread, {THREADS:,} threads"
    sides[completion] = bench.side([AFK], completing, requests=False)
    grown, new = "a run", "a run in a new store"
    bench.server.answer = answer(1)
    for name, each in ((grown, env), (new, bench.home("new"))):
        sides[name] = bench.side([AFK, "run", "-n", "-t", "bench", "-m", MODEL, "hi"], each)
    results = bench.interleave(sides)
    goals = {name: goal for name, (_, goal) in commands.items()} | {completion: None}
    wall, cpu, to_request = (figures(results, attrgetter(name)) for name in ("wall", "cpu", "to_request"))
    rows = []
    for name, goal in goals.items():
        rows.append(compare(name, BASE, "ms", ms(wall[name]), ms(wall["click"]), goal=goal))
        rows.append(compare(f"{name}, CPU", BASE, "ms", ms(cpu[name]), ms(cpu["click"])))
    case = f"exec to request, {THREADS:,} threads"
    return [
        *rows,
        compare(case, "a new store", "ms", ms(to_request[grown]), ms(to_request[new])),
        compare(f"{case}, CPU", "a new store", "ms", ms(cpu[grown]), ms(cpu[new])),
    ]

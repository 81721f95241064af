"""Looking back: lists, the last turn of a long thread, and names, among many threads."""

from __future__ import annotations

import subprocess
from operator import attrgetter

from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, Side, benchmark, figures, ms
from benchmarks.cases.commands import THREADS, on_terminal
from benchmarks.report import Row, compare

LONG_TURNS = 5_000  # two messages a turn
LIMIT = 4.0
BASE = "python -c import click, sqlite3"


@benchmark("looking-back")
def looking_back(bench: Bench) -> list[Row]:
    """What is looked at often, the whole process, with many threads and a long one; completion without a terminal."""
    env = bench.home("looking-back")
    bench.say(f"making {THREADS:,} threads")
    for thread, turns, count in (("thread", 1, THREADS), ("long", LONG_TURNS, None)):
        program = [PYTHON, PROGRAMS / "long_thread.py", thread, str(turns), *([str(count)] if count else [])]
        subprocess.run(program, env=env, check=True)
    of_long = f"a thread of {2 * LONG_TURNS:,} messages"
    sides: dict[str, Side] = {
        f"afk threads, {THREADS:,} threads": on_terminal(bench, [AFK, "threads"], env),
        f"afk threads --tag TAG, {THREADS:,} threads": on_terminal(bench, [AFK, "threads", "--tag", "x"], env),
        f"afk threads show -n 1, {of_long}": on_terminal(bench, [AFK, "threads", "show", "-n", "1", "lon"], env),
    }
    completing = {**env, "_AFK_COMPLETE": "bash_complete", "COMP_WORDS": "afk run -t thread-99", "COMP_CWORD": "3"}
    sides[f"completing a thread, {THREADS:,} threads"] = bench.side([AFK], completing, requests=False)
    names = list(sides)
    sides["base"] = on_terminal(bench, [PYTHON, "-c", "import click, sqlite3"], env)
    results = bench.interleave(sides)
    wall, cpu = figures(results, attrgetter("wall")), figures(results, attrgetter("cpu"))
    rows = []
    for name in names:
        rows.append(compare(name, BASE, "ms", ms(wall[name]), ms(wall["base"]), goal=LIMIT))
        rows.append(compare(f"{name}, CPU", BASE, "ms", ms(cpu[name]), ms(cpu["base"])))
    return rows

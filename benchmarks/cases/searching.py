"""The search of turns."""

from __future__ import annotations

import subprocess
from operator import attrgetter

from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.cases.commands import on_terminal
from benchmarks.report import Row, compare

THREADS, MESSAGES = 10_000, 10_000
LIMIT = 4.0
BASE = "python -c import click, sqlite3"
SEARCHES = {"a word of all threads": "case", "a word of one thread": "9876", "a word of none": "nothing"}


@benchmark("searching")
def searching(bench: Bench) -> list[Row]:
    """`afk threads search` on a terminal, the whole process, with an index that is up to date."""
    stores = {f"{THREADS:,} threads": ["1", str(THREADS)], f"a thread of {MESSAGES:,} messages": [str(MESSAGES // 2)]}
    sides = {BASE: on_terminal(bench, [PYTHON, "-c", "import click, sqlite3"], bench.home("searching"))}
    for number, (store, arguments) in enumerate(stores.items()):
        env = bench.home(f"searching-{number}")
        bench.say(f"making {store}")
        subprocess.run([PYTHON, PROGRAMS / "long_thread.py", "thread", *arguments], env=env, check=True)
        subprocess.run([AFK, "threads", "search", "case"], env=env, check=True, capture_output=True)
        for name, word in SEARCHES.items():
            sides[f"search for {name}, {store}"] = on_terminal(bench, [AFK, "threads", "search", word], env)
    results = bench.interleave(sides)
    rows = []
    for suffix, figure in (("", "wall"), (", CPU", "cpu")):
        took = figures(results, attrgetter(figure))
        rows += [
            compare(f"{name}{suffix}", BASE, "ms", ms(took[name]), ms(took[BASE]), goal=None if suffix else LIMIT)
            for name in sides
            if name != BASE
        ]
    return rows

"""Commands that ask no model."""

from __future__ import annotations

from benchmarks.bench import AFK, PYTHON, Bench, benchmark, ms
from benchmarks.report import Row, compare


@benchmark("commands")
def small_commands(bench: Bench) -> list[Row]:
    """Commands that ask no model."""
    env = bench.home("small")
    sides = {
        "click": bench.side([PYTHON, "-c", "import click"], env, requests=False),
        "--version": bench.side([AFK, "--version"], env, requests=False),
        "--help": bench.side([AFK, "--help"], env, requests=False),
        "threads": bench.side([AFK, "threads"], env, requests=False),
    }
    results = bench.interleave(sides)
    click = ms([one.wall for one in results["click"]])
    goals = {"--version": 2.0, "--help": None, "threads": None}
    return [
        compare(f"afk {name}", "import click", "ms", ms([one.wall for one in results[name]]), click, goal=goal)
        for name, goal in goals.items()
    ]

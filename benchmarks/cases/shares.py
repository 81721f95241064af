"""What of a short turn's work is for the log, and what for the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.report import Row, compare

WORDS = 20
TURNS, AT_ONCE = 400, 50
LOG_SHARE, STORE_SHARE = 0.1, 0.2


@benchmark("shares")
def shares(bench: Bench) -> list[Row]:
    """The CPU time that the log and the store add to a short turn, to that of the whole turn.

    Measured by leaving them out one after the other: the log first, then the store too. In a batch of turns in one
    process, where nothing is started; and in the process of one turn.
    """
    bench.server.answer = answer(WORDS)
    homes = {name: bench.home(name) for name in ("all", "no log", "neither")}
    for name, env in homes.items():
        config = Path(env["AFK_HOME"]) / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f"[sinks.jsonl]\nenabled = {str(name == 'all').lower()}\n", encoding="utf-8")
    turn: list[str | Path] = [AFK, "run", "-n", "-t", "bench", "-m", MODEL, "hi"]
    one = {
        "all": bench.side(turn, homes["all"]),
        "no log": bench.side(turn, homes["no log"]),
        "neither": bench.side([AFK, "run", "-n", "--no-memory", "-m", MODEL, "hi"], homes["neither"]),
    }
    batch: list[str | Path] = [PYTHON, PROGRAMS / "many_runs.py"]
    many = {
        name: bench.side([*batch, kept, str(TURNS), str(AT_ONCE)], homes[name])
        for name, kept in (("all", "afk"), ("no log", "afk-no-log"), ("neither", "afk-nothing"))
    }
    rows = []
    for case, sides, turns in (
        (f"of {TURNS} short turns in a process", many, TURNS),
        ("of a turn in a process", one, 1),
    ):
        cpu = figures(bench.interleave(sides), lambda each: each.cpu)
        rows += shares_of_turn(case, {name: [value / turns for value in values] for name, values in cpu.items()})
    return rows


def shares_of_turn(case: str, cpu: Mapping[str, Sequence[float]]) -> list[Row]:
    """Return the rows of the log's and the store's share of the CPU seconds of a turn."""
    log = [a - b for a, b in zip(cpu["all"], cpu["no log"], strict=True)]
    store = [a - b for a, b in zip(cpu["no log"], cpu["neither"], strict=True)]
    whole = ms(cpu["all"])
    return [
        compare(f"the log {case}, CPU", "the whole turn", "ms", ms(log), whole, goal=LOG_SHARE),
        compare(f"the store {case}, CPU", "the whole turn", "ms", ms(store), whole, goal=STORE_SHARE),
    ]

"""One whole short turn: its time and memory, and what of its work is for the log and for the store."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, Bench, benchmark, figures, ms
from benchmarks.measure import own_peak
from benchmarks.report import Row

WORDS = 20


@benchmark("short", peers=("llm", "codex", "claude"))
def short_turn(bench: Bench) -> list[Row]:
    """From exec to the end of the process, and its largest memory: one turn of a thread, memory and log on."""
    bench.server.answer = answer(WORDS)
    env = bench.home("short")
    command: list[str | Path] = [AFK, "run", "-n", "-t", "bench", "-m", MODEL, "hi"]
    names = ["llm", "codex", "claude"]
    results = bench.interleave({"afk": bench.side(command, env), **bench.peer_sides(env, names)})
    wall = {name: ms(values) for name, values in figures(results, attrgetter("wall")).items()}
    peak = figures(results, lambda one: one.peak / 1e6)
    goals = {"llm": 1.0}
    rows = [
        *(
            bench.against_peer("a short turn", name, "ms", wall["afk"], wall.get(name), goal=goals.get(name))
            for name in names
        ),
        *(
            bench.against_peer(
                "a short turn, peak memory", name, "MB", peak["afk"], peak.get(name), goal=goals.get(name)
            )
            for name in names
        ),
    ]
    bench.say(f"the benchmark's own peak, below which it cannot see: {own_peak() / 1e6:.0f} MB")
    return rows

"""A sink that fails."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, DELTAS, PROGRAMS, Bench, benchmark, ms
from benchmarks.report import Row, compare


@benchmark("sinks")
def bad_sinks(bench: Bench) -> list[Row]:
    """A run with a sink that raises or blocks, to the same run without it: to its request, and on to its end."""
    bench.server.answer = answer(DELTAS)
    env = bench.home("sinks")
    command: list[str | Path] = [AFK, "run", "-n", "-m", MODEL, "hi"]
    with_sink = [*command[:-1], "--plugin", PROGRAMS / "bad_sinks.py", "hi"]
    results = bench.interleave(
        {
            "none": bench.side(command, env),
            "raises": bench.side(with_sink, {**env, "BENCH_SINK": "raises"}),
            "blocks": bench.side(with_sink, {**env, "BENCH_SINK": "blocks"}),
        }
    )
    rows = []
    for name in ("raises", "blocks"):
        to_request, streamed = (
            {side: ms([moment(one) for one in results[side]]) for side in ("none", name)}
            for moment in (attrgetter("to_request"), attrgetter("after_request"))
        )
        rows += [
            compare(f"exec to request, a sink {name}", "without", "ms", to_request[name], to_request["none"]),
            compare(f"{DELTAS:,} deltas, a sink {name}", "without", "ms", streamed[name], streamed["none"]),
        ]
    return rows

"""This afk against another version of it."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, DELTAS, Bench, benchmark
from benchmarks.measure import Measured, run
from benchmarks.report import Row, compare

TURNS_BEFORE = 5


@benchmark("versions")
def versions(bench: Bench) -> list[Row]:
    """This afk against another version of it, in turn: the same commands, each version with a home of its own."""
    if bench.before is None:
        return [
            Row(case="two versions", against="the version before", unit="", note="left out without --before PROGRAM")
        ]
    programs = {"now": AFK, "before": bench.before}
    homes = {name: bench.home(f"versions-{name}") for name in programs}
    for name, program in programs.items():
        for turn in range(TURNS_BEFORE):
            bench.server.answer = answer(1)
            run(
                [program, "run", "-n", "-t", "bench", "-m", MODEL, f"hi {turn}"],
                homes[name],
                bench.server,
                cwd=bench.folder,
            )
    ask: list[str | Path] = ["run", "-n", "-t", "bench", "-m", MODEL, "hi"]
    many: list[str | Path] = ["run", "-n", "-m", MODEL, "hi"]
    measured: list[tuple[str, str, int, list[str | Path], Callable[[Measured], float]]] = [
        ("exec to request-at-server", "ms", 1, ask, attrgetter("to_request")),
        ("CPU of a short turn", "ms", 1, ask, attrgetter("cpu")),
        (f"{DELTAS:,} deltas, to the end", "ms", DELTAS, many, attrgetter("after_request")),
        (f"{DELTAS:,} deltas, --json", "ms", DELTAS, [*many[:2], "--json", *many[2:]], attrgetter("after_request")),
        (f"peak memory, {DELTAS:,} deltas", "MB", DELTAS, many, attrgetter("peak")),
        ("afk --version", "ms", 0, ["--version"], attrgetter("wall")),
        ("afk --help", "ms", 0, ["--help"], attrgetter("wall")),
        ("afk run --help", "ms", 0, ["run", "--help"], attrgetter("wall")),
        ("afk threads", "ms", 0, ["threads"], attrgetter("wall")),
    ]
    rows = []
    for case, unit, deltas, arguments, figure in measured:
        bench.server.answer = answer(max(1, deltas))
        sides = {
            name: bench.side([program, *arguments], homes[name], requests=deltas > 0)
            for name, program in programs.items()
        }
        results = bench.interleave(sides)
        scale = 1e-6 if unit == "MB" else 1e3
        now, before = ([figure(one) * scale for one in results[name]] for name in ("now", "before"))
        rows.append(compare(case, "the version before", unit, now, before))
    return rows

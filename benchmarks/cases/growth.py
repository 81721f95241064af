"""How memory and time grow with the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.answers import MODEL, Answer, answer, pieces
from benchmarks.bench import AFK, DELTAS, FEW_DELTAS, Bench, benchmark, ms
from benchmarks.measure import Measured, own_peak, run
from benchmarks.report import Row, compare

PIECE_MB = 1
EVENTS, EVENT_KB = 50, 20


@benchmark("memory")
def memory(bench: Bench) -> list[Row]:
    """The largest resident memory of a run of many deltas, to that of one of few."""
    env = bench.home("memory")
    command: list[str | Path] = [AFK, "run", "-n", "-m", MODEL, "hi"]

    def measure(deltas: int) -> Callable[[], Measured]:
        prepared = answer(deltas)

        def one() -> Measured:
            bench.server.answer = prepared
            return run(command, env, bench.server, cwd=bench.folder)

        return one

    results = bench.interleave({"many": measure(DELTAS), "few": measure(FEW_DELTAS)})
    peaks = {name: [one.peak / 1e6 for one in ones] for name, ones in results.items()}
    note = f"the benchmark's own peak, below which it cannot see: {own_peak() / 1e6:.0f} MB"
    case = f"peak memory, {DELTAS:,} deltas"
    return [compare(case, f"{FEW_DELTAS} deltas", "MB", peaks["many"], peaks["few"], note=note)]


@benchmark("growth")
def growth(bench: Bench) -> list[Row]:
    """The time for two and four times the size, to that for once: what grows with the square shows as 4 and 16."""
    env = bench.home("growth")
    command: list[str | Path] = [AFK, "run", "-n", "--json", "-m", MODEL, "hi"]
    answers: dict[str, Callable[[int], list[str]]] = {
        f"one piece of {PIECE_MB} MB": lambda times: ["x" * (PIECE_MB << 20) * times],
        f"{EVENTS} pieces of {EVENT_KB} KB": lambda times: ["x" * (EVENT_KB << 10)] * (EVENTS * times),
    }

    def measure(prepared: Answer) -> Callable[[], Measured]:
        def one() -> Measured:
            bench.server.answer = prepared
            return run(command, env, bench.server, cwd=bench.folder)

        return one

    rows = []
    for name, texts in answers.items():
        results = bench.interleave({str(times): measure(pieces(texts(times))) for times in (1, 2, 4)})
        took = {side: ms([one.after_request for one in ones]) for side, ones in results.items()}
        rows += [
            compare(
                f"{name}, --json, {times} times as much", "once", "ms", took[str(times)], took["1"], goal=times * 1.2
            )
            for times in (2, 4)
        ]
    return rows

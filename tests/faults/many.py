"""Many runs at once on a machine that is busy with something else: every turn is in its thread."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ledger import result_of, settle
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import Running, World, new_world

_AT_ONCE = 50
_BUSY_LOOPS = 2
_SECONDS = 1800
_MOST_LOG_BYTES = 64 * 1024 * 1024


def at_once(
    seed: str, runs: int, threads: int, rounds: int = 1, cold: bool = False, busy_loops: int = _BUSY_LOOPS
) -> Row:
    """Start `runs` runs, 50 at a time, beside busy loops; each on a thread of its own, or all on `threads` threads.

    It is what `seq RUNS | xargs -P50 -I{} afk run -t t{} ...` does.

    Args:
        cold: whether each run is a new process that imports everything, as from a shell.
        busy_loops: how many processes keep a core busy; one is enough where other tests do it too.
    """
    where = f"{threads} threads" if threads else "threads of their own"
    row = Row(case=f"{runs} runs, {min(runs, _AT_ONCE)} at once, on {where}", tries=runs * rounds)
    for number in range(rounds):
        with new_world(f"{seed}/{number}", numbered(40, 0.02)) as world, _busy(busy_loops):

            def run(at: int, world: World = world) -> Running:
                thread = f"t{at % threads if threads else at}"
                options = {"cold": True} if cold else {}
                running = world.start(thread, f"m{at}", ("--busy-timeout", str(_SECONDS)), **options)
                running.wait(_SECONDS)
                return running

            world.afk("--version")  # starts the process that the others are forked from
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                done = list(pool.map(run, range(runs)))
            _check(world, done, row)
            settle(world, row, last_word=False)
    return row


def _check(world: World, done: list[Running], row: Row) -> None:
    outside = [running for running in done if (result_of(running) or {}).get("saved") is not True]
    for running in outside:
        row.problems.append(f"{running.message!r} is not in its thread: {running.process.returncode} {running.stderr}")
    waited = sum(any(event.get("code") == "store_locked" for event in running.events()) for running in done)
    row.notes.append(f"{len(outside)} of {len(done)} turns outside their thread; {waited} waited for more than 1 s")
    data = world.shell.home / "afk" / "data"
    log = data / "threads.db-wal"
    if log.exists() and log.stat().st_size > _MOST_LOG_BYTES:
        row.problems.append(f"the write-ahead log has {log.stat().st_size:,} bytes")
    spooled = list((data / "spool").glob("*")) if (data / "spool").exists() else []
    if spooled:
        row.notes.append(f"{len(spooled)} files are still put aside")


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep the machine busy with something else."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

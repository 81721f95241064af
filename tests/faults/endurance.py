"""Many turns in one process and many processes in sequence: memory, open files and time do not grow."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from afkcli.testing.model_script import Step
from tests.faults.large import PEAK
from tests.faults.ledger import settle
from tests.faults.table import Row
from tests.faults.world import new_world

_SCRIPT = Path(__file__).with_name("endurance_process.py")
_MOST_MEMORY_GROWTH = 1.25


def one_process(seed: str, turns: int) -> Row:
    """Run the turns through one runner of the Python API, with the real store and event log."""
    row = Row(case=f"{turns} turns in one process", tries=turns)
    if not sys.platform.startswith("linux"):
        row.notes.append("skipped: memory and open files are read from /proc")
        return row
    with new_world(seed) as world:
        done = subprocess.run(
            [sys.executable, _SCRIPT, str(turns), world.root],
            env=world.shell.environment(),
            capture_output=True,
            timeout=3600,
            check=False,
        )
        if done.returncode != 0:
            row.problems.append(done.stderr.decode()[-2000:])
            return row
        cost = json.loads(done.stdout)
        row.finished = len(cost["ms"])
        _judge(row, cost["memory"], cost["ms"])
        if statistics.median(_last(cost["files"])) > statistics.median(_first(cost["files"])):
            row.problems.append(f"open files grew from {cost['files'][0]} to {cost['files'][-1]}")
        row.notes.append(f"{cost['files'][-1]} files open at the end, {cost['files'][0]} after the first turn")
    return row


def many_processes(seed: str, processes: int) -> Row:
    """Run one process for each turn, over threads of 20 turns."""
    row = Row(case=f"{processes} processes in sequence", tries=processes)
    memory: list[float] = []
    milliseconds: list[float] = []
    with new_world(seed, Step()) as world:
        for number in range(processes):
            began = time.perf_counter()
            peak = world.root / "peak"
            before = [sys.executable, "-S", str(PEAK), str(peak)]
            running = world.start(f"t{number // 20}", f"m{number}", before=before, cold=True)
            running.process.wait()
            milliseconds.append((time.perf_counter() - began) * 1000)
            memory.append(int(peak.read_text()))
            if running.process.returncode != 0:
                row.problems.append(f"ended with {running.process.returncode}: {running.stderr}")
        settle(world, row, last_word=False)
    _judge(row, memory, milliseconds)
    return row


def _judge(row: Row, memory: Sequence[float], milliseconds: Sequence[float]) -> None:
    """Compare the medians of the last tenth with those of the first; time is printed and never judged."""
    growth = statistics.median(_last(memory)) / statistics.median(_first(memory))
    slowing = statistics.median(_last(milliseconds)) / statistics.median(_first(milliseconds))
    row.notes.append(f"last tenth to first tenth: memory x {growth:.2f}, time x {slowing:.2f}")
    if growth > _MOST_MEMORY_GROWTH:
        row.problems.append(f"memory grew by {growth:.2f}, from {_first(memory)[0]:.0f} to {memory[-1]:.0f} KB")


def _first(values: Sequence[float]) -> Sequence[float]:
    return values[: max(1, len(values) // 10)]


def _last(values: Sequence[float]) -> Sequence[float]:
    return values[-max(1, len(values) // 10) :]

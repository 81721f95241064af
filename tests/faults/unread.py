"""Readers of stdout and stderr that have stopped: every run still ends, and its turn is in its thread."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.shell import AFK, LIMIT
from tests.e2e.warm import start
from tests.faults.ledger import read_thread
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import World, new_world, wait_until

_LIMIT_CODE = 3
_ENDS: dict[str, int | None] = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "time limit": None}


def unread(seed: str, repeat: int) -> Row:
    """Let nobody read stdout, stderr or both; end each run by a signal or by its time limit."""
    cases = [(unread, end) for unread in ("stdout", "stderr", "both") for end in _ENDS] * repeat
    row = Row(case="unread stdout, stderr", tries=len(cases))
    with new_world(seed, numbered(2000, 0.01)) as world:
        with ThreadPoolExecutor(3) as pool:
            for problems in pool.map(lambda number: _run(world, number, *cases[number]), range(len(cases))):
                row.problems += problems
        for number, (_, end) in enumerate(cases):
            thread = read_thread(world, f"t{number}")
            row.damaged += bool(thread and thread.damage)
            states = [turn.state for turn in thread.turns] if thread else []
            if states == [("degraded" if _ENDS[end] is None else "cancelled")]:
                row.finished += 1
            else:
                row.lost += 1
                row.problems.append(f"{cases[number]}: the turns were kept as {states}")
    return row


def _run(world: World, number: int, unread: str, end: str) -> list[str]:
    reader, writer = _full_pipe()
    before = fcntl.fcntl(writer, fcntl.F_GETFL)
    limit = ("--timeout", "2") if _ENDS[end] is None else ()
    process = start(
        [AFK, "run", "--json", "-t", f"t{number}", *limit, f"m{number}"],
        cwd=world.shell.folder,
        env=world.shell.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if unread == "stderr" else writer,
        stderr=subprocess.DEVNULL if unread == "stdout" else writer,
    )
    try:
        wait_until(lambda: world.server.requests_of(f"m{number}") or process.poll() is not None)
        signal_number = _ENDS[end]
        if signal_number is not None:
            process.send_signal(signal_number)
        try:
            code = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return [f"nobody reads {unread}: {end} did not end it within {LIMIT} s"]
        expected = _LIMIT_CODE if signal_number is None else -signal_number
        problems = [f"nobody reads {unread}, {end}: ended with {code}"] if code != expected else []
        if fcntl.fcntl(writer, fcntl.F_GETFL) != before:
            problems.append(f"nobody reads {unread}, {end}: the flags of the caller's pipe were changed")
        return problems
    finally:
        os.close(reader)
        os.close(writer)


def _full_pipe() -> tuple[int, int]:
    """Return the two ends of a pipe into which nothing more fits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x")
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer

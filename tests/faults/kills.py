"""SIGKILL at any moment: while an answer streams, before it begins, and between the store's own writes."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ledger import settle
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import WITH_FAULTY_STORE, NewWorld, World, faulty_store, new_world

_STREAM_SECONDS = 1.2
_WORDS = 120
_THREADS = 4


def random_moments(seed: str, tries: int, world_of: NewWorld = new_world) -> Row:
    """Kill a run at a random moment, mostly of its answer; a fifth of them ends before that."""
    row = Row(case="SIGKILL at random moments", tries=tries)
    with world_of(seed, numbered(_WORDS, _STREAM_SECONDS / _WORDS)) as world:

        def on_thread(thread: int) -> None:
            for number in range(thread, tries, _THREADS):
                _kill_one(world, f"t{thread}", number)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(on_thread, range(_THREADS)))
        settle(world, row)
    return row


def _kill_one(world: World, thread: str, number: int) -> None:
    chance = world.chance("moment", number)
    running = world.start(thread, f"m{number}")
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0.05, 1.0))  # from the start of the process
    elif world.asked(running):
        time.sleep(chance.uniform(0.0, _STREAM_SECONDS * 1.25))
    running.send(signal.SIGKILL)
    running.wait()


def write_boundaries(seed: str, tries: int) -> Row:
    """Have the store kill its process before and after each of its own writes, from the first one in an empty home."""
    row = Row(case="SIGKILL between the store's writes")
    with new_world(seed, numbered(30, 0.02)) as world:
        points = _points(world)
        chosen = sorted(world.chance("points").sample(range(1, len(points) + 1), min(tries, len(points))))
        for at in chosen:
            row.tries += 1
            running = world.start("t", f"at {at}, {points[at - 1]}", WITH_FAULTY_STORE, faulty_store(kill_at=at))
            running.wait()
            if running.process.returncode not in (0, -signal.SIGKILL):
                row.problems.append(f"killed at {at}: ended with {running.process.returncode}: {running.stderr}")
        settle(world, row)
        died = sum(running.process.returncode == -signal.SIGKILL for running in world.runs)
        if not died:
            row.problems.append("no run passed the point at which it was to be killed")
        row.notes.append(f"{died} of {len(chosen)} runs died at one of {len(points)} points: {_summary(points)}")
    return row


def _points(world: World) -> list[str]:
    """Return the points that a run in an empty home passes."""
    file = world.root / "points"
    world.run("points", "points", WITH_FAULTY_STORE, **faulty_store(points=file))
    return file.read_text().splitlines()


def _summary(points: list[str]) -> str:
    return ", ".join(f"{points.count(name)} {name}" for name in sorted(set(points)))

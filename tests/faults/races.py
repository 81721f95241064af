"""Many processes on few threads, with random kills and with stops that outlast the lease."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ledger import result_of, settle
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import WITH_FAULTY_STORE, Running, World, faulty_store, new_world

REAL_LEASE = 10.0


def race(seed: str, processes: int, turns: int, threads: int, lease: float) -> Row:
    """Run `processes` at a time, `turns` each, on `threads` threads, while others kill and stop some of them.

    Args:
        lease: seconds that a lease lasts; the store's own 10 s need no plugin.
    """
    on = "one thread" if threads == 1 else f"{threads} threads"
    row = Row(case=f"{processes} processes x {turns} on {on}", tries=processes * turns)
    with new_world(seed, numbered(12, 0.02)) as world:
        chaos = _Chaos(world, lease)
        with ThreadPoolExecutor(processes) as pool, chaos:
            for done in [pool.submit(_talk, world, number, turns, threads, lease) for number in range(processes)]:
                done.result()
        settle(world, row)
        row.notes.append(f"{chaos.killed} killed, {chaos.stopped} stopped for longer than the lease, {_endings(world)}")
    return row


def _talk(world: World, number: int, turns: int, threads: int, lease: float) -> None:
    arguments: list[str] = ["--busy-timeout", "600"]
    env: dict[str, str] = {}
    if lease != REAL_LEASE:
        arguments += WITH_FAULTY_STORE
        env = faulty_store(lease=lease)
    for turn in range(turns):
        thread = f"t{(number + turn) % threads}"
        world.start(thread, f"p{number} m{turn}", arguments, env).wait(600 + 2 * lease)


def _endings(world: World) -> str:
    runs = world.runs
    interrupted = sum((result_of(run) or {}).get("state") == "interrupted" for run in runs)
    refused = sum(run.process.returncode == 5 for run in runs)
    return f"{refused} ended with 5, {interrupted} of them as interrupted"


class _Chaos:
    """While it is entered, a random run is killed or stopped every now and then."""

    def __init__(self, world: World, lease: float) -> None:
        self.killed = 0
        self.stopped = 0
        self._world = world
        self._lease = lease
        self._chance = world.chance("chaos")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._act)
        self._wakers: list[threading.Timer] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        for waker in self._wakers:
            waker.join()

    def _act(self) -> None:
        while not self._over.wait(self._chance.uniform(0.1, 0.8) * self._lease):
            victim = self._victim()
            if victim is None:
                continue
            if self._chance.random() < 0.5:
                self.killed += 1
                victim.send(signal.SIGKILL)
            else:
                self._stop(victim)

    def _victim(self) -> Running | None:
        """Return a run that is alive and was left alone so far, rather one whose answer streams."""
        alive = [run for run in list(self._world.runs) if run.process.poll() is None and not run.disturbed]
        asked = [run for run in alive if self._world.server.requests_of(run.message)]
        candidates = asked if asked and self._chance.random() < 0.8 else alive
        return self._chance.choice(candidates) if candidates else None

    def _stop(self, victim: Running) -> None:
        self.stopped += 1
        victim.send(signal.SIGSTOP)
        waker = threading.Timer(self._lease * self._chance.uniform(1.1, 1.5), victim.send, (signal.SIGCONT,))
        self._wakers.append(waker)
        waker.start()
        time.sleep(self._lease * 0.1)

"""Many processes on few threads, with random kills and with stops that outlast the lease."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from afkcli.core.thread.exchange import ExportedThread, read_lines
from tests.faults.ledger import check_partial, open_turn_of, result_of, settle, shown_text
from tests.faults.server import numbered
from tests.faults.signals import process_state
from tests.faults.table import Row
from tests.faults.world import WITH_FAULTY_STORE, Running, World, faulty_store, new_world, wait_until

REAL_LEASE = 10.0
_QUESTION = 2  # the commit of the question; the first one is that of the lease


def race(seed: str, processes: int, turns: int, threads: int, lease: float) -> Row:
    """Run `processes` at a time, `turns` each, on `threads` threads, while others kill and stop some of them.

    Args:
        lease: seconds that a lease lasts; the store's own 10 s need no plugin.
    """
    on = "one thread" if threads == 1 else f"{threads} threads"
    row = Row(case=f"{processes} processes x {turns} on {on}", tries=processes * turns)
    with new_world(seed, numbered(12, 0.02)) as world:
        chaos = Chaos(world, lease)
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


def stopped_writer(seed: str, seconds: float, victims: int) -> Row:
    """Stop a run inside a transaction for `seconds`, longer than a lease, while runs on other threads continue.

    It holds the one write lock of the home. Runs that stream meanwhile are killed at random moments, one of them while
    it waits with its seal; one streams on to the end of the stop and beyond; two begin in it, and wait; one of them is
    killed, the other one is saved. The stopped run is then continued or killed.
    """
    row = Row(case=f"stopped in a transaction for {seconds:g} s", tries=victims + 5)
    if not sys.platform.startswith("linux"):
        row.notes.append("skipped: whether a process is stopped is read from /proc")
        return row
    with new_world(seed, numbered(20, 0.02)) as world:
        world.run("first", "creates the database")
        long, *streaming = _stream(world, ["long", "sealing", *(f"victim{number}" for number in range(victims))])
        stopped = world.start("stopped", "stopped", WITH_FAULTY_STORE, faulty_store(stop_at_commit=_QUESTION))
        wait_until(lambda: process_state(stopped) == "T")
        began = time.monotonic()
        brief, late = world.start("brief", "during the stop"), world.start("late", "begins in the stop")
        with ThreadPoolExecutor(len(streaming) + 1) as pool:
            killing = pool.submit(_kill_while_it_waits, late)
            list(pool.map(lambda victim: _kill_in_stop(world, victim, seconds), streaming))
            killing.result()
        _check_what_is_read(world, streaming, row)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        wait_until(lambda: "is locked by another process" in brief.stderr)
        stopped.send(signal.SIGCONT if world.chance("end").random() < 0.5 else signal.SIGKILL)
        stopped.wait()
        brief.wait()
        _check_said(world, brief, "is locked by another process; waiting up to 60 s", row)
        if (result_of(brief) or {}).get("saved") is not True:
            row.problems.append(f"the run that began in the stop was not saved: {result_of(brief)} {brief.stderr}")
        time.sleep(1)
        world.server.hurry(long.message)
        long.wait()
        _check_said(world, long, "", row)
        if (result_of(long) or {}).get("saved") is not True:
            row.problems.append(f"the run that streamed on was not saved: {result_of(long)} {long.stderr}")
        settle(world, row)
        row.notes.append(f"{len(streaming)} killed during the stop, the stopped run {stopped.disturbed}")
    return row


def _stream(world: World, threads: Sequence[str]) -> list[Running]:
    """Start a run on each thread, whose answer streams until the server has to hurry; wait until they stream."""
    world.server.script(numbered(5_000, 0.05))
    started = [world.start(thread, f"streams on {thread}") for thread in threads]
    for running in started:
        world.asked(running)
    world.server.script(numbered(20, 0.02))
    return started


def _kill_in_stop(world: World, victim: Running, seconds: float) -> None:
    """Kill a run at a random moment of the stop; the one whose answer ends in it, while it waits with its seal."""
    if victim.thread == "sealing":
        world.server.hurry(victim.message)
        wait_until(lambda: any(event["type"] == "step_completed" for event in victim.events()))
        time.sleep(world.chance("sealing").uniform(0.5, 4.0))
    else:
        time.sleep(world.chance(victim.thread).uniform(0.5, seconds * 0.8))
    victim.send(signal.SIGKILL)
    victim.wait()


def _kill_while_it_waits(late: Running) -> None:
    """Kill a run that began in the stop, while it waits for the lock."""
    wait_until(lambda: "is locked by another process" in late.stderr)
    late.send(signal.SIGKILL)
    late.wait()


def _check_what_is_read(world: World, killed: Sequence[Running], row: Row) -> None:
    """While the database is locked, the turns of killed runs are read with all text that they had put aside."""
    exported = world.afk("threads", "export", "--all").out.encode().splitlines()
    threads = {item.thread.name: item for item in read_lines(exported) if isinstance(item, ExportedThread)}
    for running in killed:
        item = threads.get(running.thread)
        if item is None:
            row.problems.append(f"{running.thread} is not exported during the stop")
        else:
            check_partial(running, open_turn_of(item), world.server.sent(running.message), row)


def _check_said(world: World, running: Running, line: str, row: Row) -> None:
    """The run's whole answer was shown, and a warning said `line`; there was no warning, if `line` is empty."""
    sent = "".join(text for _, text in world.server.sent(running.message))
    said = [event["message"] for event in running.events() if event["type"] == "warning"]
    if not sent or shown_text(running) != sent:
        row.problems.append(f"{running.message!r} showed {len(shown_text(running))} of {len(sent)} characters")
    if not any(line in message for message in said) if line else said:
        row.problems.append(f"{running.message!r} said {said}")


class Chaos:
    """In this context a random run is killed or stopped now and then."""

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

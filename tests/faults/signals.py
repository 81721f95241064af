"""Signals and closed pipes: the turn is sealed, stderr is quiet, and afk dies of the signal itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from afkcli.testing.model_script import Step
from tests.e2e.shell import AFK, LIMIT
from tests.faults.ledger import KeptThread, read_thread, result_of, settle
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import Running, World, new_world, wait_until

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STREAM = numbered(60, 0.02)
_LONG_STREAM = numbered(600, 0.02)


def random_moments(seed: str, tries: int) -> Row:
    """Send SIGINT, SIGTERM and SIGHUP at random moments of a run."""
    row = Row(case="SIGINT, SIGTERM, SIGHUP", tries=tries)
    with new_world(seed, _STREAM) as world:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda number: _signal_one(world, number), range(tries)))
        for running in world.runs:
            _check_ending(world, running, row)
        settle(world, row)
    return row


def _signal_one(world: World, number: int) -> None:
    chance = world.chance("signal", number)
    running = world.start(f"t{number % 2}", f"m{number}")
    if world.asked(running):
        time.sleep(chance.uniform(0.0, 1.0))
    running.send(_ENDING[number % 3])
    running.wait()


def _check_ending(world: World, running: Running, row: Row) -> None:
    """afk died of the signal with its turn sealed, or had ended before it came; in both cases stderr is empty."""
    number = signal.Signals[running.disturbed[0]] if running.disturbed else None
    code, result = running.process.returncode, result_of(running)
    if number is None and code != 0:
        row.problems.append(f"{running.message!r} ended with {code}, undisturbed: {running.stderr}")
    elif number is not None and code not in (-number, 0):
        row.problems.append(f"{running.message!r} ended with {code} of {number.name}: {running.stderr}")
    elif code and world.server.requests_of(running.message) and (result or {}).get("state") != "cancelled":
        row.problems.append(f"{running.message!r} ended of {number} as {result}")
    noise = [line for line in running.stderr.splitlines() if "is in use" not in line]
    if noise:
        row.problems.append(f"{running.message!r} wrote to stderr: {noise}")


def twice(seed: str) -> Row:
    """A second SIGINT ends afk at once, wherever it is; the turn is found and sealed by the next reader."""
    row = Row(case="SIGINT twice", tries=2)
    with new_world(seed, _LONG_STREAM) as world:
        for number in range(row.tries):
            running = world.start("t", f"m{number}")
            world.asked(running)
            time.sleep(world.chance("twice", number).uniform(0.1, 0.4))
            running.send(signal.SIGINT)
            time.sleep(world.chance("pause", number).uniform(0.0, 0.02))
            running.send(signal.SIGINT)
            if running.wait() != -signal.SIGINT:
                row.problems.append(f"ended with {running.process.returncode}: {running.stderr}")
            if running.stderr and running.stderr.count("\n") != 1:
                row.problems.append(f"stderr: {running.stderr}")
        world.server.script(_STREAM)
        settle(world, row)
    return row


def stop_and_continue(seed: str) -> Row:
    """SIGTSTP and SIGCONT in the middle of an answer: it continues and is complete."""
    row = Row(case="SIGTSTP, SIGCONT", tries=1)
    with new_world(seed, numbered(250, 0.02)) as world:
        running = world.start("t", "m", process_group=0)  # an orphaned group would ignore SIGTSTP
        world.asked(running)
        time.sleep(0.3)
        running.send(signal.SIGTSTP)
        stopped = wait_until(lambda: process_state(running) == "T")
        time.sleep(0.5)
        running.send(signal.SIGCONT)
        if running.wait() != 0 or not stopped:
            row.problems.append(f"stopped: {stopped}, ended with {running.process.returncode}: {running.stderr}")
        settle(world, row, last_word=False)
    return row


def process_state(running: Running) -> str:
    """Return the state of the process as /proc has it: "T" is stopped."""
    try:
        stat = Path(f"/proc/{running.process.pid}/stat").read_text("ascii", "replace")
        return stat.rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def closed_stdout(seed: str, tries: int) -> Row:
    """`afk run ... | head -c N`: quiet, 141, and the turn is sealed with the text so far."""
    row = Row(case="| head -c N", tries=tries)
    with new_world(seed) as world:
        for number in range(tries):
            count = world.chance("head", number).choice((1, 7, 30))
            world.server.script(Step(text=[f"m{number}: ", *["line\n"] * 2000], delay_between=0.005))
            done = _bash(world, f"afk run -t t m{number} | head -c {count}; code=${{PIPESTATUS[0]}}; echo; echo $code")
            if (done.stdout[:count].decode(), done.stdout.split()[-1:], done.stderr) != (
                (f"m{number}: " + "line\n" * 10)[:count],
                [b"141"],
                b"",
            ):
                row.problems.append(f"| head -c {count}: {done.stdout!r} {done.stderr!r}")
        _check_states(read_thread(world, "t"), ["cancelled"] * tries, row)
    return row


def shell_loop(seed: str) -> Row:
    """`for i in 1 2 3; do afk run ...; done` ends with Ctrl-C, and continues after a run that failed."""
    row = Row(case="shell loop and Ctrl-C", tries=1)
    with new_world(seed, _LONG_STREAM) as world:
        loop = "for i in 1 2 3; do afk run -t t turn$i >/dev/null; done; echo not reached"
        process = subprocess.Popen(
            ["bash", "-c", loop],
            env=_environment(world),
            cwd=world.shell.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        world.server.wait_for_requests(1, LIMIT)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        out, err = process.communicate(timeout=LIMIT)
        if (process.returncode, out, err) != (-signal.SIGINT, b"", b"afk: `afk threads resume t` continues it\n"):
            row.problems.append(f"the loop ended with {process.returncode}: {out!r} {err!r}")
        if len(world.server.requests) != 1:
            row.problems.append(f"{len(world.server.requests)} runs were started")
        _check_states(read_thread(world, "t"), ["cancelled"], row)
    return row


def first_runs(seed: str, processes: int) -> Row:
    """That many first runs at once in an empty home, each on a thread of its own."""
    row = Row(case=f"{processes} first runs at once", tries=processes)
    with new_world(seed, _STREAM) as world:
        for number in range(processes):
            world.start(f"t{number}", f"m{number}")
        for running in world.runs:
            if running.wait() != 0 or running.stderr:
                row.problems.append(f"{running.message!r} ended with {running.process.returncode}: {running.stderr}")
        settle(world, row, last_word=False)
    return row


def _check_states(thread: KeptThread | None, states: list[str], row: Row) -> None:
    found = [turn.state for turn in thread.turns] if thread else []
    row.damaged += bool(thread and thread.damage)
    if found != states:
        row.problems.append(f"the turns were kept as {found} and not as {states}: {thread}")


def _environment(world: World) -> dict[str, str]:
    return world.shell.environment(PATH=os.pathsep.join([str(AFK.parent), os.environ["PATH"]]))


def _bash(world: World, script: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", script],
        env=_environment(world),
        cwd=world.shell.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )

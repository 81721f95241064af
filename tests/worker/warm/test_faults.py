"""What goes wrong beside a warm run does to it what it does to a cold one: the answer is there, and nothing is left.

`AFK_TEST_WORKER_KILLS` and `AFK_TEST_WORKER_RUNS` say how many kills are tried, and how many runs at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer, RecordedRequest
from tests.e2e.shell import AFK, LIMIT, Finished
from tests.terminal import Terminal
from tests.worker.warm.conftest import WarmShell, is_so_within, standing_by, until
from tests.worker.warm.processes import children_of, has_ended, state_of

KILLS = int(os.environ.get("AFK_TEST_WORKER_KILLS", "2"))
RUNS = int(os.environ.get("AFK_TEST_WORKER_RUNS", "10"))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


class Held:
    """A model that answers a request that says `hold` when it is let go, and all others at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.holds = threading.Semaphore(0)

    def __call__(self, request: RecordedRequest) -> Step:
        if request.body["messages"][-1]["content"] == "hold":
            go = self.go
            self.holds.release()
            assert go.wait(LIMIT)
        return Step(text="Hello")

    def wait(self) -> None:
        """Wait until a request is held."""
        assert self.holds.acquire(timeout=LIMIT)


@pytest.fixture(scope="module")
def model() -> Held:
    return Held()


@pytest.fixture(scope="module")
def server(model: Held) -> Iterator[ModelServer]:
    with ModelServer(answer=model) as model_server:
        yield model_server


@pytest.fixture
def held(model: Held) -> Iterator[Held]:
    """The model, which holds what it is asked to hold until the test lets it go, or ends."""
    model.go = threading.Event()
    yield model
    model.go.set()


@pytest.fixture
def own(fresh: WarmShell, held: Held) -> WarmShell:
    """A shell with a worker of its own, which the test ends or damages."""
    return fresh


@pytest.fixture
def shared(shell: WarmShell, held: Held) -> WarmShell:
    """A shell with the worker of this file."""
    return shell


def children(pid: int) -> list[int]:
    """Return the processes that a worker has started and that have not ended."""
    return [child for child in children_of(pid) if not has_ended(child)]


def child_of_run(pid: int) -> int:
    """Return the child of a worker that runs a command, of which there is one."""

    def found() -> list[int]:
        return [child for child in children(pid) if child not in standing_by(pid)]

    until(lambda: len(found()) == 1, "one child that runs a command")
    return found()[0]


def worker_pid(shell: WarmShell) -> int:
    return shell.warm_up().pid


def run(shell: WarmShell, *arguments: str) -> Finished:
    return shell.afk("run", "-n", "-q", *arguments)


def hold(
    shell: WarmShell, held: Held, *options: str, start_new_session: bool = False
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a warm run that waits for its answer; return its client, and the child that runs it."""
    # In a group of its own, whose parent is of the same session, so that it can be stopped as a shell stops its jobs.
    group: dict[str, Any] = {"start_new_session": True} if start_new_session else {"process_group": 0}
    for _ in range(5):
        pid = worker_pid(shell)
        until(lambda pid=pid: standing_by(pid), "a child that stands by")  # type: ignore[misc]
        served = shell.served
        process = shell.start("run", "-n", "-q", *options, "hold", **group)
        held.wait()
        if is_so_within(5, lambda served=served: shell.served > served):  # type: ignore[misc]
            return process, child_of_run(pid)
        process.kill()  # it ran cold, since the machine is busy
        process.communicate()
    raise AssertionError(f"the run is cold: {shell.worker}")


def finished(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    out, _ = process.communicate(timeout=LIMIT)
    return process.returncode, out


def test_killing_the_worker_does_nothing_to_the_run(own: WarmShell, held: Held) -> None:
    process, child = hold(own, held)
    os.kill(worker_pid(own), signal.SIGKILL)
    until(lambda: own.worker is None, "the end of the worker")
    held.go.set()

    assert finished(process) == (0, b"Hello\n")
    until(lambda: has_ended(child), "the end of the child")
    assert run(own, "again").out == "Hello\n"  # cold, and it starts the next one
    assert own.warm(lambda: run(own, "warm")).out == "Hello\n"


def test_killing_the_worker_at_any_moment_leaves_the_answer(own: WarmShell, server: ModelServer) -> None:
    chance = random.Random(14)
    for _ in range(KILLS):
        pid, asked = worker_pid(own), len(server.requests)
        process = own.start("run", "-n", "-q", "-t", "trip", "hi")
        time.sleep(chance.uniform(0, 0.2))  # any moment is as good as another
        with contextlib.suppress(ProcessLookupError):  # it has ended, since a file that it imported was changed
            os.kill(pid, signal.SIGKILL)
        assert finished(process) == (0, b"Hello\n")
        assert len(server.requests) == asked + 1
        until(lambda pid=pid: has_ended(pid), "the end of the worker")  # type: ignore[misc]


def test_killing_the_child_that_stands_by_leaves_the_answer(shared: WarmShell, server: ModelServer) -> None:
    """At any moment: before it has taken the call the run is cold, and afterwards it is killed, as a cold one is.

    A killed run may have written a part of its answer. No run asks the model twice.
    """
    chance = random.Random(41)
    for _ in range(KILLS):
        pid, asked = worker_pid(shared), len(server.requests)
        until(lambda pid=pid: standing_by(pid), "a child that stands by")  # type: ignore[misc]
        process = shared.start("run", "-n", "-q", "-t", "trip", "hi")
        time.sleep(chance.uniform(0, 0.1))
        for child in children(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code, out = finished(process)
        requests = len(server.requests) - asked
        if code == 0:
            assert (out, requests) == (b"Hello\n", 1)
        else:
            assert code == -signal.SIGKILL
            assert b"Hello\n".startswith(out)
            assert requests <= 1

    assert run(shared, "-t", "trip", "and now").out == "Hello\n"


def test_a_killed_child_ends_the_client_as_a_killed_run_ends(shared: WarmShell, held: Held) -> None:
    process, child = hold(shared, held, "-t", "trip")
    os.kill(child, signal.SIGKILL)

    assert finished(process) == (-signal.SIGKILL, b"")
    held.go.set()
    assert run(shared, "-t", "trip", "and now").out == "Hello\n"  # the lease of the dead run is free


def test_a_stopped_worker_is_not_waited_for(own: WarmShell) -> None:
    pid = worker_pid(own)
    until(lambda: standing_by(pid), "a child that stands by")
    stopped = [pid, *standing_by(pid)]
    for one in stopped:
        os.kill(one, signal.SIGSTOP)
    try:
        assert run(own, "hi").out == "Hello\n"
    finally:
        for one in stopped:
            os.kill(one, signal.SIGCONT)

    assert own.warm(lambda: run(own, "warm")).out == "Hello\n"


def test_killing_the_client_ends_the_run(shared: WarmShell, held: Held) -> None:
    process, child = hold(shared, held, "-t", "trip")
    process.kill()
    process.communicate()

    until(lambda: has_ended(child), "the end of the child")
    held.go.set()
    assert run(shared, "-t", "trip", "and now").out == "Hello\n"


def test_stopping_the_client_stops_the_run_and_both_continue(shared: WarmShell, held: Held) -> None:
    """By SIGSTOP, which the client cannot see coming."""
    process, child = hold(shared, held)
    process.send_signal(signal.SIGSTOP)
    until(lambda: state_of(child) == "T", "a stopped child")
    held.go.set()
    process.send_signal(signal.SIGCONT)

    assert finished(process) == (0, b"Hello\n")


def test_killing_a_stopped_client_ends_its_stopped_run(shared: WarmShell, held: Held) -> None:
    process, child = hold(shared, held)
    process.send_signal(signal.SIGSTOP)
    until(lambda: state_of(child) == "T", "a stopped child")
    process.kill()
    process.communicate()

    until(lambda: has_ended(child), "the end of the child")


@pytest.mark.parametrize("session", [False, True], ids=["beside a shell", "without a shell"])
def test_a_run_that_is_stopped_from_outside_stops_its_client(shared: WarmShell, held: Held, session: bool) -> None:
    """As a tool can do that stops its caller: a shell then sees a stopped job, as without a worker."""
    process, child = hold(shared, held, start_new_session=session)
    os.kill(child, signal.SIGSTOP)
    until(lambda: state_of(process.pid) == "T", "a stopped client")
    held.go.set()
    process.send_signal(signal.SIGCONT)

    assert finished(process) == (0, b"Hello\n")


def test_a_client_that_is_stopped_and_continued_again_and_again_answers(shared: WarmShell, held: Held) -> None:
    process, _ = hold(shared, held)
    for pause in range(12):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.03 * pause)  # shorter and longer than what the child needs to notice it
        process.send_signal(signal.SIGCONT)
    held.go.set()

    assert finished(process) == (0, b"Hello\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_warm_run_as_a_cold_one(shared: WarmShell, held: Held, number: signal.Signals) -> None:
    process, child = hold(shared, held, "-t", "trip")
    process.send_signal(number)
    warm = finished(process)
    command = [AFK, "run", "-n", "-q", "-t", "trip", "hold"]
    environment = shared.environment(AFK_WORKER="off")
    cold = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    held.wait()
    cold.send_signal(number)

    assert warm == finished(cold)
    until(lambda: has_ended(child), "the end of the child")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_to_all_processes_ends_a_warm_run_in_order(
    shared: WarmShell, held: Held, number: signal.Signals
) -> None:
    """As one of `pkill -f afk`, or at the end of a session: it reaches the run, and once more by its client."""
    before = len(shared.log())
    process, child = hold(shared, held, "-t", "trip")
    for pid in (process.pid, child):
        os.kill(pid, number)

    assert finished(process) == (-number, b"")
    assert [event["type"] for event in shared.log()[before:]][-1] == "completed"


def test_on_a_terminal_ctrl_z_stops_a_warm_run_and_ctrl_c_ends_it(
    shared: WarmShell, held: Held, tmp_path: Path
) -> None:
    environment = {**shared.environment(), "PS1": "$ "}
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environment=environment, folder=tmp_path) as terminal:
        for _ in range(5):
            pid = worker_pid(shared)  # another one, if something that it had imported has changed
            until(lambda pid=pid: standing_by(pid), "a child that stands by")  # type: ignore[misc]
            served = shared.served
            terminal.wait_for("$")
            terminal.type(f"{AFK} run -n hold </dev/null\n")
            held.wait()
            if is_so_within(5, lambda served=served: shared.served > served):  # type: ignore[misc]
                break
            terminal.key("C-c")
        assert shared.served > served
        child = child_of_run(pid)
        terminal.key("C-z")
        terminal.wait_for("Stopped")
        assert state_of(child) == "T"
        terminal.type("fg\n")
        until(lambda: state_of(child) != "T", "a child that runs again")
        terminal.key("C-c")
        until(lambda: has_ended(child), "the end of the child")
        terminal.type("echo code $?\n")
        terminal.wait_for("code 130")


def test_a_socket_that_was_replaced_is_not_used_and_the_worker_ends(own: WarmShell) -> None:
    pid = worker_pid(own)
    Path(own.address).unlink()
    Path(own.address).mkdir()

    assert run(own, "hi").out == "Hello\n"
    until(lambda: has_ended(pid), "the end of the worker")
    Path(own.address).rmdir()
    assert own.warm(lambda: run(own, "warm")).out == "Hello\n"


def test_when_its_folder_vanishes_the_worker_ends(own: WarmShell) -> None:
    pid = worker_pid(own)
    folder = Path(own.address).parent

    def is_removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)  # a child that stands by may be writing there
        return not folder.exists()

    until(is_removed, "no folder")

    assert run(own, "hi").out == "Hello\n"
    until(lambda: has_ended(pid), "the end of the worker")


def test_many_runs_at_once_all_answer(shared: WarmShell) -> None:
    pid = worker_pid(shared)
    with ThreadPoolExecutor(RUNS) as pool:
        done = list(pool.map(lambda number: run(shared, "-t", f"t-{number}", "hi"), range(RUNS)))

    assert [(each.code, each.out) for each in done] == [(0, "Hello\n")] * RUNS
    until(lambda: len(children(pid)) <= 1, "no child but the one that stands by")


def test_a_closed_stdout_is_closed_for_the_run(shared: WarmShell) -> None:
    def closed(worker: str) -> tuple[int, bytes]:
        command = ["sh", "-c", 'exec "$0" threads list >&-', AFK]
        done = subprocess.run(command, env=shared.environment(AFK_WORKER=worker), capture_output=True, timeout=LIMIT)
        return done.returncode, done.stderr

    worker_pid(shared)
    assert shared.warm(lambda: closed("on")) == closed("off")


@needs_root
def test_a_full_disk_in_the_runtime_folder_leaves_the_answer(own: WarmShell) -> None:
    """The folder of the sockets is a file system that has no room; a namespace of its own hides it from others."""
    script = f"""
        mount -t tmpfs -o size=4k,mode=700 tmpfs {own.runtime}
        mkdir -m 700 {own.runtime}/afk
        head -c 4096 /dev/zero > {own.runtime}/full
        for _ in 1 2; do "$0" run -n -q hi || exit 1; done
    """
    command = ["unshare", "-m", "sh", "-c", script, AFK]
    done = subprocess.run(command, env=own.environment(), capture_output=True, timeout=LIMIT, check=False)
    if b"unshare failed" in done.stderr:
        pytest.skip("this system lets nobody mount")

    assert (done.returncode, done.stdout) == (0, b"Hello\nHello\n"), done.stderr


@needs_root
def test_a_disk_that_fills_up_under_a_worker_leaves_the_answer_and_no_process(own: WarmShell) -> None:
    """The child that stands by has no room to rehearse: the worker ends, and no run tries again at once."""
    script = f"""
        mount -t tmpfs -o size=1m,mode=700 tmpfs {own.runtime}
        lock={own.address}.lock
        "$0" run -n -q hi || exit 1
        until grep -qs '"pid"' $lock; do sleep 0.1; done
        head -c 1000000 /dev/zero > {own.runtime}/full 2>/dev/null
        cat /dev/zero > {own.runtime}/more 2>/dev/null
        "$0" run -n -q hi || exit 1
        until flock -n $lock true; do sleep 0.1; done
        test -e {own.address}.failed || exit 2
        "$0" run -n -q hi || exit 1
        flock -n $lock true || exit 3
    """
    command = ["unshare", "-m", "sh", "-c", script, AFK]
    done = subprocess.run(command, env=own.environment(), capture_output=True, timeout=LIMIT, check=False)
    if b"unshare failed" in done.stderr:
        pytest.skip("this system lets nobody mount")

    assert (done.returncode, done.stdout) == (0, b"Hello\n" * 3), done.stderr


def test_a_socket_of_someone_else_in_the_place_of_the_worker_gets_no_key(own: WarmShell) -> None:
    """A listener that is no worker, of the same user: it is given the call, as a worker is, and answers nonsense."""
    Path(own.address).parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(own.address)
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True)
        thread.start()
        assert run(own, "hi").out == "Hello\n"
        thread.join(LIMIT)

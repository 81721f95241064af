"""The compiled client passes signals on, stops and continues with the run, and ends by Ctrl-C at every stage."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afkcli.worker.caller import Caller
from tests.terminal import Terminal
from tests.worker.scripted_worker import COLD_CODE, LIMIT, Call, Client, ScriptedWorker

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)


class Staged:
    """Plays a call up to a stage, then waits until the test goes on."""

    def __init__(self, stage: Callable[[Call], object], rest: Callable[[Call], object]) -> None:
        self.reached, self.goes_on = threading.Event(), threading.Event()
        self._stage, self._rest = stage, rest

    def __call__(self, call: Call) -> None:
        self._stage(call)
        self.reached.set()
        assert self.goes_on.wait(LIMIT)
        self._rest(call)


def begin(call: Call) -> None:
    call.take()
    call.say(b"B")


def is_gone(call: Call) -> None:
    """The client has closed its end, whatever it sent before."""
    try:
        while call.hear():
            pass
    except ConnectionResetError:
        pass


@pytest.mark.parametrize("number", FORWARDED, ids=lambda number: number.name)
def test_each_signal_reaches_the_run(client: Client, number: signal.Signals) -> None:
    heard = []

    def rest(call: Call) -> None:
        heard.append(call.hear(2))
        call.say(b"X\x09")

    script = Staged(begin, rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment)
        assert script.reached.wait(LIMIT)
        process.send_signal(number)
        script.goes_on.set()
        assert process.wait(LIMIT) == 9

    process.communicate()
    assert heard == [b"S" + bytes([number])]


def test_a_continued_client_that_ignores_this_signal_continues_the_run(
    client: Client, sleeper: subprocess.Popen[bytes]
) -> None:
    def stopped_child(call: Call) -> None:
        call.take(sleeper.pid)
        call.say(b"B")
        sleeper.send_signal(signal.SIGSTOP)
        os.waitpid(sleeper.pid, os.WUNTRACED)

    def rest(call: Call) -> None:
        assert call.hear(2) == b"S" + bytes([signal.SIGCONT])
        call.say(b"X\x09")

    script = Staged(stopped_child, rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment, preexec_fn=lambda: signal.signal(signal.SIGCONT, signal.SIG_IGN))
        assert script.reached.wait(LIMIT)
        script.goes_on.set()
        process.send_signal(signal.SIGCONT)
        assert process.wait(LIMIT) == 9

    process.communicate()
    assert Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"


def test_a_second_ctrl_c_reaches_the_run_too(client: Client) -> None:
    heard = []

    def rest(call: Call) -> None:
        for _ in range(3):
            heard.append(call.hear(2))
            os.kill(call.pid, signal.SIGINT)
        heard.append(call.hear(2))
        call.say(b"K\x02")

    script = Staged(begin, rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment)
        assert script.reached.wait(LIMIT)
        process.send_signal(signal.SIGINT)
        script.goes_on.set()
        assert process.wait(LIMIT) == -signal.SIGINT

    process.communicate()
    assert heard == [b"S\x02"] * 4


STAGES: dict[str, Callable[[Call], object]] = {
    "before an answer": lambda call: None,
    "in the middle of an answer": lambda call: call.say(b"W\x01"),
    "before it has begun": lambda call: call.take(),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT], ids=lambda n: n.name)
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_before_the_run_has_begun_ends_the_client(client: Client, stage: str, number: signal.Signals) -> None:
    """As it ends Python, before that has imported anything; the run does not begin."""
    script = Staged(STAGES[stage], lambda call: None if stage == "before it has begun" else is_gone(call))
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment)
        assert script.reached.wait(LIMIT)
        process.send_signal(number)
        if stage == "before it has begun":
            assert worker.calls[0].hear(2) == b"S" + bytes([number])  # it is sent to the child, which then ends
        script.goes_on.set()
        assert process.wait(LIMIT) == -number

    assert process.communicate() == (b"", b"")


def test_killing_the_client_closes_the_connection(client: Client) -> None:
    script = Staged(begin, is_gone)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment)
        assert script.reached.wait(LIMIT)
        process.kill()
        script.goes_on.set()
        assert process.wait(LIMIT) == -signal.SIGKILL

    process.communicate()


def test_ignored_signals_stay_ignored(client: Client) -> None:
    heard = []

    def rest(call: Call) -> None:
        heard.append(call.hear(2))
        call.say(b"X\x00")

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    script = Staged(begin, rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment, preexec_fn=ignore)
        assert script.reached.wait(LIMIT)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        script.goes_on.set()
        assert process.wait(LIMIT) == 0

    process.communicate()
    assert heard == [b"S" + bytes([signal.SIGTERM])]


def test_blocked_signals_stay_blocked(client: Client) -> None:
    heard = []

    def rest(call: Call) -> None:
        heard.append(call.hear(2))
        call.say(b"X\x00")

    script = Staged(begin, rest)
    with ScriptedWorker(script) as worker:
        block = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # noqa: E731
        process = client.start(env=worker.environment, preexec_fn=block)
        assert script.reached.wait(LIMIT)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        script.goes_on.set()
        assert process.wait(LIMIT) == 0

    process.communicate()
    assert heard == [b"S" + bytes([signal.SIGUSR2])]


STOPPED_CHILD = """
import os, signal, sys
os.write(1, b"r")
while True:
    os.read(0, 1)
    os.write(1, b".")
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the child of a worker, which stops itself."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-IS", "-c", STOPPED_CHILD], start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.read(1) == b"r"
        yield process
        process.kill()


def answer_of(sleeper: subprocess.Popen[bytes]) -> bytes:
    """Ask the sleeper for a byte, and return it: a stopped one gives none."""
    assert sleeper.stdin is not None
    assert sleeper.stdout is not None
    sleeper.stdin.write(b"x")
    sleeper.stdin.flush()
    return sleeper.stdout.read(1)


def wait_for_stop(process: subprocess.Popen[bytes]) -> int:
    """Wait until a child process stops, and return the signal that stopped it."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return os.WSTOPSIG(status)


def test_ctrl_z_stops_the_client_with_the_run_and_both_continue(
    client: Client, sleeper: subprocess.Popen[bytes]
) -> None:
    heard = []

    def rest(call: Call) -> None:
        heard.append(call.hear(2))
        sleeper.send_signal(signal.SIGSTOP)
        call.say(b"T")
        heard.append(call.hear(2))
        heard.append(answer_of(sleeper))  # it runs again
        call.say(b"X\x06")

    script = Staged(lambda call: (call.take(sleeper.pid), call.say(b"B")), rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment, process_group=0)  # which this process can stop
        assert script.reached.wait(LIMIT)
        process.send_signal(signal.SIGTSTP)
        script.goes_on.set()
        assert wait_for_stop(process) == signal.SIGTSTP
        process.send_signal(signal.SIGCONT)
        assert process.wait(LIMIT) == 6

    process.communicate()
    assert heard[0] == b"S" + bytes([signal.SIGTSTP])
    assert heard[1:] == [b"S" + bytes([signal.SIGCONT]), b"."]


def test_a_run_that_does_not_stop_does_not_stop_the_client(client: Client) -> None:
    heard = []

    def rest(call: Call) -> None:
        heard.append(call.hear(2))
        call.say(b"X\x00")

    script = Staged(begin, rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment)
        assert script.reached.wait(LIMIT)
        process.send_signal(signal.SIGTSTP)
        script.goes_on.set()
        assert process.wait(LIMIT) == 0

    process.communicate()
    assert heard == [b"S" + bytes([signal.SIGTSTP])]


def test_in_a_group_without_a_shell_ctrl_z_stops_nothing(client: Client) -> None:
    """The kernel does not stop such a process, since nothing would continue it."""
    heard = []

    def rest(call: Call) -> None:
        heard.append(call.hear(2))
        call.say(b"T")
        heard.append(call.hear(2))
        call.say(b"X\x00")

    script = Staged(begin, rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment, start_new_session=True)
        assert script.reached.wait(LIMIT)
        process.send_signal(signal.SIGTSTP)
        script.goes_on.set()
        assert process.wait(LIMIT) == 0

    process.communicate()
    assert heard == [b"S" + bytes([signal.SIGTSTP]), b"S" + bytes([signal.SIGCONT])]


def test_a_suspended_run_suspends_the_client_in_a_group_without_a_shell_too(
    client: Client, sleeper: subprocess.Popen[bytes]
) -> None:
    heard = []

    def rest(call: Call) -> None:
        sleeper.send_signal(signal.SIGSTOP)
        call.say(b"U")
        heard.append(call.hear(2))
        heard.append(answer_of(sleeper))  # it runs again
        call.say(b"X\x06")

    script = Staged(lambda call: (call.take(sleeper.pid), call.say(b"B")), rest)
    with ScriptedWorker(script) as worker:
        process = client.start(env=worker.environment, start_new_session=True)
        script.goes_on.set()
        assert wait_for_stop(process) == signal.SIGSTOP
        process.send_signal(signal.SIGCONT)
        assert process.wait(LIMIT) == 6

    process.communicate()
    assert heard == [b"S" + bytes([signal.SIGCONT]), b"."]


def play_terminal(call: Call) -> None:
    """Act as a run that says each signal on its stdout, stops by Ctrl-Z and ends by Ctrl-C."""
    begin(call)
    out = call.descriptors[1]
    os.write(out, b"begun\r\n")
    while len(heard := call.hear(2)) == 2:
        number = heard[1]
        os.write(out, f"got {signal.Signals(number).name}\r\n".encode())
        if number == signal.SIGTSTP:
            call.say(b"T")
        if number == signal.SIGINT:
            call.say(b"K" + bytes([number]))


def test_on_a_terminal_ctrl_z_fg_bg_and_ctrl_c_do_what_they_do_to_any_command(client: Client, tmp_path: Path) -> None:
    with ScriptedWorker(play_terminal) as worker:
        environment = {**worker.environment, "PS1": "$ ", "HOME": str(tmp_path)}
        shell = ["bash", "--norc", "--noprofile", "-i"]
        with Terminal(shell, environment=environment, folder=tmp_path) as terminal:
            terminal.wait_for("$")
            terminal.type(f"{client.program} run\n")
            terminal.wait_for("begun")
            terminal.key("C-z")
            terminal.wait_for("Stopped")
            terminal.type("echo code $?\n")
            terminal.wait_for(f"code {128 + signal.SIGTSTP}")
            terminal.type("bg\n")
            terminal.wait_for("got SIGCONT")
            terminal.type("fg\n")
            job = Caller(worker.calls[0].pid)
            terminal.wait_until(job.is_in_foreground, "job in the foreground")
            terminal.key("C-c")
            terminal.wait_for("got SIGINT")
            terminal.type("echo code $?\n")
            terminal.wait_for(f"code {128 + signal.SIGINT}")


def test_the_callers_pipe_ends_although_a_hung_worker_was_asked(installed: Client) -> None:
    """A worker that does not read has no descriptor of the caller, which would keep its pipe open."""
    script = Staged(lambda call: None, is_gone)
    with ScriptedWorker(script) as worker:
        process = installed.start("hi", env=worker.environment)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], LIMIT)
        assert ready
        assert process.stdout.read() == b"cold hi"
        script.goes_on.set()
        assert process.wait(LIMIT) == COLD_CODE

    process.communicate()

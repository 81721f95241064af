"""Readers that stop: a run is never held up by stderr, and can always be ended where nobody reads stdout."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import LIMIT, Shell
from tests.e2e.workers import runs_in

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and signals of POSIX")

NOISY = """
from afkcli import hookimpl, tool

AFK_HOOKS = 1

@tool(name="noisy.noise", changes=False)
def noise(lines: int) -> str:
    import logging, warnings
    for number in range(lines):
        print("printed", number, "x" * 80)
        logging.getLogger("noisy").warning("logged %s", number)
        warnings.warn(f"warned {number}")
    return "quiet again"

@hookimpl
def afk_tools(): return [noise]
"""

STUCK = """
from afkcli import hookimpl, tool

AFK_HOOKS = 1

@tool(name="stuck.write", changes=False)
async def write() -> str:
    import os
    open("started", "w").close()
    os.write(2, b"x" * 100)
    return ""

@hookimpl
def afk_tools(): return [write]
"""


def full_pipe() -> tuple[int, int]:
    """Return the two ends of a pipe into which nothing more fits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    return reader, writer


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def streamed(shell: Shell) -> int:
    """Return how many characters of answers the log has; how many events that is depends on how they were merged."""
    return sum(len(event.get("text_delta", "")) for event in shell.log())


def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=LIMIT)
    finally:
        process.kill()


@contextmanager
def reading(descriptor: int) -> Iterator[bytearray]:
    """Read a descriptor on a thread, to its end; yields what was read so far."""
    read = bytearray()

    def run() -> None:
        while True:
            try:
                piece = os.read(descriptor, 1 << 16)
            except OSError:  # the other side of a terminal is closed
                return
            if not piece:
                return
            read.extend(piece)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield read
    thread.join(LIMIT)


def state(shell: Shell) -> object:
    return shell.log()[-1]["result"]["state"]


class TestStderr:
    def test_a_run_ends_though_nobody_reads_stderr(self, keyed: Shell) -> None:
        reader, writer = full_pipe()

        process = keyed.start("run", "hi", stderr=writer)  # the new thread is named on stderr

        assert ended(process) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"reply 1: hi\n"
        os.close(reader)
        os.close(writer)

    @pytest.mark.parametrize("lines", [0, 3, 3000])
    def test_the_log_has_the_number_of_lines_that_nobody_read(
        self, keyed: Shell, server: ModelServer, lines: int
    ) -> None:
        """Those that were left out, and those that were still kept: fewer than fill the buffer, or more."""
        (keyed.folder / "noisy.py").write_text(NOISY)
        call = ScriptedCall(name="noisy.noise", arguments={"lines": lines})
        server.script(Step(tool_calls=[call]), Step(text="done"))
        reader, writer = full_pipe()
        arguments = ("--plugin", "noisy.py", "--tool", "noisy.noise", "-t", "t", "hi")
        process = keyed.start("run", *arguments, stderr=writer)
        assert ended(process) == 0
        os.close(reader)
        os.close(writer)
        events = keyed.log()
        assert events[-1]["type"] == "completed"
        told = [event["message"] for event in events if event.get("code") == "stderr_unread"]
        assert told[-1].endswith("left out or not read on stderr when the run ended")
        assert int(told[-1].split()[0]) >= max(1, 2 * lines)
        assert len(told) == (2 if lines == 3000 else 1)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_a_run_though_nobody_reads_stderr(
        self, keyed: Shell, server: ModelServer, number: signal.Signals
    ) -> None:
        server.script(Step(text="word ", repeat=10_000, delay_between=0.05))
        reader, writer = full_pipe()
        process = keyed.start("run", "hi", stderr=writer)
        server.wait_for_requests(1, LIMIT)

        process.send_signal(number)

        assert ended(process) == -number
        assert state(keyed) == "cancelled"
        os.close(reader)
        os.close(writer)

    def test_the_time_limit_ends_a_run_though_nobody_reads_stderr(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=10_000, delay_between=0.05))
        reader, writer = full_pipe()

        process = keyed.start("run", "--timeout", "1", "hi", stdout=subprocess.DEVNULL, stderr=writer)

        assert ended(process) == 3
        assert state(keyed) == "degraded"
        os.close(reader)
        os.close(writer)

    @pytest.mark.parametrize("command", [["run", "--no-such-option"], ["run", "-m", "nothing/x", "hi"]], ids=" ".join)
    def test_an_error_ends_afk_though_nobody_reads_stderr(self, shell: Shell, command: list[str]) -> None:
        reader, writer = full_pipe()

        assert ended(shell.start(*command, stderr=writer)) == 2

        os.close(reader)
        os.close(writer)

    def test_reasoning_that_nobody_reads_does_not_hold_up_the_answer(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(reasoning="hm " * 1000, text="done"))
        reader, writer = full_pipe()

        process = keyed.start("run", "--reasoning", "-t", "t", "hi", stderr=writer)

        assert ended(process) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"done\n"
        os.close(reader)
        os.close(writer)

    def test_lines_that_were_left_out_are_counted_when_stderr_is_read_again(
        self, keyed: Shell, server: ModelServer
    ) -> None:
        plugin = keyed.folder / "noisy.py"
        plugin.write_text(NOISY)
        call = ScriptedCall(name="noisy.noise", arguments={"lines": 3000})
        server.script(Step(tool_calls=[call]), Step(text="word ", repeat=10_000, delay_between=0.05))
        reader, writer = full_pipe()
        arguments = ("--plugin", str(plugin), "--tool", "noisy.noise", "-t", "t", "hi")
        process = keyed.start("run", *arguments, stdout=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        server.wait_for_requests(2, LIMIT)  # the tool has returned
        until(lambda: any(event.get("code") == "stderr_unread" for event in keyed.log()))

        with reading(reader) as read:
            until(lambda: b"left out because nobody read stderr\n" in read)
            process.send_signal(signal.SIGTERM)
            assert ended(process) == -signal.SIGTERM
        counted = [line for line in read.split(b"\n") if b"left out because nobody read stderr" in line]
        shown = [line for line in read.split(b"\n") if b"printed " in line or b"logged " in line]
        assert len(counted) == 1
        assert counted[0].startswith(b"afk: ")
        assert int(counted[0].split()[1]) >= 6000 - len(shown)
        assert read.index(b"printed 0 ") < read.index(b"left out")
        os.close(reader)

    def test_a_tool_that_writes_to_the_descriptor_itself_can_be_ended(self, keyed: Shell, server: ModelServer) -> None:
        plugin = keyed.folder / "stuck.py"
        plugin.write_text(STUCK)
        server.script(Step(tool_calls=[ScriptedCall(name="stuck.write")]), Step(text="done"))
        reader, writer = full_pipe()
        process = keyed.start("run", "--plugin", str(plugin), "--tool", "stuck.write", "-t", "t", "hi", stderr=writer)
        until(lambda: (keyed.folder / "started").exists())

        end = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)

        assert ended(process) == -signal.SIGTERM
        os.close(reader)
        os.close(writer)


class TestStdout:
    def test_a_slow_reader_gets_the_whole_answer(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="x" * 999 + "\n", repeat=500))
        reader, writer = full_pipe()
        filled = waiting_in(reader)
        process = keyed.start("run", "-t", "t", "hi", stdout=writer)
        os.close(writer)
        server.wait_for_requests(1, LIMIT)

        with reading(reader) as read:
            assert ended(process) == 0
        assert bytes(read[filled:]) == (b"x" * 999 + b"\n") * 500
        os.close(reader)

    @pytest.mark.parametrize("form", [(), ("--json",), ("--final",)], ids=["text", "json", "final"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_a_run_though_nobody_reads_stdout(
        self, keyed: Shell, server: ModelServer, number: signal.Signals, form: tuple[str, ...]
    ) -> None:
        server.script(Step(text="word ", repeat=20))
        reader, writer = full_pipe()
        process = keyed.start("run", *form, "-t", "t", "hi", stdout=writer)
        server.wait_for_requests(1, LIMIT)
        until(lambda: len(keyed.log()) > 3)

        process.send_signal(number)

        assert ended(process) == -number
        assert state(keyed) in ("cancelled", "completed")
        os.close(reader)
        os.close(writer)

    @pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
    def test_the_time_limit_ends_a_run_though_nobody_reads_stdout(
        self, keyed: Shell, server: ModelServer, form: tuple[str, ...]
    ) -> None:
        server.script(Step(text="word ", repeat=10_000, delay_between=0.01))
        reader, writer = full_pipe()

        process = keyed.start("run", *form, "--timeout", "5", "-t", "t", "hi", stdout=writer)

        assert ended(process) == 3
        assert state(keyed) == "degraded"
        assert process.stderr is not None
        assert b"stdout was not read for 5 s after the time limit" in process.stderr.read()
        os.close(reader)
        os.close(writer)

    def test_a_signal_ends_a_run_whose_stdout_is_a_socket_that_nobody_reads(
        self, keyed: Shell, server: ModelServer
    ) -> None:
        server.script(Step(text="x" * 1000, repeat=2000))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = keyed.start("run", "-t", "t", "hi", stdout=theirs.fileno())
            server.wait_for_requests(1, LIMIT)
            until(lambda: streamed(keyed) > 60_000)

            process.send_signal(signal.SIGTERM)

            assert ended(process) == -signal.SIGTERM
        assert state(keyed) in ("cancelled", "completed")  # the answer may be whole before all of it is written

    def test_runs_that_share_a_pipe_that_nobody_reads_can_all_be_ended(self, keyed: Shell, server: ModelServer) -> None:
        """Another run takes the room between "there is room" and the write."""
        server.script(Step(text="x" * 3000, repeat=2000))
        reader, writer = os.pipe()
        processes = [keyed.start("run", "-t", f"t{number}", "hi", stdout=writer) for number in range(4)]
        server.wait_for_requests(4, LIMIT)
        until(lambda: streamed(keyed) > 4 * 60 * 3000)
        for _ in range(20):  # each time one of them may write
            os.read(reader, 4096)

        for process in processes:
            process.send_signal(signal.SIGTERM)

        assert [ended(process) for process in processes] == [-signal.SIGTERM] * 4
        os.close(reader)
        os.close(writer)


class TestTerminals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_a_signal_ends_a_run_on_a_terminal_that_was_stopped(
        self, keyed: Shell, server: ModelServer, number: signal.Signals
    ) -> None:
        server.script(Step(text="word ", repeat=10_000, delay_between=0.01))
        with attended_terminal() as terminal:
            process = terminal.start(keyed, "run", "--reasoning", "-t", "t", "hi")
            terminal.wait_for("word")
            termios.tcflow(terminal.side, termios.TCOOFF)  # Ctrl-S
            logged = streamed(keyed)
            until(lambda: streamed(keyed) > logged + 60 * len("word "))

            process.send_signal(number)

            assert ended(process) == -number
        assert state(keyed) == "cancelled"

    def test_a_terminal_that_continues_shows_the_whole_answer(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=300))
        with attended_terminal() as terminal:
            termios.tcflow(terminal.side, termios.TCOOFF)
            process = terminal.start(keyed, "run", "-t", "t", "hi")
            server.wait_for_requests(1, LIMIT)
            termios.tcflow(terminal.side, termios.TCOON)  # Ctrl-Q
            while process.poll() is None:
                if select.select([terminal.main], [], [], 0.05)[0]:
                    terminal.seen += os.read(terminal.main, 65536).decode()
            assert ended(process) == 0
            while select.select([terminal.main], [], [], 0)[0]:
                terminal.seen += os.read(terminal.main, 65536).decode()
        assert terminal.seen.count("word") == 300

    def test_a_question_on_a_stopped_terminal_does_not_hold_up_a_signal(
        self, keyed: Shell, server: ModelServer
    ) -> None:
        server.script(
            Step(tool_calls=[ScriptedCall(name="shell.run", arguments={"argv": ["echo", "x" * 20_000]})]),
            Step(text="done"),
        )
        with attended_terminal() as terminal:
            process = terminal.start(keyed, "run", "--tool", "shell.run", "-t", "t", "hi")
            termios.tcflow(terminal.side, termios.TCOOFF)
            until(lambda: any(event["type"] == "approval_requested" for event in keyed.log()))

            process.send_signal(signal.SIGTERM)

            assert ended(process) == -signal.SIGTERM
        assert state(keyed) == "cancelled"

    def test_a_terminal_that_nobody_reads_does_not_hold_up_a_signal(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="x" * 3000, repeat=1000))
        main, side = pty.openpty()
        process = keyed.start("run", "-t", "t", "hi", stdout=side, stderr=side)
        server.wait_for_requests(1, LIMIT)
        until(lambda: streamed(keyed) > 60 * 3000)

        process.send_signal(signal.SIGTERM)

        assert ended(process) == -signal.SIGTERM
        os.close(main)
        os.close(side)


class TestOtherCommands:
    @pytest.mark.parametrize(
        "command", [["threads", "export", "--all"], ["threads", "show", "t"], ["events", "tail", "-n", "1000"]]
    )
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_a_command_whose_output_nobody_reads(
        self, keyed: Shell, server: ModelServer, command: list[str], number: signal.Signals
    ) -> None:
        keyed.afk("run", "-t", "t", "hi")
        reader, writer = full_pipe()
        process = keyed.start(*command, stdout=writer)
        until(lambda: waits_in_a_write(process))

        process.send_signal(number)

        assert ended(process) == -number
        assert keyed.afk("run", "-t", "t", "more").code == 0  # nothing holds the thread
        os.close(reader)
        os.close(writer)

    def test_a_thread_can_be_written_while_the_reader_of_its_export_has_stopped(self, keyed: Shell) -> None:
        keyed.afk("run", "-t", "t", "hi")
        reader, writer = full_pipe()
        process = keyed.start("threads", "export", "--all", stdout=writer)
        until(lambda: waits_in_a_write(process))

        assert keyed.afk("run", "-t", "t", "more").code == 0

        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def waits_in_a_write(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a command sleeps in the write to a pipe, by proc(5); with `--warm` a child of the worker does."""
    if not Path("/proc/self/wchan").exists():
        pytest.skip("where a process sleeps is read from /proc")
    if process.poll() is not None:
        pytest.fail(f"it ended with {process.returncode}")
    try:
        calls = [Path(f"/proc/{pid}/syscall").read_text().split() for pid in runs_in(process.pid)]
    except ProcessLookupError:
        return False
    except OSError:
        pytest.skip("where a process sleeps cannot be read here")
    return any(call[:2] == ["1", "0x1"] for call in calls)  # write(1, ...)


def waiting_in(descriptor: int) -> int:
    """Return how many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4), "little")


class TestDescriptors:
    def test_the_descriptors_of_the_caller_are_left_as_they_were(self, keyed: Shell) -> None:
        pipes = [os.pipe() for _ in range(3)]
        before = [[fcntl.fcntl(end, fcntl.F_GETFL) for end in pipe] for pipe in pipes]
        stdin, stdout, stderr = pipes
        process = keyed.start("run", "-n", "hi", stdin=stdin[0], stdout=stdout[1], stderr=stderr[1])
        during = []
        while process.poll() is None:
            during.append([[fcntl.fcntl(end, fcntl.F_GETFL) for end in pipe] for pipe in pipes])
            time.sleep(0.01)

        assert ended(process) == 0
        assert all(flags == before for flags in during)
        assert [[fcntl.fcntl(end, fcntl.F_GETFL) for end in pipe] for pipe in pipes] == before
        for pipe in pipes:
            os.close(pipe[0])
            os.close(pipe[1])

    def test_the_terminal_of_the_caller_is_left_as_it_was(self, keyed: Shell, server: ModelServer) -> None:
        with attended_terminal() as terminal:
            before = fcntl.fcntl(terminal.side, fcntl.F_GETFL)
            process = terminal.start(keyed, "run", "-t", "t", "hi")
            terminal.wait_for("reply 1: hi")
            assert ended(process) == 0
            assert fcntl.fcntl(terminal.side, fcntl.F_GETFL) == before

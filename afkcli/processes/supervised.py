"""A program below a supervisor, which ends the program and all that it started, however afk ends."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from afkcli.processes.descendants import STOP_SECONDS
from afkcli.processes.sandbox import Sandbox, SandboxError
from afkcli.processes.strays import Tree, new_mark

SUPERVISOR = Path(__file__).with_name("supervisor.py")
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1].rpartition('/')[0]); import supervisor; supervisor.main(sys.argv[2:])"
)
"""Imported and not executed as a file, so that its bytecode is kept, as that of all modules."""
READ_BYTES = 64 * 1024
CLOSE_SECONDS = 0.2
"""How long the end is waited for when a process is left: less than afk gives a tool to clean up."""
GIVE_UP_SECONDS = 7.0
"""How long the end is waited for beyond the time of grace: more than the time after which the supervisor gives up on a
process that does not die."""

LATE_SECONDS = 3.0
"""How much longer than its limit, and the time to end by itself, a program may run until its supervisor is given up."""

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was still running when a program was stopped.

    Attributes:
        running: the number of its processes that still ran, itself included.
        left: the number of those that could not be stopped.
    """

    running: int
    left: int


@dataclass(slots=True)
class _Said:
    """The supervisor's messages so far."""

    values: dict[str, int] = field(default_factory=dict)
    executed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, line: bytes) -> None:
        word, _, number = line.decode().partition(" ")
        self.values[word] = int(number)
        if word in ("executed", "failed", "refused"):
            self.executed.set()
        elif word == "ended":
            self.ended.set()


class SupervisedProcess:
    """A program, and all processes that come from it, below a supervisor of its own.

    The program leads a session of its own. On Linux the supervisor adopts what loses its parent or leaves the session,
    so all of it is found. It is ended by `stop`, by `aclose` (the end of `async with`), at its limit of time, and when
    this process ends in any way. A program that suspends or kills its supervisor is ended at once, with all that it
    started. As root, the program loses the capabilities with which it could read the memory of this process.

    Attributes:
        stdin: where to write to the program; None unless it was started with `PIPE`.
        stdout: what it writes. A pipe that is not read holds the program up, so nothing is stored without a bound.
        stderr: the same for stderr.
        ended: is set when the program itself has ended; processes that it left behind may still run.
        gone: is set when nothing of it runs any more.

    Since: 0.2.
    """

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: str | None,
        environment: Mapping[str, str],
        stdin: int | IO[bytes],
        limit: float,
        most: int,
        sandbox: Sandbox | None,
    ) -> None:
        """Start the supervisor; use `start`."""
        self._said = _Said()
        self.ended, self.gone = self._said.ended, asyncio.Event()
        self.stdin = None
        self._limit = limit
        self._lost = ""
        self._reaped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._transports: list[asyncio.BaseTransport] = []
        self._listening: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._late: asyncio.TimerHandle | None = None
        self._control, theirs = socket.socketpair()
        mark = new_mark()
        policy = "" if sandbox is None else marshal.dumps(sandbox.policy()).hex()
        has_ctype = str(int("LC_CTYPE" in environment))
        options = [str(theirs.fileno()), str(os.getpid()), repr(limit), str(most), str(mark), has_ctype, policy]
        try:
            self._process = _start([*options, *argv], theirs.fileno(), cwd=folder, env=environment, stdin=stdin)
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()
        self._tree = Tree(self._process.pid, mark)
        self._watching = threading.Thread(target=self._watch, name="afk-processes", daemon=True)
        self._watching.start()

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        folder: str | None = None,
        environment: Mapping[str, str],
        stdin: int | IO[bytes] = DEVNULL,
        limit: float = 0.0,
        max_processes: int = 0,
        sandbox: Sandbox | None = None,
    ) -> Self:
        """Start a program and return it when it is being executed.

        Args:
            argv: what is executed, without a shell: the program, looked up on the PATH of `environment`, and its
                arguments. A launcher, for example of a sandbox, is put in front of it.
            folder: the working folder; None for this process's own.
            environment: all variables that it gets.
            stdin: `PIPE` for a stream to write to, `DEVNULL`, or a file that it reads.
            limit: how long it may run, in seconds; 0 for no limit. Then it gets SIGTERM, and is killed a second later.
            max_processes: how many processes and threads it may have at once, itself included; 0 for no limit. With
                more it is killed, with all that it started. Only Linux counts them.
            sandbox: what `make_sandbox` returned; None runs it with all rights of the user.

        Raises:
            SandboxError: the system refused a part of the sandbox.
            OSError: the program could not be executed; with a `filename` if it is the supervisor that could not be.
        """
        process = cls(
            argv,
            folder=folder,
            environment=environment,
            stdin=stdin,
            limit=limit,
            most=max_processes,
            sandbox=sandbox,
        )
        try:
            await process._connect()
            await process._said.executed.wait()
            values = process._said.values
            if "refused" in values:
                raise SandboxError(f"the system refused a part of the sandbox: {os.strerror(values['refused'])}")
            number = values.get("failed", 0)
            if number:
                raise OSError(number, os.strerror(number))
        except BaseException:
            await process.aclose()
            raise
        return process

    @property
    def pid(self) -> int:
        """The process id of the program, 0 if it is unknown."""
        return self._said.values.get("started", 0)

    @property
    def status(self) -> int | None:
        """How the program ended, as in waitpid(2); None while it runs, or if it is unknown."""
        return self._said.values.get("ended")

    @property
    def exit_code(self) -> int | None:
        """How the program ended: its exit code, or the number of the signal that killed it, negative; None as above."""
        return None if self.status is None else os.waitstatus_to_exitcode(self.status)

    @property
    def timed_out(self) -> bool:
        """Whether it ran for longer than its limit, and was stopped."""
        return "limit" in self._said.values

    @property
    def crowded(self) -> int:
        """How many processes and threads it had when it was killed for having more than `max_processes`, else 0."""
        return self._said.values.get("crowded", 0)

    @property
    def lost(self) -> str:
        """What happened to its supervisor, if that was not the end of the program: "suspended", "killed" or ""."""
        return self._lost

    async def wait(self) -> int | None:
        """Wait until the program itself has ended, and return its `exit_code`."""
        await self.ended.wait()
        return self.exit_code

    async def stop(self, grace: float) -> Stopped:
        """End the program and all that it started, and return what still ran.

        Args:
            grace: how long they may take to end by themselves after SIGTERM, in seconds; then they are killed.
        """
        if self._writer is not None and not self.gone.is_set():
            self._writer.write(f"stop {grace:g}\n".encode())
        await _within(grace + GIVE_UP_SECONDS, self.gone)
        if not self.gone.is_set():
            self._end_late()
            await _within(GIVE_UP_SECONDS, self.gone)
        values = self._said.values
        return Stopped(running=values.get("stopped", 0), left=values.get("left", 0))

    async def aclose(self) -> None:
        """Have the rest killed at once, and close the streams. The supervisor does it even if nothing waits here."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        await _within(CLOSE_SECONDS, self.gone)
        if self._watching.is_alive():
            self._end_late(GIVE_UP_SECONDS)
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._control)
        self._listening = loop.create_task(self._listen(reader))
        if self._limit:
            self._late = loop.call_later(self._limit + STOP_SECONDS + LATE_SECONDS, self._end_late)
        self.stdout, self.stderr = [await self._readable(pipe) for pipe in (self._process.stdout, self._process.stderr)]
        if self._process.stdin is not None:
            protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
            transport, _ = await loop.connect_write_pipe(lambda: protocol, self._process.stdin)
            self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
            self._transports.append(transport)

    async def _readable(self, pipe: IO[bytes] | None) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=READ_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._transports.append(transport)
        return reader

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: not a line of a supervisor
            while line := await reader.readline():
                self._said.take(line.strip())
                self._tree.command = 0 if self.ended.is_set() else self.pid
        self._said.executed.set()
        await self._reaped.wait()
        self.ended.set()
        self.gone.set()

    def _watch(self) -> None:
        """Wait on a thread for the end of the supervisor. One that is suspended is ended with all its processes."""
        code = None
        with contextlib.suppress(ChildProcessError):  # this process ignores SIGCHLD: the end is all that is known
            while True:
                status = os.waitpid(self._process.pid, os.WUNTRACED)[1]
                if not os.WIFSTOPPED(status):
                    break
                self._lost = "suspended"
                self._tree.end()
            code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code or 0
        if code == 0:
            self._tree.forget()
        else:
            self._lost = self._lost or ("" if code is None else "killed")
            self._tree.end_strays()
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nothing waits any more
            self._loop.call_soon_threadsafe(self._reaped.set)

    def _end_late(self, seconds: float = 0.0) -> None:
        """End the supervisor and all its processes on a thread, if that is not done by itself within `seconds`."""

        def end() -> None:
            self._watching.join(seconds)
            if self._watching.is_alive():
                self._tree.end()

        threading.Thread(target=end, name="afk-processes-late", daemon=True).start()

    def _close(self) -> None:
        for transport in self._transports:
            transport.close()
        if self.stdin is not None and self.stdin.transport.get_write_buffer_size():
            self.stdin.transport.abort()  # closing alone would wait for a program that does not read
        if self._late is not None:
            self._late.cancel()
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()


def _start(
    arguments: Sequence[str], control: int, *, cwd: str | None, env: Mapping[str, str], stdin: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - a list of arguments; no shell is involved
        [sys.executable, "-I", "-S", "-c", _CODE, str(SUPERVISOR), *arguments],
        stdin=stdin,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd,
        env=env,
        bufsize=0,
        pass_fds=[control],
        # Its own group, but our session: when we end, the kernel continues a suspended group of our session, so that
        # it ends too (POSIX, "orphaned process group"). What it starts leads a session of its own.
        process_group=0,
    )


async def _within(seconds: float, *events: asyncio.Event) -> None:
    """Wait until all `events` are set, at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for event in events:
                await event.wait()

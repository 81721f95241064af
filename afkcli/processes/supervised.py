"""A program below a supervisor, which ends the program and all that it started, however afk ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

SUPERVISOR = Path(__file__).with_name("supervisor.py")
READ_BYTES = 64 * 1024
CLOSE_SECONDS = 0.2
"""How long the end is waited for when a process is left: less than afk gives a tool to clean up."""
GIVE_UP_SECONDS = 7.0
"""How long the end is waited for beyond the time of grace: more than the time after which the supervisor gives up on a
process that does not die."""

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
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, line: bytes) -> None:
        word, _, number = line.decode().partition(" ")
        self.values[word] = int(number)
        if word in ("executed", "failed"):
            self.executed.set()
        elif word == "ended":
            self.ended.set()

    def end(self) -> None:
        for event in (self.executed, self.ended, self.gone):
            event.set()


class SupervisedProcess:
    """A program, and all processes that come from it, below a supervisor of its own.

    The program leads a session of its own. On Linux the supervisor adopts what loses its parent or leaves the session,
    so all of it is found. It is ended by `stop`, by `aclose` (the end of `async with`), and when this process ends in
    any way. As root, the program loses the capabilities with which it could read the memory of this process.

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
        self, argv: Sequence[str], *, folder: str | None, environment: Mapping[str, str], stdin: int | IO[bytes]
    ) -> None:
        """Start the supervisor; use `start`."""
        self._said = _Said()
        self.ended, self.gone = self._said.ended, self._said.gone
        self.stdin = None
        self._transports: list[asyncio.BaseTransport] = []
        self._listening: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._control, theirs = socket.socketpair()
        try:
            self._process = _start(argv, theirs.fileno(), cwd=folder, env=environment, stdin=stdin)
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        folder: str | None = None,
        environment: Mapping[str, str],
        stdin: int | IO[bytes] = DEVNULL,
    ) -> Self:
        """Start a program and return it when it is being executed.

        Args:
            argv: what is executed, without a shell: the program, looked up on the PATH of `environment`, and its
                arguments. A launcher, for example of a sandbox, is put in front of it.
            folder: the working folder; None for this process's own.
            environment: all variables that it gets.
            stdin: `PIPE` for a stream to write to, `DEVNULL`, or a file that it reads.

        Raises:
            OSError: the program could not be executed; with a `filename` if it is the supervisor that could not be.
        """
        process = cls(argv, folder=folder, environment=environment, stdin=stdin)
        try:
            await process._connect()
            await process._said.executed.wait()
            number = process._said.values.get("failed", 0)
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
        values = self._said.values
        return Stopped(running=values.get("stopped", 0), left=values.get("left", 0))

    async def aclose(self) -> None:
        """Have the rest killed at once, and close the streams. The supervisor does it even if nothing waits here."""
        self._hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.gone.wait()
                while self._process.poll() is None:  # noqa: ASYNC110 - it is ending, and there is no event to wait for
                    await asyncio.sleep(0.002)
        if self._process.poll() is None:  # it still works, or the machine is slow; nothing else would end it
            threading.Thread(target=self._process.wait, name="afk-reaper", daemon=True).start()
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._control)
        self._listening = loop.create_task(self._listen(reader))
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
        self._said.end()

    def _hang_up(self) -> None:
        """Close the supervisor's socket, so that it stops everything; if it was killed, stop what can be found."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        values = self._said.values
        if self.gone.is_set() and "started" in values and "ended" not in values:
            with contextlib.suppress(OSError):
                os.killpg(values["started"], signal.SIGKILL)

    def _close(self) -> None:
        for transport in self._transports:
            transport.close()
        if self.stdin is not None and self.stdin.transport.get_write_buffer_size():
            self.stdin.transport.abort()  # closing alone would wait for a program that does not read
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()


def _start(
    argv: Sequence[str], control: int, *, cwd: str | None, env: Mapping[str, str], stdin: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    has_ctype = "1" if "LC_CTYPE" in env else "0"
    return subprocess.Popen(  # noqa: S603 - a list of arguments; no shell is involved
        [sys.executable, "-I", "-S", "-B", str(SUPERVISOR), str(control), has_ctype, *argv],
        stdin=stdin,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd,
        env=env,
        bufsize=0,
        pass_fds=[control],
        start_new_session=True,
    )


async def _within(seconds: float, *events: asyncio.Event) -> None:
    """Wait until all `events` are set, at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for event in events:
                await event.wait()

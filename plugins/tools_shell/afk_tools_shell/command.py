"""A command that runs below a supervisor: its output, bounded while it is read, and its end."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

SUPERVISOR = Path(__file__).with_name("supervisor.py")
DRAIN_SECONDS = 0.5
"""How long processes that a command leaves running may still write, after its end."""
LAST_SECONDS = 0.05
"""How long a process that has just closed the streams may take to end before it counts as left running."""
CLOSE_SECONDS = 0.2
"""How long a pipe is read after everything was stopped, and how long the supervisor's last line may take when a call is
cancelled. It is less than afk gives a tool to clean up."""
STOPPED_SECONDS = 8.0
"""More than the time after which the supervisor gives up on a process that does not die."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a command ended: `status` as in waitpid(2), or None if it is unknown."""

    status: int | None
    timed_out: bool
    stdout: str
    stderr: str
    stopped: int
    left: int


@dataclass(slots=True)
class _Said:
    """The supervisor's messages so far."""

    values: dict[str, int] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, line: bytes) -> None:
        word, _, number = line.decode().partition(" ")
        self.values[word] = int(number)
        if word == "ended":
            self.ended.set()

    def end(self) -> None:
        for event in (self.ended, self.gone):
            event.set()


class Output(asyncio.Protocol):
    """The output of a command on one stream: only its beginning and its end are kept."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max(1, max_bytes // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Keep as much of `data` as fits."""
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:][-self._half :]
        if len(self._tail) > 4 * self._half:
            del self._tail[: -self._half]

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end of the stream."""
        self.closed.set()

    def text(self) -> str:
        """Return the kept text, with a mark where a part was cut; bytes that are not UTF-8 become U+FFFD."""
        tail = bytes(self._tail[-self._half :])
        cut = self._total - len(self._head) - len(tail)
        if not cut:
            return (bytes(self._head) + tail).decode(errors="replace")
        head = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._head))  # without half a character
        whole = tail.lstrip(bytes(range(0x80, 0xC0)))
        cut = self._total - len(head.encode()) - len(whole)
        return f"{head}\n[... {cut} bytes were cut out here ...]\n{whole.decode(errors='replace')}"


class Command:
    """One command below its supervisor. Leaving the `async with` stops all of its processes."""

    def __init__(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: str | None, max_bytes: int):
        self._said = _Said()
        self.stdout, self.stderr = Output(max_bytes), Output(max_bytes)
        self._control, theirs = socket.socketpair()
        try:
            with _stdin(stdin) as source:
                self._process = _start(argv, theirs.fileno(), cwd=cwd, env=env, stdin=source)
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()
        self._transports: list[asyncio.BaseTransport] = []
        self._listening: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._control)
        self._listening = loop.create_task(self._listen(reader))
        for pipe, output in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr)):
            transport, _ = await loop.connect_read_pipe(lambda output=output: output, cast("IO[bytes]", pipe))  # type: ignore[misc]
            self._transports.append(transport)

    async def __aexit__(self, *error: object) -> None:
        """Stop the remaining processes. The supervisor does it, so it is done even if nothing waits here."""
        self._hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._said.gone.wait()
                while self._process.poll() is None:  # noqa: ASYNC110 - it is ending, and there is no event to wait for
                    await asyncio.sleep(0.002)
        if self._process.poll() is None:  # it still works, or the machine is slow; nothing else would end it
            threading.Thread(target=self._process.wait, name="afk-shell-reaper", daemon=True).start()
        self._close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: not a line of a supervisor
            while line := await reader.readline():
                self._said.take(line.strip())
        self._said.end()

    async def outcome(self, timeout_s: float) -> Outcome:
        """Return how the command ended; one that takes longer than `timeout_s` is stopped.

        Raises:
            OSError: it could not be executed.
        """
        timed_out = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._said.ended.wait()
        except TimeoutError:
            timed_out = True
        if "failed" in self._said.values:
            number = self._said.values["failed"]
            raise OSError(number, os.strerror(number))
        if not timed_out:
            await _within(DRAIN_SECONDS, self.stdout.closed, self.stderr.closed)
            await _within(LAST_SECONDS, self._said.gone)
        await self._stop()
        await _within(CLOSE_SECONDS, self.stdout.closed, self.stderr.closed)
        values = self._said.values
        return Outcome(
            status=values.get("ended"),
            timed_out=timed_out,
            stdout=self.stdout.text(),
            stderr=self.stderr.text(),
            stopped=values.get("stopped", 0),
            left=values.get("left", 0),
        )

    async def _stop(self) -> None:
        """Have all processes stopped, and wait for it."""
        if self._writer is not None and not self._said.gone.is_set():
            self._writer.write(b"stop\n")
        await _within(STOPPED_SECONDS, self._said.gone)

    def _hang_up(self) -> None:
        """Close the supervisor's socket, so that it stops everything; if it was killed, stop what can be found."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        values = self._said.values
        if self._said.gone.is_set() and "started" in values and "ended" not in values:
            with contextlib.suppress(OSError):
                os.killpg(values["started"], signal.SIGKILL)

    def _close(self) -> None:
        for transport in self._transports:
            transport.close()
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def _stdin(text: str | None) -> Any:
    """Give a file with `text` (a command that does not read it blocks nothing), or /dev/null."""
    if text is None:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode(errors="replace"))
        file.seek(0)
        yield file


def _start(argv: Sequence[str], control: int, **options: Any) -> subprocess.Popen[bytes]:
    has_ctype = "1" if "LC_CTYPE" in options["env"] else "0"
    return subprocess.Popen(  # noqa: S603 - a list of arguments; no shell is involved
        [sys.executable, "-I", "-S", "-B", str(SUPERVISOR), str(control), has_ctype, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=[control],
        start_new_session=True,
        **options,
    )


async def _within(seconds: float, *events: asyncio.Event) -> None:
    """Wait until all `events` are set, at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for event in events:
                await event.wait()

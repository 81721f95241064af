"""A command that runs below a supervisor: its output, bounded while it is read, and its end."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from afkcli.plugin import DEVNULL, Sandbox, SupervisedProcess

READ_BYTES = 64 * 1024
DRAIN_SECONDS = 0.5
"""How long processes that a command leaves running may still write, after its end."""
LAST_SECONDS = 0.05
"""How long a process that has just closed the streams may take to end before it counts as left running."""
STOP_SECONDS = 1.0
"""How long a command that took too long may take to end by itself, after SIGTERM."""
CLOSE_SECONDS = 0.2
"""How long a pipe is read after everything was stopped."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a command ended: `status` as in waitpid(2), or None if it is unknown; `crowded` and `lost` as of a
    `SupervisedProcess`."""

    status: int | None
    timed_out: bool
    stdout: str
    stderr: str
    stopped: int
    left: int
    crowded: int
    lost: str


class Output:
    """The output of a command on one stream: only its beginning and its end are kept."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max(1, max_bytes // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Read `stream` to its end."""
        while data := await stream.read(READ_BYTES):
            self.take(data)

    def take(self, data: bytes) -> None:
        """Keep as much of `data` as fits."""
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:][-self._half :]
        if len(self._tail) > 4 * self._half:
            del self._tail[: -self._half]

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


async def run_command(
    argv: Sequence[str],
    *,
    folder: str,
    environment: Mapping[str, str],
    stdin: str | None,
    max_bytes: int,
    limit: float,
    max_processes: int,
    sandbox: Sandbox | None,
) -> Outcome:
    """Run a command and return how it ended; one that takes longer than `limit` seconds is stopped.

    Raises:
        SandboxError: the system refused a part of the sandbox.
        OSError: it could not be executed; with a `filename` if it was not even tried.
    """
    with _stdin(stdin) as source:
        process = await SupervisedProcess.start(
            argv,
            folder=folder,
            environment=environment,
            stdin=source,
            limit=limit,
            max_processes=max_processes,
            sandbox=sandbox,
        )
    stdout, stderr = Output(max_bytes), Output(max_bytes)
    async with process:
        reading = [
            asyncio.ensure_future(stdout.read(process.stdout)),
            asyncio.ensure_future(stderr.read(process.stderr)),
        ]
        try:
            await process.wait()
            if not process.timed_out:
                await asyncio.wait(reading, timeout=DRAIN_SECONDS)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.gone.wait(), LAST_SECONDS)
            stopped = await process.stop(STOP_SECONDS)
            await asyncio.wait(reading, timeout=CLOSE_SECONDS)
        finally:
            for task in reading:
                task.cancel()
    return Outcome(
        status=process.status,
        timed_out=process.timed_out,
        stdout=stdout.text(),
        stderr=stderr.text(),
        stopped=stopped.running,
        left=stopped.left,
        crowded=process.crowded,
        lost=process.lost,
    )


@contextmanager
def _stdin(text: str | None) -> Iterator[int | IO[bytes]]:
    """Give a file with `text` (a command that does not read it blocks nothing), or /dev/null."""
    if text is None:
        yield DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode(errors="replace"))
        file.seek(0)
        yield file

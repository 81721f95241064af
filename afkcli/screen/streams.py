"""stdout: written by the event loop without blocking it, or at once by a command."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from afkcli.core.contract.errors import AfkError
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.text import visible, visible_json
from afkcli.host.descriptors import WriteWorker, own_descriptor, write_all
from afkcli.host.ending import EndedError, Ending
from afkcli.host.invocation import Invocation
from afkcli.host.signals import SIGPIPE
from afkcli.screen.styles import shows_styles, styled

if TYPE_CHECKING:
    from afkcli.host.transient import TransientLine

_WORKER_CHUNK = 1 << 16
_PIECE = 1 << 16
_CHUNK = 4096  # PIPE_BUF on Linux: a line up to this size stays whole in a pipe that several processes write to
_ENCODED_CHARS = 1 << 20  # a long text is not in memory a second time as bytes


class Output:
    """stdout, written without blocking the event loop: signals and leases work while nothing reads it.

    Args:
        descriptor: of stdout.
        transient: a line that may be drawn on the terminal, and is erased before anything is written. Since: 0.2.

    `written` is how many bytes were written so far.
    """

    def __init__(self, descriptor: int, transient: TransientLine | None = None) -> None:
        self._own: int | None = None
        self._descriptor = descriptor
        self._transient = transient
        self._before_write = transient.before_writes_to(descriptor) if transient is not None else None
        self._texts: list[str] = []
        self._worker: WriteWorker | None = None
        self.is_terminal = os.isatty(descriptor)
        self.written = 0

    def put(self, text: str) -> None:
        """Keep `text` for the next `flush`."""
        self._texts.append(text)

    async def flush(self) -> None:
        """Write the texts that were put aside, as UTF-8, in one piece if they are not very long.

        Raises:
            BrokenPipeError: the reader has gone.
            OSError: the disk is full, for instance.
        """
        texts, self._texts = self._texts, []
        if sum(map(len, texts)) <= _ENCODED_CHARS:
            texts = ["".join(texts)]
        for text in texts:
            for start in range(0, len(text), _ENCODED_CHARS):
                await self._write(text[start : start + _ENCODED_CHARS].encode("utf-8", "replace"))

    async def _write(self, data: bytes) -> None:
        if self._before_write is not None and data:
            data = self._before_write(data)
        if self._own is None and self._worker is None:
            self._own = own_descriptor(self._descriptor)
        if self._own is None:
            await self._write_by_worker(data)
        else:
            await self._write_when_writable(self._own, memoryview(data))

    def terminal_size(self) -> tuple[int, int]:
        """Return the columns and the lines of the terminal now; 80 and 24 if it does not say. Since: 0.2."""
        try:
            columns, lines = os.get_terminal_size(self._descriptor if self._own is None else self._own)
        except OSError:
            return 80, 24
        return columns or 80, lines or 24

    def close(self) -> None:
        """Close what was opened to write, not the descriptor itself."""
        own, self._own = self._own, None
        if own is not None:
            os.close(own)

    def __del__(self) -> None:
        self.close()

    async def _write_when_writable(self, own: int, data: memoryview) -> None:
        while data:
            try:
                taken = os.write(own, data[:_CHUNK])
            except BlockingIOError:
                with _nothing_transient(self._transient):
                    await writable(own)
            else:
                data = data[taken:]
                self.written += taken

    async def _write_by_worker(self, data: bytes) -> None:
        if self._worker is None:
            self._worker = WriteWorker(self._descriptor)
        for start in range(0, len(data), _WORKER_CHUNK):
            piece = data[start : start + _WORKER_CHUNK]
            error = await _written_by(self._worker, piece)
            if error is not None:
                raise error
            self.written += len(piece)


def _nothing_transient(transient: TransientLine | None) -> contextlib.AbstractContextManager[None]:
    """Return a context in which no transient line is drawn, because text for the terminal waits to be written."""
    return transient.hidden() if transient is not None else contextlib.nullcontext()


async def _written_by(worker: WriteWorker, piece: bytes) -> OSError | None:
    """Have a worker write `piece`, and return its error once it has."""
    import asyncio  # not at the top: a command that lists something does not need it

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[OSError | None] = loop.create_future()

    def end(error: OSError | None) -> None:
        if not ended.done():  # nobody waits any more
            ended.set_result(error)

    def tell(error: OSError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(end, error)

    worker.put(piece, tell)
    return await ended


async def writable(descriptor: int) -> None:
    """Wait until a write to a descriptor that does not block takes something, or fails."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


def unwritable(error: OSError) -> EndedError | AfkError:
    """Return what a failed write to stdout ends a command with: SIGPIPE if its reader has gone, else an error."""
    if is_disconnected(error):
        return EndedError(Ending(signal=SIGPIPE))
    return AfkError(f"stdout cannot be written: {error.strerror}")


class Stdout:
    """stdout as UTF-8, for data only. Colours and shortened lines are for terminals."""

    def __init__(self, invocation: Invocation) -> None:
        self.descriptor = invocation.stdout.descriptor
        self.is_terminal = invocation.stdout.is_terminal
        self.columns = invocation.columns
        self.lines_shown = invocation.lines
        self._styled = shows_styles(invocation, invocation.stdout)
        self._invocation = invocation

    def write(self, text: str) -> None:
        """Write `text`; a transient line on the terminal is erased before.

        Raises:
            EndedError: the reader has gone, so the process dies of SIGPIPE without a message, as `yes | head` does.
            AfkError: it cannot be written (a full disk).
        """
        transient = self._invocation.transient
        before_write = transient.before_writes_to(self.descriptor) if transient is not None and text else None
        data = text.encode("utf-8", "replace")
        try:
            write_all(self.descriptor, before_write(data) if before_write is not None else data)
        except OSError as error:
            raise unwritable(error) from None

    def lines(self, lines: Iterable[str]) -> int:
        """Write each of `lines` with a newline: all at once, or in pieces where they are many. Return how many."""
        piece: list[str] = []
        count = size = 0
        for line in lines:
            count += 1
            piece.append(f"{line}\n")
            size += len(line)
            if size >= _PIECE:
                self.write("".join(piece))
                piece, size = [], 0
        self.write("".join(piece))
        return count

    def objects(self, objects: Iterable[object]) -> int:
        """Write each object as one line of JSON, and return how many there were."""
        return self.json_lines(map(dumps, objects))

    def json_lines(self, lines: Iterable[str]) -> int:
        """Write lines of JSON: unchanged, or with control characters escaped on a terminal. Return how many."""
        return self.lines(map(visible_json, lines) if self.is_terminal else lines)

    def text(self, text: str) -> str:
        """Return text of several lines: with control characters made visible on a terminal, else unchanged."""
        return visible(text) if self.is_terminal else text

    @property
    def has_styles(self) -> bool:
        """Whether colours are shown."""
        return self._styled

    def styled(self, text: str, style: str) -> str:
        """Return `text` with an SGR parameter of ECMA-48 where colours are shown."""
        return styled(text, style) if self._styled else text


def is_disconnected(error: OSError) -> bool:
    """Return whether a write failed because the reader has gone."""
    return isinstance(error, BrokenPipeError) or error.errno in (errno.EPIPE, errno.ESHUTDOWN, errno.EIO)

"""stdout: written by the event loop without blocking it, or at once by a command."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
from collections.abc import Iterable

from afkcli.core.contract.errors import AfkError
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.text import visible, visible_json
from afkcli.host.ending import EndedError, Ending
from afkcli.host.invocation import Invocation
from afkcli.host.signals import SIGPIPE
from afkcli.screen.styles import shows_styles, styled

_PIPE_CHUNK = 4096  # PIPE_BUF on Linux: a pipe that polls writable takes this much without blocking


class Output:
    """stdout, written without blocking the event loop: signals and leases work while nothing reads it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._texts: list[str] = []
        self.is_terminal = os.isatty(descriptor)

    def put(self, text: str) -> None:
        """Keep `text` for the next `flush`."""
        self._texts.append(text)

    async def flush(self) -> None:
        """Write the texts that were put aside, as UTF-8, in one piece.

        Raises:
            BrokenPipeError: the reader has gone.
            OSError: the disk is full, for instance.
        """
        data = memoryview("".join(self._texts).encode("utf-8", "replace"))  # a slice of a view is no copy of the rest
        self._texts.clear()
        while data:
            await self._writable()
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._descriptor, data[:_PIPE_CHUNK]) :]

    async def _writable(self) -> None:
        if os.name == "nt":  # select works on sockets only there; the write may block
            return
        if select.select([], [self._descriptor], [], 0)[1]:
            return
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)


class Stdout:
    """stdout as UTF-8, for data only. Colours and shortened lines are for terminals."""

    def __init__(self, invocation: Invocation) -> None:
        self.descriptor = invocation.stdout.descriptor
        self.is_terminal = invocation.stdout.is_terminal
        self.columns = invocation.columns
        self._styled = shows_styles(invocation, invocation.stdout)

    def write(self, text: str) -> None:
        """Write `text`.

        Raises:
            EndedError: the reader has gone, so the process dies of SIGPIPE without a message, as `yes | head` does.
            AfkError: it cannot be written (a full disk).
        """
        data = memoryview(text.encode("utf-8", "replace"))
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:  # another process made the pipe non-blocking
                select.select([], [self.descriptor], [])
            except OSError as error:
                if is_disconnected(error):
                    raise EndedError(Ending(signal=SIGPIPE)) from None
                raise AfkError(f"stdout cannot be written: {error.strerror}") from None

    def lines(self, lines: Iterable[str]) -> None:
        """Write each of `lines` with a newline, all at once."""
        self.write("".join(f"{line}\n" for line in lines))

    def objects(self, objects: Iterable[object]) -> None:
        """Write each object as one line of JSON."""
        self.json_lines(map(dumps, objects))

    def json_lines(self, lines: Iterable[str]) -> None:
        """Write lines of JSON: unchanged, or with control characters escaped on a terminal."""
        self.lines(map(visible_json, lines) if self.is_terminal else lines)

    def text(self, text: str) -> str:
        """Return text of several lines: with control characters made visible on a terminal, else unchanged."""
        return visible(text) if self.is_terminal else text

    def styled(self, text: str, style: str) -> str:
        """Return `text` with an SGR parameter of ECMA-48 where colours are shown."""
        return styled(text, style) if self._styled else text


def is_disconnected(error: OSError) -> bool:
    """Return whether a write failed because the reader has gone."""
    return isinstance(error, BrokenPipeError) or error.errno in (errno.EPIPE, errno.ESHUTDOWN, errno.EIO)

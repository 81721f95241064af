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
from afkcli.host.ending import EndedError, Ending
from afkcli.host.invocation import Invocation
from afkcli.host.signals import SIGPIPE
from afkcli.screen.styles import shows_styles, styled
from afkcli.screen.text import visible, visible_json

_PIPE_CHUNK = 4096  # PIPE_BUF on Linux: a pipe that polls writable takes this much without blocking


class Output:
    """stdout, written without ever blocking the event loop: while nobody reads, signals and the lease still work."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._texts: list[str] = []
        self.is_terminal = os.isatty(descriptor)

    def put(self, text: str) -> None:
        """Put `text` aside for the next `flush`."""
        self._texts.append(text)

    async def flush(self) -> None:
        """Write what was put aside, as UTF-8; what arrived together is written together.

        Raises:
            BrokenPipeError: nobody reads any more.
            OSError: the disk is full, for instance.
        """
        data = "".join(self._texts).encode("utf-8", "replace")
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
    """stdout as UTF-8. It is only data; without a terminal there are no colours and nothing is shortened."""

    def __init__(self, invocation: Invocation) -> None:
        self.descriptor = invocation.stdout.descriptor
        self.is_terminal = invocation.stdout.is_terminal
        self.columns = invocation.columns
        self._styled = shows_styles(invocation, invocation.stdout)

    def write(self, text: str) -> None:
        """Write `text`.

        Raises:
            EndedError: nobody reads any more: the process dies of SIGPIPE, quietly, as `yes | head` does.
            AfkError: it cannot be written (a full disk).
        """
        data = memoryview(text.encode("utf-8", "replace"))
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:  # somebody made the pipe non-blocking
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
        """Write lines of JSON: to the letter, but for a terminal what would move it is escaped."""
        self.lines(map(visible_json, lines) if self.is_terminal else lines)

    def text(self, text: str) -> str:
        """Return text of several lines as it may be written: made visible on a terminal, to the letter elsewhere."""
        return visible(text) if self.is_terminal else text

    def styled(self, text: str, style: str) -> str:
        """Return `text` with an SGR parameter of ECMA-48 where colours are shown."""
        return styled(text, style) if self._styled else text


def is_disconnected(error: OSError) -> bool:
    """Whether a write failed because nobody reads any more."""
    return isinstance(error, BrokenPipeError) or error.errno in (errno.EPIPE, errno.ESHUTDOWN, errno.EIO)

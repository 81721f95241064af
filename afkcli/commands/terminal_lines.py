"""The terminal itself, whatever stdin and stdout are: lines to it and from it, one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from afkcli.core.contract.waits import waiting_for
from afkcli.host.invocation import TERMINAL, Invocation
from afkcli.screen.messages import Messages
from afkcli.screen.streams import writable

_ROWS, _COLUMNS = 24, 80


class TerminalLines:
    """An open terminal in its usual mode: a person edits a line before it can be read.

    Args:
        descriptor: the terminal, non-blocking and shared with no one, because its output can be stopped.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def columns(self) -> int:
        """The width of the terminal as it is now."""
        return self._size()[0]

    @property
    def rows(self) -> int:
        """The height of the terminal as it is now."""
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._descriptor)
        except OSError:
            return _COLUMNS, _ROWS
        return size.columns or _COLUMNS, size.lines or _ROWS

    async def write(self, text: str) -> None:
        """Write a text as it is.

        Raises:
            OSError: the terminal has gone.
        """
        data = text.encode("utf-8", "replace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                await writable(self._descriptor)

    async def ask(self, prompt: str, *, fresh: bool = False) -> str | None:
        """Write a prompt and return the line that is typed, without its newline; None at the end of input (Ctrl-D).

        Args:
            prompt: what is written in front.
            fresh: whether what was typed before the prompt is discarded.

        Raises:
            OSError: the terminal has gone.
        """
        if fresh:
            self._drop_typed()  # before the prompt: what is typed once it is seen counts
        await self.write(prompt)
        try:
            line = await self._line()
        except asyncio.CancelledError:  # Ctrl-C, or a timeout: what follows starts on a new line
            self._end_line()
            raise
        if line is None:
            self._end_line()
        return line

    def _drop_typed(self) -> None:
        import termios

        with contextlib.suppress(termios.error):
            termios.tcflush(self._descriptor, termios.TCIFLUSH)

    def _end_line(self) -> None:
        with contextlib.suppress(OSError):  # the output is stopped, and nothing waits for it now
            os.write(self._descriptor, b"\n")

    async def _line(self) -> str | None:
        loop = asyncio.get_running_loop()
        while True:
            readable = asyncio.Event()
            loop.add_reader(self._descriptor, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self._descriptor)
            with contextlib.suppress(BlockingIOError):  # another process read the line
                data = os.read(self._descriptor, 4096)
                return data.decode("utf-8", "replace").rstrip("\r\n") if data else None


@contextlib.asynccontextmanager
async def open_terminal(invocation: Invocation, messages: Messages) -> AsyncIterator[TerminalLines]:
    """Open the terminal once no other afk is asking on it."""
    import fcntl

    descriptor = os.open(invocation.terminal or TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    # /dev/tty is one file for all terminals; the lock belongs on this one's own.
    own = descriptor
    if invocation.stderr.is_terminal:
        own = os.open(os.ttyname(invocation.stderr.descriptor), os.O_RDWR | os.O_NOCTTY)
    try:
        with contextlib.ExitStack() as waiting:
            said = False
            while True:
                try:
                    fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not said:
                        messages.say("waiting for another afk that is asking on this terminal")
                        waiting.enter_context(waiting_for("another afk, which is asking on this terminal"))
                        said = True
                    await asyncio.sleep(0.2)
        yield TerminalLines(descriptor)
    finally:
        os.close(own)
        if own != descriptor:
            os.close(descriptor)

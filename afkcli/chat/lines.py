"""Reads the chat line by line: from a terminal on which nothing is drawn again, or from a pipe or a file.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Sequence

from afkcli.chat.reading import Left, Stopped, UnreadableError, continues, signals_taken
from afkcli.core.contract.errors import UsageError
from afkcli.host.invocation import Stream
from afkcli.screen.messages import Messages

PROMPT, CONTINUED = "> ", ". "
_MAX_BYTES = 8 << 20
_CHUNK = 1 << 16
_PASTE_SECONDS = 0.05
"""A line that comes so soon after another one was pasted, not typed."""


class _InterruptedError(Exception):
    """Ctrl-C at the prompt."""


class LineReader:
    """Reads lines; a line that ends with a backslash is continued.

    On a terminal each line is sent by Enter; lines that come at once were pasted, and wait for one more Enter. From a
    pipe or a file each line is a message, and empty ones are left out.

    Args:
        stdin: where the lines come from.
        messages: for lines to the person.
        stop_signals: the signals that end the chat.
        write: writes the prompt; None where nobody types, so that there is no prompt.
        say_status: says the status, if it has changed; called before each prompt.
    """

    keeps_text = False

    def __init__(
        self,
        stdin: Stream,
        messages: Messages,
        stop_signals: Sequence[int],
        *,
        write: Callable[[str], None] | None = None,
        say_status: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_attended = write is not None
        self._descriptor = stdin.descriptor
        self._messages = messages
        self._stop_signals = stop_signals
        self._write = write or (lambda text: None)
        self._say_status = say_status
        self._data = b""
        self._ended = False
        self._came = asyncio.Event()
        self._signal: int | None = None

    async def read(self, text: str = "") -> str:
        """As `Reader.read`; a text cannot be put back here."""
        self._signal, self._came = None, asyncio.Event()  # each loop has one of its own
        warned = False
        with signals_taken(self._stop_signals, self._take_signal):
            while True:
                try:
                    said = await self._message()
                except _InterruptedError:
                    if warned:
                        raise Left from None
                    warned = True
                    self._messages.say("press Ctrl-C again, or Ctrl-D, to leave")
                    continue
                warned = False
                if said.strip():
                    return said

    def close(self) -> None: ...

    async def _message(self) -> str:
        """Return the next lines that belong together; it may be blank."""
        self._say_status()
        self._write(PROMPT)
        lines = [await self._line()]
        while continues(lines[-1]) and not self._ended:
            lines[-1] = lines[-1][:-1]
            self._write(CONTINUED)
            lines.append(await self._line())
        if self.is_attended and await self._has_more():
            await self._pasted(lines)
        return "\n".join(lines)

    async def _pasted(self, lines: list[str]) -> None:
        """Take the lines that were pasted, and wait for the Enter that sends them; add lines that come before it."""
        while True:
            while await self._has_more():
                lines.append(await self._line())
            self._messages.say(f"{len(lines)} lines were pasted; Enter sends them, Ctrl-C drops them")
            self._write(CONTINUED)
            line = await self._line()
            if not line.strip() and not await self._has_more():
                return
            lines.append(line)

    async def _has_more(self) -> bool:
        if b"\n" in self._data:
            return True
        if self._ended:
            return False
        try:
            async with asyncio.timeout(_PASTE_SECONDS):
                await self._readable()
        except TimeoutError:
            return False
        return True

    async def _line(self) -> str:
        """Return the next line without its end.

        Raises:
            Left: there is no more.
        """
        while b"\n" not in self._data and not self._ended:
            await self._read_more()
        if not self._data:
            if self.is_attended:
                self._write("\n")
            raise Left
        line, _, self._data = self._data.partition(b"\n")
        try:
            text = line.rstrip(b"\r").decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UnreadableError(
                f"a line of the input is not UTF-8 text (byte {error.start}); it was not sent"
            ) from None
        if "\0" in text:
            raise UnreadableError("a line of the input contains NUL bytes, so it is not text; it was not sent")
        return text

    async def _read_more(self) -> None:
        await self._readable()
        try:
            data = os.read(self._descriptor, _CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:  # what a terminal that has gone gives (termios(4))
                raise UsageError(f"stdin cannot be read: {error.strerror}") from None
            data = b""
        self._data += data
        if len(self._data) > _MAX_BYTES:
            raise UsageError(f"a line of the input is longer than {_MAX_BYTES >> 20} MB; shorten it")
        if not data:
            self._ended = True

    async def _readable(self) -> None:
        """Wait until something can be read, or a signal comes."""
        loop = asyncio.get_running_loop()
        self._came.clear()
        try:
            loop.add_reader(self._descriptor, self._came.set)
        except PermissionError:  # a file: it can always be read
            await asyncio.sleep(0)
        else:
            try:
                if self._signal is None:
                    await self._came.wait()
            finally:
                loop.remove_reader(self._descriptor)
        self._raise_signal()

    def _take_signal(self, number: int) -> None:
        self._signal = number
        self._came.set()

    def _raise_signal(self) -> None:
        number, self._signal = self._signal, None
        if number is None:
            return
        if number != signal.SIGINT or not self.is_attended:
            raise Stopped(number)
        self._write("\n")
        self._data = b""
        raise _InterruptedError

"""A line on a terminal that stays only until something else is written there: a spinner or a bar.

The line is drawn below the cursor, and the cursor stays where it is. So a line of an answer that has not ended is not
touched, what a person types is echoed where it always is, and whatever moves below the cursor when the terminal is
resized is erased with the line.

The escape sequences are those of ECMA-48 and DEC STD 070 that every terminal since the VT100 knows.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import stat
import threading
import time

from afkcli.host.descriptors import LinesForPeople, has_foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ERASE = "\x1b[K\x1b7\x1b[B\r\x1b[J\x1b8"
"""What is behind the cursor, where the line is if a person has pressed Enter, and all lines below. They are erased from
the line below on, because some terminals take a screen that is erased from its first place as one to be kept.
"""
_ROOM_BELOW = "\x1bD\x1bM"
"""Down and up again by one line: at the last line of the screen this scrolls, so that there is a line below."""
_LEAST_LINES = 2
_MOST_KEPT = 1 << 16


class TransientLine:
    """The one line of a terminal that is drawn for a moment. All methods may be called from any thread.

    Whoever writes to the terminal writes what `before_write` returns.

    Args:
        descriptor: of a terminal.
        encoding: of the text on it.
        lines: writes to it.
        foreground_of: see `Invocation`.

    `written_at` is when something else was written last, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        descriptor: int,
        encoding: str,
        lines: LinesForPeople,
        foreground_of: Callable[[int], bool] = has_foreground,
    ) -> None:
        self._descriptor = descriptor
        self._lines = lines
        self._foreground_of = foreground_of
        self.encoding = codecs.lookup(encoding).name
        self._lock = threading.RLock()  # a signal handler may come in while its own thread draws
        self._is_drawn = False
        self._hidden = 0
        self._closed = False
        self._line = bytearray()  # what was written since the last newline
        self.written_at = time.monotonic()
        lines.before_write = self.before_write

    def draw(self, text: str, *, quiet_s: float, is_full: Callable[[str, int], bool]) -> None:
        """Draw the line, or draw it again with another text; a terminal that takes nothing now is left alone.

        Args:
            text: it must fit into one line of the terminal.
            quiet_s: for so many seconds nothing else may have been written; a line that is drawn already stays.
            is_full: tells of the text before the cursor and the width of the terminal whether the cursor is in the last
                column, behind its character: terminals forget that when they restore a cursor, and the next character
                would take the place of the last one. Then nothing is drawn.
        """
        with self._lock:
            if self._closed or self._hidden or not self.is_in_foreground():
                return
            if not self._is_free():
                self.erase()
                return
            if not self._is_drawn and time.monotonic() - self.written_at < quiet_s:
                return
            before = self._line.decode("utf-8", "replace")
            if len(self._line) > _MOST_KEPT or (before and is_full(before, self.columns())):
                self.erase()
                return
            drawn = f"{_ERASE if self._is_drawn else ''}{_ROOM_BELOW}\x1b7\x1b[B\r{text}\x1b8"
            if self._lines.write_now(drawn.encode(self.encoding)):
                self._is_drawn = True

    def before_write(self, data: bytes) -> bytes:
        """Return `data`, preceded by the bytes that erase the line."""
        with self._lock:
            self.written_at = time.monotonic()
            end = data.rfind(b"\n")
            if end >= 0:
                self._line = bytearray(data[end + 1 :])
            elif len(self._line) <= _MOST_KEPT:
                self._line += data
            if not self._is_drawn:
                return data
            self._is_drawn = False
            return _ERASE.encode() + data

    def erase(self) -> None:
        """Erase the line, if it is drawn."""
        with self._lock:
            if self._is_drawn and self._lines.write_now(_ERASE.encode()):
                self._is_drawn = False

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the line, and draw no line inside the block: a question is open on the terminal."""
        with self._lock:
            self._hidden += 1
            self.erase()
        try:
            yield
        finally:
            self.written_at = time.monotonic()
            with self._lock:
                self._hidden -= 1

    def close(self) -> None:
        """Erase the line, and draw no line any more."""
        with self._lock:
            self.erase()
            self._closed = True
            if self._lines.before_write == self.before_write:
                self._lines.before_write = None

    def before_writes_to(self, descriptor: int) -> Callable[[bytes], bytes] | None:
        """Return what is to be called before each write to stdout, as `before_write`; None if nothing is.

        What reads a pipe may write to the terminal at any time, so from the first write to a pipe on no line is drawn.
        """
        try:
            status = os.fstat(descriptor)
            if os.isatty(descriptor):
                return self.before_write if status.st_rdev == os.fstat(self._descriptor).st_rdev else None
        except OSError:
            return None
        return self._hand_over if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) else None

    def _hand_over(self, data: bytes) -> bytes:
        if not self._closed:
            self.close()
        return data

    def is_in_foreground(self) -> bool:
        """Return whether the process is in the foreground of the terminal; true where it has no job control."""
        try:
            return self._foreground_of(self._descriptor)
        except OSError:  # it is not the terminal of this session; Windows
            return True

    def columns(self) -> int:
        """Return the width of the terminal as it is now, 0 if it does not say."""
        return self._size()[0]

    def _size(self) -> tuple[int, int]:
        try:
            return os.get_terminal_size(self._descriptor)
        except OSError:
            return 0, 0

    def is_due(self, quiet_s: float) -> bool:
        """Return whether the line is drawn, or nothing else was written for so many seconds."""
        return self._is_drawn or time.monotonic() - self.written_at >= quiet_s

    def encodable(self, text: str) -> str:
        """Return `text` with a question mark for each character that the terminal's encoding does not have."""
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def _is_free(self) -> bool:
        """Return whether there is a line below, and no other program has the terminal: a pager, a shell, a password."""
        import termios

        columns, lines = self._size()
        try:
            modes: int = termios.tcgetattr(self._descriptor)[3]
        except termios.error:
            return False
        return bool(columns) and lines >= _LEAST_LINES and bool(modes & termios.ICANON) and bool(modes & termios.ECHO)

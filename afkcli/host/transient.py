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

from afkcli.host.descriptors import LinesForPeople

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ERASE_FROM_CURSOR = "\x1b[J"
_ERASE_BELOW = "\x1b7\x1b[B\r\x1b[J\x1b8"
_ROOM_BELOW = "\x1bD\x1bM"
"""Down and up again by one line: at the last line of the screen this scrolls, so that there is a line below."""
_LEAST_LINES = 2


class TransientLine:
    """The one line of a terminal that is drawn for a moment. All methods may be called from any thread.

    Whoever writes to the terminal calls `before_write` and writes what it returns in front of its own text.

    Args:
        descriptor: of a terminal.
        encoding: of the text on it.
        lines: writes to it.

    `written_at` is when something else was written last, in seconds of the monotonic clock.
    """

    def __init__(self, descriptor: int, encoding: str, lines: LinesForPeople) -> None:
        self._descriptor = descriptor
        self._lines = lines
        self.encoding = codecs.lookup(encoding).name
        self._lock = threading.RLock()  # a signal handler may come in while its own thread draws
        self._drawn = ""
        self._hidden = 0
        self._closed = False
        self.written_at = time.monotonic()
        lines.before_write = self.before_write

    def draw(self, text: str, *, quiet_s: float, mid_line: bool = False) -> None:
        """Draw the line, or draw it again with another text; a terminal that takes nothing now is left alone.

        Args:
            text: it must fit into one line of the terminal.
            quiet_s: for so many seconds nothing else may have been written; a line that is drawn already stays.
            mid_line: whether the cursor may be behind text that must stay, in the last column of the terminal even,
                where erasing from the cursor on would take the last character.
        """
        with self._lock:
            if self._closed or self._hidden or not self._may_draw():
                return
            if not self._drawn and time.monotonic() - self.written_at < quiet_s:
                return
            erase = _ERASE_BELOW if mid_line else _ERASE_FROM_CURSOR
            drawn = f"{self._drawn and erase}{_ROOM_BELOW}\x1b7\x1b[B\r{text}\x1b8"
            if self._lines.write_now(drawn.encode(self.encoding)):
                self._drawn = erase

    def before_write(self) -> str:
        """Return what has to be written before other text: what erases the line, or ""."""
        with self._lock:
            self.written_at = time.monotonic()
            erase, self._drawn = self._drawn, ""
            return erase

    def erase(self) -> None:
        """Erase the line, if it is drawn."""
        with self._lock:
            if self._drawn and self._lines.write_now(self._drawn.encode(self.encoding)):
                self._drawn = ""

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the line, and draw none inside the block: a question is open on the terminal."""
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
        """Erase the line, and draw none any more."""
        with self._lock:
            self.erase()
            self._closed = True
            if self._lines.before_write == self.before_write:
                self._lines.before_write = None

    def before_writes_to(self, descriptor: int) -> Callable[[], str] | None:
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

    def _hand_over(self) -> str:
        if not self._closed:
            self.close()
        return ""

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
        return bool(self._drawn) or time.monotonic() - self.written_at >= quiet_s

    def encodable(self, text: str) -> str:
        """Return `text` with a question mark for each character that the terminal's encoding does not have."""
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def _may_draw(self) -> bool:
        """Return whether there is a line below, and no other program has the terminal: a shell, a pager, a password."""
        columns, lines = self._size()
        return bool(columns) and lines >= _LEAST_LINES and is_in_foreground(self._descriptor) and self._is_cooked()

    def _is_cooked(self) -> bool:
        import termios

        try:
            modes: int = termios.tcgetattr(self._descriptor)[3]
        except termios.error:
            return False
        return bool(modes & termios.ICANON) and bool(modes & termios.ECHO)


def is_in_foreground(descriptor: int) -> bool:
    """Return whether this process is in the foreground of a terminal; true where it has no job control."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except (OSError, AttributeError):  # it is not the terminal of this session; Windows
        return True

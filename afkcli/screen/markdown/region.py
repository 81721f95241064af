"""The end of what is on a terminal, which may be drawn again: the lines of a block that has not ended.

Only the lines from the first change on are written, and a line that grew is continued where it ends. So most of an
answer is appended, and only what a mark or a wrapped word changes is drawn again. A line that is final, or that would
scroll off the screen, is left as it is from then on.

The escape sequences are those of ECMA-48: CUU, EL and ED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afkcli.screen.markdown.stream import MarkdownStream, Shape
from afkcli.screen.markdown.styled import Line, Run, rendered, rows_of

_SPARE = 2
"""Rows of the screen that are left free: what else is drawn on the terminal may scroll it by one."""


class Region:
    """The lines of a stream on a terminal. Its methods return what has to be written.

    Args:
        stream: the Markdown.
        reflows: whether the terminal wraps its lines anew when its width changes.

    The cursor is behind the last line that is shown, on the row where it ends.
    """

    def __init__(self, stream: MarkdownStream, *, reflows: bool) -> None:
        self._stream = stream
        self._reflows = reflows
        self._shape = Shape()  # of which the lines may be drawn again
        self._size = (0, 0)
        self._row = 0  # the row of the screen on which the cursor is at least
        self._mid_line = False

    @property
    def is_mid_line(self) -> bool:
        """Whether the cursor is behind text."""
        return self._mid_line

    @property
    def rest(self) -> str:
        """The source of what is not shown whole."""
        return self._stream.rest

    def feed(self, text: str) -> None:
        """Take a piece of the text."""
        self._stream.feed(text)

    def draw(self, columns: int, rows: int, *, ended: bool = False) -> str:
        """Return what brings the terminal up to date.

        Args:
            columns, rows: the size of the terminal now.
            ended: whether the text has ended, so that all of it is final.
        """
        written = self._resized(columns, rows) + self._drawn(columns, ended=ended)
        while self._stream.has_more:
            written += self._drawn(columns, ended=ended)
        return written

    def _drawn(self, columns: int, *, ended: bool) -> str:
        shape = self._stream.shape(columns, ended=ended)
        if self._first_change(shape.lines) < self._uncertain():
            self._let_go(len(self._lines))  # it cannot be told where these begin
            shape = self._stream.shape(columns, ended=ended)
        rows, begins = self._rows(self._lines), not self._lines
        begins_row = self._mid_line
        written = self._updated(shape.lines)
        self._row += self._rows(shape.lines) - rows - (begins and not begins_row)
        self._row = max(0, min(self._row, self._size[1] - 1))
        self._shape = shape
        self._let_go(
            max(shape.final, self._too_many(self._size[1] - _SPARE), min(self._uncertain(), len(self._lines) - 1))
        )
        return written

    def leave(self) -> None:
        """Draw nothing of what is shown again: something else is written behind it, at the beginning of a line."""
        self._let_go(len(self._lines))
        self._mid_line = False

    def erased(self) -> str:
        """Return what erases the lines that may be drawn again."""
        if not self._lines:
            return "\n" if self._mid_line else ""
        up = self._rows(self._lines) - 1
        self._shape, self._mid_line = Shape(), False
        self._row = max(0, self._row - up)
        return f"{_up(up)}\r\x1b[J"

    def _resized(self, columns: int, rows: int) -> str:
        """Return what erases the lines if they have to be laid out anew."""
        was_uncertain = bool(self._uncertain())
        before, self._size = self._size, (columns, rows)
        if self._reflows and columns > before[0]:  # what is above the lines may take fewer rows now
            self._row = min(self._row, max(0, self._rows(self._lines) - 1))
        if not self._lines or before == self._size:
            return ""
        if not self._reflows:
            self._size = (before[0], rows)  # the rows are those that were written
        self._row = max(0, min(self._row, rows - 1))
        # Some terminals keep the blank rows below, so that of wrapped lines even a short text scrolls away.
        visible = self._row + 1 if columns < before[0] else rows
        too_tall = self._rows_of(self._lines[-1]) > visible
        self._let_go(len(self._lines) if too_tall else self._too_many(visible))
        written = ""
        if before[0] != columns and (was_uncertain or self._uncertain()):
            self._let_go(len(self._lines))
        elif before[0] != columns:
            written = self.erased()
        self._size = (columns, rows)
        return written

    def _let_go(self, count: int) -> None:
        """Note that the first lines are not drawn again."""
        self._stream.show(self._shape, count)

    @property
    def _lines(self) -> list[Line]:
        """The lines that may be drawn again."""
        return self._shape.lines

    def _uncertain(self) -> int:
        """Return how many lines reach up to the last one that cannot be drawn again.

        Its rows cannot be counted, or there are more of them than the screen has.
        """
        for number in range(len(self._lines), 0, -1):
            line = self._lines[number - 1]
            if line.cells <= self._size[0]:
                continue
            if not line.is_certain or self._rows_of(line) > self._size[1] - _SPARE:
                return number
        return 0

    def _too_many(self, most: int) -> int:
        """Return how many lines at the top have to be left out for the others to fit into so many rows."""
        most = max(1, most)
        rows = 0
        for number in range(len(self._lines), 0, -1):
            rows += self._rows_of(self._lines[number - 1])
            if rows > most:
                return number if number < len(self._lines) else number - 1
        return 0

    def _rows(self, lines: Sequence[Line]) -> int:
        return sum(map(self._rows_of, lines))

    def _rows_of(self, line: Line) -> int:
        columns = max(1, self._size[0])
        return 1 if line.cells <= columns else rows_of(line.text, columns)

    def _first_change(self, lines: Sequence[Line]) -> int:
        """Return the number of lines at the beginning that are shown as they should be, or only grow."""
        for number, old in enumerate(self._lines):
            if number >= len(lines):
                return number
            is_last = number == len(self._lines) - 1
            if old.runs != lines[number].runs and not (is_last and _grown(old, lines[number]) is not None):
                return number
        return len(self._lines)

    def _updated(self, lines: Sequence[Line]) -> str:
        first = self._first_change(lines)
        if first == len(self._lines):
            return self._appended(lines, first)
        again, new = self._lines[first:], lines[first:]
        written = [_up(self._rows(again) - 1), "\r"]
        if self._rows(again) > self._rows(new) or any(line.cells > self._size[0] for line in (*again, *new)):
            written.append("\x1b[J")
        if not new and first:  # the cursor goes back to the end of what is left
            written += [_up(self._rows_of(lines[-1])), lines[-1].rendered()]
        for number, line in enumerate(new):
            written += ["\n" if number else "", "\x1b[K", line.rendered()]
        self._mid_line = bool(lines)
        return "".join(written)

    def _appended(self, lines: Sequence[Line], first: int) -> str:
        written = []
        if first and first <= len(lines):
            written.append(_grown(self._lines[-1], lines[first - 1]) or "")
        for line in lines[first:]:
            if self._mid_line and not line.joined:
                written.append("\n")
            written.append(line.rendered())
            self._mid_line = True
        return "".join(written)


def _grown(old: Line, new: Line) -> str | None:
    """Return what is to be written behind `old` to make it `new`; None if that is not enough."""
    if old.runs == new.runs:
        return ""
    count = len(old.runs)
    if not count:
        return rendered(new.runs)
    if len(new.runs) < count or old.runs[: count - 1] != new.runs[: count - 1]:
        return None
    before, now = old.runs[-1], new.runs[count - 1]
    if before.style != now.style or not now.text.startswith(before.text):
        return None
    return rendered((Run(now.text[len(before.text) :], now.style), *new.runs[count:]))


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows > 0 else ""


def does_reflow(environment: Mapping[str, str]) -> bool:
    """Return whether a terminal wraps its lines anew when its width changes; most do, but not xterm and consoles."""
    if "TMUX" in environment:
        return True
    term = environment.get("TERM", "")
    return not ("XTERM_VERSION" in environment or term.startswith(("linux", "vt", "screen")))

"""A terminal in memory: what the renderer uses of ECMA-48, with rows that wrap, scroll away, and wrap anew.

A test compares it with tmux, so that it may stand for a terminal where thousands of drawings are tried.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from afkcli.screen.markdown.styled import width

_PIECE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[([\d;]*)m|(.)", re.DOTALL)


@dataclass
class _Row:
    cells: list[str] = field(default_factory=list)
    wraps: bool = False  # it continues in the next row

    def put(self, column: int, char: str, columns: int) -> None:
        self.cells += [" "] * (column - len(self.cells))
        self.cells[column : column + 1] = [char]
        if width(char) == 2:
            self.cells[column + 1 : column + 2] = [""]

    def text(self) -> str:
        return "".join(self.cells)


class SmallTerminal:
    """A terminal of a size; `write` takes what a program writes.

    `rewritten_away` is whether the program tried to move above the screen, to what has scrolled away.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self.rows = [_Row()]
        self.row = self.column = 0
        self.rewritten_away = False
        self._scrolled = 0

    @property
    def top(self) -> int:
        return max(0, len(self.rows) - self.lines, self._scrolled)

    def write(self, text: str) -> None:
        for found in _PIECE.finditer(text):
            number, command, _, char = found.groups()
            if command == "m" or found[3] is not None:
                continue
            if command is not None:
                self._command(command, int(number or 0))
            elif char == "\n":
                self._next_row()
                self.column = 0
            elif char == "\r":
                self.column = 0
            else:
                self._put(char)

    def _command(self, command: str, number: int) -> None:
        if command == "A":
            self.rewritten_away = self.rewritten_away or self.row - number < self.top
            self.row = max(self.top, self.row - number)
        elif command in "JK":
            assert number == 0
            assert self.column < self.columns, "this would erase the last character of the row"
            self.rows[self.row].cells[self.column :] = []
            self.rows[self.row].wraps = False
            if command == "J":
                for row in self.rows[self.row + 1 :]:
                    row.cells, row.wraps = [], False
        else:
            raise AssertionError(f"unknown command {command}")

    def _put(self, char: str) -> None:
        cells = width(char)
        if not cells:
            row = self.rows[self.row]
            row.cells[self.column - 1 : self.column] = [row.cells[self.column - 1] + char] if row.cells else [char]
            return
        if self.column + cells > self.columns:
            self.rows[self.row].wraps = True
            self._next_row()
            self.column = 0
        self.rows[self.row].put(self.column, char, self.columns)
        self.column += cells

    def _next_row(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append(_Row())

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, and wrap the rows anew as terminals do; the cursor stays behind the same character."""
        on_screen = min(self.row - self.top, lines - 1)
        while len(self.rows) > self.row + 1 and not self.rows[-1].cells:
            self.rows.pop()  # blank lines below the cursor are given up first
        written, cursor = self._unwrapped()
        self.columns, self.lines = columns, lines
        self.rows = [_Row()]
        self.row = self.column = 0
        place = {(0, 0): (0, 0)}
        for number, cells in enumerate(written):
            if number:
                self.write("\n")
                place[number, 0] = (self.row, 0)
            for index, cell in enumerate(cells):
                for char in cell:
                    self._put(char)
                place[number, index + 1] = (self.row, self.column)
        self.row, self.column = place[cursor]
        self._scrolled = max(0, self.row - on_screen)  # as tmux does, which keeps the rows below the cursor

    def _unwrapped(self) -> tuple[list[list[str]], tuple[int, int]]:
        """Return the cells of each line, however many rows it has, and the line and the cell of the cursor."""
        written: list[list[str]] = [[]]
        cursor = (0, 0)
        for number, row in enumerate(self.rows):
            if number == self.row:
                cursor = (len(written) - 1, len(written[-1]) + self.column)
            written[-1] += row.cells
            if not row.wraps and number < len(self.rows) - 1:
                written.append([])
        return written, cursor

    def text(self) -> str:
        """Return all rows."""
        return "\n".join(row.text() for row in self.rows)

    def copied(self) -> str:
        """Return all lines, those that the terminal has wrapped in one."""
        return "".join(row.text() + ("" if row.wraps else "\n") for row in self.rows)

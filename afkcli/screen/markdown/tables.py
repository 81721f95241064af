"""A table: columns that are aligned, as wide as the terminal allows; the text of a cell is wrapped in its column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from afkcli.screen.markdown.shown import Shown
from afkcli.screen.markdown.styled import DIM, Line, Run, Styled, cells_of, most_cells_of
from afkcli.screen.markdown.wrapping import wrapped

_LEAST = 3  # columns of a cell; where not even these fit, the table is shown as a list
_MARKS = 1 << 16  # the mark of a line is the number of its row times this, and its place in the row
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


class Table:
    """The content of a table.

    Args:
        rows: the heading, then the others, each a text for each column.
        aligned: `left`, `right`, `center` or "" for each column.
        styles: whether there are styles.
    """

    def __init__(self, rows: Sequence[Sequence[Styled]], aligned: Sequence[str], *, styles: bool) -> None:
        self._rows = [[_broken(cell) for cell in row] for row in rows]
        self._aligned = aligned
        self._styles = styles
        self._widths_now: tuple[int, ...] = ()
        self._marks: list[int] = []

    def lines(self, columns: int, first: Sequence[Run], further: Sequence[Run], shown: Shown) -> list[Line]:
        room = columns - sum(most_cells_of(run.text) for run in further)
        widths = self._widths(room, shown)
        self._widths_now = widths
        after = shown.mark
        if shown.in_row and widths != shown.widths:  # the lines of the row are others now, so it is shown again
            after = after // _MARKS * _MARKS - 1
        found = list(self._as_table(widths, after) if widths else self._as_list(columns - room, columns, after))
        self._marks = [mark for mark, _ in found]
        lines: list[Line] = []
        for mark, runs in found:
            if mark > after:
                lead = first if after <= 0 and not lines else further
                lines.append(_line([*lead, *runs], mark))
        return lines

    def show(self, shown: Shown, mark: int) -> None:
        shown.mark = mark
        shown.widths = self._widths_now
        at = self._marks.index(mark) + 1
        shown.in_row = at < len(self._marks) and self._marks[at] // _MARKS == mark // _MARKS

    def _widths(self, room: int, shown: Shown) -> tuple[int, ...]:
        """Return the width of each column: those of the part that is shown, else what the cells need, made to fit."""
        count = len(self._aligned)
        gaps = 3 * (count - 1)
        if shown.widths and sum(shown.widths) + gaps <= room:
            return shown.widths
        room -= max((self._slack(row) for row in self._rows), default=0)
        need = [1] * count
        for row in self._rows:
            for column, cell in enumerate(row[:count]):
                need[column] = max(need[column], *map(cells_of, cell.text.split("\n")))
        return _fitted(need, room - gaps)

    def _slack(self, row: Sequence[Styled]) -> int:
        """Return by how many columns terminals may differ on a row."""
        return sum(most_cells_of(cell.text) - cells_of(cell.text) for cell in row)

    def _as_table(self, widths: Sequence[int], mark: int) -> Iterator[tuple[int, list[Run]]]:
        """Yield the lines from the row of a mark on, each with its mark."""
        for number, row in self._rows_from(mark):
            cells = [self._cell(row, column, width) for column, width in enumerate(widths)]
            for index in range(max(map(len, cells), default=0)):
                pieces = [cell[index] if index < len(cell) else [] for cell in cells]
                yield number * _MARKS + index, self._row_line(pieces, widths)
            if number == 1:
                rule = "─┼─".join("─" * width for width in widths)
                yield 2 * _MARKS - 1, [Run(rule, DIM if self._styles else "")]

    def _rows_from(self, mark: int) -> Iterator[tuple[int, Sequence[Styled]]]:
        first = max(1, mark // _MARKS)
        yield from enumerate(self._rows[first - 1 :], first)

    def _cell(self, row: Sequence[Styled], column: int, width: int) -> list[list[Run]]:
        if column >= len(row):
            return []
        return [list(piece) for line in wrapped(row[column], width) for piece in _cut(line.runs, width)]

    def _row_line(self, cells: Sequence[list[Run]], widths: Sequence[int]) -> list[Run]:
        runs: list[Run] = []
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            if column:
                runs.append(Run(" │ ", DIM if self._styles else ""))
            free = max(0, width - cells_of("".join(run.text for run in cell)))
            before = {"right": free, "center": free // 2}.get(self._aligned[column], 0)
            runs += [Run(" " * before), *cell, Run(" " * (free - before))]
        return runs

    def _as_list(self, indent: int, columns: int, mark: int) -> Iterator[tuple[int, list[Run]]]:
        """Yield a table that is too narrow: each cell on lines of its own, behind the heading of its column."""
        heading = self._rows[0] if self._rows else []
        for number, row in self._rows_from(mark):
            if number == 1 and len(self._rows) > 1:
                continue
            index = 0
            for column, cell in enumerate(row):
                name = heading[column].text if number > 1 and column < len(heading) else ""
                text = Styled(f"{name}: {cell.text}" if name else cell.text)
                for line in wrapped(text, max(1, columns - indent)):
                    yield number * _MARKS + index, list(line.runs)
                    index += 1


def _line(runs: list[Run], mark: int) -> Line:
    while runs and not runs[-1].text.rstrip(" "):
        runs.pop()
    if runs:
        runs[-1] = Run(runs[-1].text.rstrip(" "), runs[-1].style)
    return Line(tuple(run for run in runs if run.text), mark, most_cells_of("".join(run.text for run in runs)))


def _broken(cell: Styled) -> Styled:
    """Return a cell with line breaks in place of `<br>`, which models write for want of another way."""
    if "<" not in cell.text or not _BREAK.search(cell.text):
        return cell
    return Styled(_BREAK.sub("\n", cell.text))


def _fitted(need: Sequence[int], room: int) -> tuple[int, ...]:
    """Return widths that fit into `room`: the widest columns give; () if not even the least width does."""
    least = [min(_LEAST, each) for each in need]
    if sum(least) > room:
        return ()
    if sum(need) <= room:
        return tuple(need)
    low, high = 1, max(need)
    while low < high:  # the greatest width to which all columns can be cut down
        middle = (low + high + 1) // 2
        if sum(max(least[column], min(each, middle)) for column, each in enumerate(need)) <= room:
            low = middle
        else:
            high = middle - 1
    widths = [max(least[column], min(each, low)) for column, each in enumerate(need)]
    for column, each in enumerate(need):
        if sum(widths) < room and widths[column] < each:
            widths[column] += 1
    return tuple(widths)


def _cut(runs: Sequence[Run], width: int) -> Iterator[list[Run]]:
    """Cut a word that is longer than its column into pieces that fit."""
    piece: list[Run] = []
    room = width
    for text, style in runs:
        rest = text
        while rest:
            taken = _fitting(rest, room)
            if taken:
                piece.append(Run(rest[:taken], style))
                room -= cells_of(rest[:taken])
                rest = rest[taken:]
            if rest:
                if not taken and not piece:  # not even one character fits
                    piece, rest = [Run(rest[0], style)], rest[1:]
                yield piece
                piece, room = [], width
    yield piece


def _fitting(text: str, room: int) -> int:
    """Return how many characters of `text` fit."""
    if text.isascii():
        return min(room, len(text))
    taken = 0
    while taken < len(text) and cells_of(text[: taken + 1]) <= room:
        taken += 1
    return taken

"""Columns that fit a terminal of any width, with bars where there is room."""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.text import one_line
from afkcli.screen.bars import bar
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import GAP, write_table
from afkcli.screen.text import shortened, width_of

_LONGEST_BAR, _SHORTEST_BAR = 24, 4
_SHORTEST_NAME = 8


class Column(FrozenStruct, kw_only=True):
    """A column: its head and cells; of those that do not fit, the greatest `rank` is left out first (0: never)."""

    head: str
    cells: Sequence[str]
    rank: int = 0

    @property
    def width(self) -> int:
        return max(map(width_of, (self.head, *self.cells)))


def write_chart(stdout: Stdout, columns: Sequence[Column], amounts: Sequence[float], most: float) -> None:
    """Write a table; on a terminal so many columns as fit, and a bar for each row where there is room.

    Args:
        stdout: where to.
        columns: at least two; the first one has the names of the rows, which are shortened if they must.
        amounts: what the bars show.
        most: what a bar as long as possible shows.
    """
    names, *others = [_on_a_line(column) for column in columns]
    bars: Column | None = None
    if stdout.is_terminal:
        others = _fitting(names, others, stdout.columns())
        room = stdout.columns() - _width([names, *others]) - len(GAP)
        if room >= _SHORTEST_BAR:
            longest = min(room, _LONGEST_BAR)
            bars = Column(head="", cells=[bar(amount, most, longest) for amount in amounts])
        elif room < -len(GAP):
            narrow = max(1, names.width + room + len(GAP))
            head, *cells = (shortened(text, narrow) for text in (names.head, *names.cells))
            names = Column(head=head, cells=cells)
    shown = [names, *others, *([bars] if bars is not None else [])]
    rows = list(zip(*(column.cells for column in shown), strict=True))
    write_table(stdout, [column.head for column in shown], rows)


def _on_a_line(column: Column) -> Column:
    return Column(head=column.head, cells=[one_line(cell) or "-" for cell in column.cells], rank=column.rank)


def _fitting(names: Column, others: Sequence[Column], columns: int) -> list[Column]:
    """Return the columns that fit beside the names, as few letters of them as may be."""
    kept = list(others)
    least = Column(head="", cells=[" " * min(names.width, _SHORTEST_NAME)])
    while _width([least, *kept]) > columns and any(column.rank for column in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    return kept


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)

"""Rows as columns that fit the terminal, whatever is in them; in a pipe all of each cell.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.text import one_line, prose_line
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import BOLD
from afkcli.screen.tables import GAP
from afkcli.screen.text import padded, shortened, width_of

_LEAST_OF_LAST = 12
"""The columns that the last column keeps before others are cut, where a third of the width is not more."""


class Column(FrozenStruct):
    """A column of a table.

    Args:
        head: its name, which a terminal shows.
        least: the width to which a terminal may cut it; 0 for one that is never cut.
        needs: the width of a terminal from which it is shown; in a pipe it always is.
        right: whether it stands at the right, as numbers do.
        prose: whether it has sentences of a person, not names.
    """

    head: str
    least: int = 0
    needs: int = 0
    right: bool = False
    prose: bool = False


class Columns:
    """Writes rows in columns; the last one takes the room that the others leave.

    Args:
        stdout: where to.
        columns: the columns; `row` has a text for each.
    """

    def __init__(self, stdout: Stdout, columns: Sequence[Column]) -> None:
        self._stdout = stdout
        self._room = stdout.columns()
        self._terminal = stdout.is_terminal
        self._places = [at for at, column in enumerate(columns) if not self._terminal or column.needs <= self._room]
        self._columns = [columns[at] for at in self._places]

    def lines(self, rows: Sequence[Sequence[str]], styles: Sequence[str], *, head: bool = True) -> list[str]:
        """Return the lines of `rows`, on a terminal with a head.

        Args:
            rows: a text for each column.
            styles: an SGR parameter for each row, "" for none.
            head: whether a terminal gets the names of the columns.
        """
        safe = [prose_line if column.prose else one_line for column in self._columns]
        cells = [[line(row[at]) or "-" for at, line in zip(self._places, safe, strict=True)] for row in rows]
        if not self._terminal:
            widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
            return [self._line(row, widths) for row in cells]
        heads = [column.head for column in self._columns]
        widths = self._fitted([max(map(width_of, column)) for column in zip(heads, *cells, strict=True)])
        shown = zip([heads, *cells] if head else cells, [BOLD, *styles] if head else styles, strict=True)
        lines = [(self._line([*map(shortened, row, widths)], widths), style) for row, style in shown]
        lines = [(shortened(line, self._room), style) for line, style in lines]
        return [self._stdout.styled(line, style) if style else line for line, style in lines]

    def _fitted(self, widths: list[int]) -> list[int]:
        """Return the widths of the columns on a terminal: those that may be cut give way to the last one."""
        *others, last = widths
        room = self._room - len(GAP) * len(others)
        wanted = min(last, max(_LEAST_OF_LAST, room // 3))
        for at, column in enumerate(self._columns[:-1]):
            too_much = sum(others) + wanted - room
            if column.least and too_much > 0:
                others[at] = min(others[at], max(column.least, others[at] - too_much))
        return [*others, max(1, min(last, room - sum(others)))]

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        *first, last = (
            padded(cell, width, right=column.right)
            for cell, width, column in zip(cells, widths, self._columns, strict=True)
        )
        return GAP.join([*first, last.rstrip(" ") if not self._columns[-1].right else last])

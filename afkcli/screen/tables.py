"""Rows as columns on stdout."""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.text import one_line, prose_line
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import BOLD
from afkcli.screen.text import shortened, width_of

GAP = "  "
_WIDEST = 40  # the widest cell on a terminal, in columns, except the last one of a row


_LEAST_OF_LAST = 10  # the columns that the last cell of a row has on a terminal, however narrow it is


def write_table(
    stdout: Stdout,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str] = (),
    whole: int = 0,
    spare: Sequence[int] = (),
    *,
    prose: bool = False,
) -> None:
    """Write columns. Only a terminal gets the head, and its last column cut to the width.

    Args:
        head: the names of the columns.
        rows: one text a column.
        styles: one SGR parameter for each row; "" for no style.
        whole: how many of the first columns are never cut, because a person copies what is in them.
        spare: which columns, from 0, a terminal leaves out, one after another, until the others fit into its width.
        prose: whether the last column has sentences of a person, not names.
    """
    safe = prose_line if prose else one_line
    cells = [[*(one_line(cell) or "-" for cell in row[:-1]), safe(row[-1]) or "-"] for row in rows]
    if stdout.is_terminal:
        cells = [[*row[:whole], *(shortened(cell, _WIDEST) for cell in row[whole:-1]), row[-1]] for row in cells]
        kept = _fitting([head, *cells], spare, stdout.columns())
        head, *cells = ([row[at] for at in kept] for row in (head, *cells))
    shown = [list(head), *cells] if stdout.is_terminal else cells
    widths = [max(map(width_of, column)) for column in zip(*shown, strict=True)]
    if stdout.is_terminal:
        widths[-1] = max(_LEAST_OF_LAST, stdout.columns() - sum(widths[:-1]) - len(GAP) * (len(widths) - 1))
    lines = [_columns(row, widths, cut=stdout.is_terminal) for row in shown]
    if stdout.is_terminal:
        styles = (BOLD, *(styles or [""] * len(rows)))
        lines = [stdout.styled(line, style) if style else line for line, style in zip(lines, styles, strict=True)]
    stdout.lines(lines)


def _fitting(table: Sequence[Sequence[str]], spare: Sequence[int], room: int) -> list[int]:
    """Return which columns of a table are shown where there is room for so many characters in a row."""
    widths = [max(map(width_of, column)) for column in zip(*table, strict=True)]
    kept = list(range(len(widths)))
    for at in spare:
        *others, last = (widths[each] for each in kept)
        if sum(others) + len(GAP) * len(others) + min(last, _LEAST_OF_LAST) <= room:
            break
        kept.remove(at)
    return kept


def _columns(cells: Sequence[str], widths: Sequence[int], *, cut: bool) -> str:
    *first, last = cells
    padded = [cell + " " * (width - width_of(cell)) for cell, width in zip(first, widths, strict=False)]
    return GAP.join([*padded, shortened(last, widths[-1]) if cut else last])

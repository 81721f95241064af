"""Print the table of dialects: `python -m tests.dialects [--server NAME] [TURN ...]`.

It ends with 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from tests.dialects.dialect import Turn
from tests.dialects.play import Played, play
from tests.dialects.servers import DIALECTS
from tests.interrupts import allow_interrupts

_HEADINGS = ("server", "turn", "exit", "requests", "shown, stored, sent", "line")
_LINE = 100
"""Characters of a line on stderr that the table shows."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.dialects", description=__doc__)
    parser.add_argument("turns", nargs="*", metavar="TURN", help=f"one of: {', '.join(Turn)}")
    parser.add_argument("--server", action="append", choices=[dialect.name for dialect in DIALECTS])
    options = parser.parse_args()
    unknown = [name for name in options.turns if name not in list(Turn)]
    if unknown:
        parser.error(f"no such turn: {', '.join(unknown)}; there are: {', '.join(Turn)}")
    allow_interrupts()
    dialects = [dialect for dialect in DIALECTS if not options.server or dialect.name in options.server]
    turns = [turn for turn in Turn if not options.turns or turn in options.turns]
    found = [play(dialect, turn) for dialect in dialects for turn in turns]
    print(table(found))
    wrong = sum(bool(played.problems) for played in found)
    print(f"{len(found)} turns of {len(dialects)} servers, {wrong} not as they should be")
    return 1 if wrong else 0


def table(found: Iterable[Played]) -> str:
    """Return the turns as a table of text, the problems below it."""
    rows = list(found)
    cells = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines += [f"{row.dialect.name}, {row.turn}: {problem}" for row in rows for problem in row.problems]
    return "\n".join(lines)


def _cells(row: Played) -> tuple[str, ...]:
    right = "NO" if row.problems else "ok"
    return (row.dialect.name, row.turn.value, str(row.code), str(row.requests), right, row.line[:_LINE] or "-")


if __name__ == "__main__":
    sys.exit(main())

"""The table: one row for each value of a limit, what was set, what was observed, and whether it held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.limits.world import Seen

_HEADINGS = ("limit", "set", "how", "observed", "state", "reason", "exit", "held")
_SHOWN = ("calls", "closed", "tool_calls", "parallel", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One value of one limit.

    Attributes:
        expected: what has to be observed, by the names of `Seen`.
        shown: what is shown beside it.
        problems: what must not be, a line each.
    """

    limit: str
    value: str
    how: str
    seen: Seen
    expected: dict[str, object]
    shown: Sequence[str] = ()
    problems: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.problems and all(getattr(self.seen, name) == value for name, value in self.expected.items())

    def observed(self) -> str:
        names = [name for name in _SHOWN if name in self.expected or name in self.shown]
        said = [f"{getattr(self.seen, name)} {name.replace('_', ' ')}" for name in names]
        return ", ".join([*said, *([f"{self.seen.seconds:.2f} s"] if "seconds" in self.shown else [])])

    def cells(self) -> tuple[str, ...]:
        seen = self.seen
        held = "yes" if self.held else f"NO: expected {self.expected} {self.problems}"
        return (self.limit, self.value, self.how, self.observed(), seen.state, seen.reason, str(seen.exit), held)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table of text."""
    cells = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )

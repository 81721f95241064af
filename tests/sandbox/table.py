"""The table: a row an attempt, a column a user on a machine, and whether each cell is as it has to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.sandbox.attempts import ATTEMPTS, KILL, SEARCH, Attempt
from tests.sandbox.world import MACHINES, USERS, Seen, World

ROWS: Sequence[Attempt] = (*ATTEMPTS, KILL, SEARCH)
OFF = "off"
REFUSED = 'write `sandbox = "off"` under [tools.shell]'
SEARCH_REFUSED = 'write `sandbox = "off"` under [tools.files]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One user on one machine.

    Attributes:
        machine: of `MACHINES`, or "off": any machine, with the sandbox switched off in the config.
    """

    who: str
    machine: str
    seen: Seen

    @property
    def heading(self) -> str:
        return f"{self.who}, {self.machine}"

    def cell(self, attempt: Attempt) -> str:
        """Return what came of an attempt."""
        if self.machine == "neither" and attempt is SEARCH:
            return "refused" if SEARCH_REFUSED in self.seen.searched else "NOT REFUSED"
        if self.machine == "neither":
            return "refused" if self.seen.code == 1 and REFUSED in self.seen.said else "NOT REFUSED"
        succeeded = self.seen.succeeded.get(attempt.name)
        if succeeded is None:
            return f"NO RUN: {self.seen.said.strip()[:200]}"
        expected = attempt.open if self.machine == OFF else not attempt.held
        word = "yes" if succeeded else "no"
        return word if succeeded == expected else f"{word.upper()} (wrong)"

    def problems(self) -> list[str]:
        """Return the cells that are not as they have to be."""
        cells = {attempt.name: self.cell(attempt) for attempt in ROWS}
        return [
            f"{self.heading}: {name}: {cell}" for name, cell in cells.items() if cell not in ("yes", "no", "refused")
        ]


def columns(world: World) -> Iterator[Column]:
    """Make all runs, and yield the columns."""
    for who in USERS:
        for machine in MACHINES:
            yield Column(who=who, machine=machine, seen=world.attempt(who, machine))
        yield Column(who=who, machine=OFF, seen=world.attempt(who, "bubblewrap", sandbox=OFF))


def table(made: Sequence[Column]) -> str:
    """Return the columns as a table of text."""
    lines = [("a command tries to", *(column.heading for column in made))]
    lines += [(row.name, *(column.cell(row) for column in made)) for row in ROWS]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )

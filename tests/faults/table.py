"""The result of a case: one row for each case, with the same columns in the short and in the long form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MOST_TEXT_LOST_MS = 250
"""The promise: streamed text is journaled at least this often."""

MOST_MEMORY_MB = 200
"""The promise: nothing from outside makes afk take more memory than this, whatever its size."""

_MOST_PROBLEMS = 12  # of a case are shown; the first ones tell most
_HEADINGS = (
    "case",
    "tries",
    "turns finished",
    "turns lost",
    "messages lost",
    "threads damaged",
    "text lost (ms)",
    "memory (MB)",
    "goal",
)


@dataclass(slots=True, kw_only=True)
class Row:
    """What a case found.

    Attributes:
        finished: turns that afk had reported as finished; `lost` of them are not in their thread as they were.
        messages_lost: messages that afk had accepted, or the model had been sent, and that are in no thread.
        text_lost_ms: the age of the oldest piece of an answer that was sent before a kill and is not kept; None where
            the case kills nothing in the middle of an answer.
        memory_mb: the most memory that an `afk` had resident; None where it is not measured.
        problems: what must not be, a few lines each.
        notes: what a reader of the table should know, a line each; they break no goal.
    """

    case: str
    tries: int = 0
    finished: int = 0
    lost: int = 0
    messages_lost: int = 0
    damaged: int = 0
    text_lost_ms: float | None = None
    memory_mb: float | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing was lost and nothing forbidden happened; the milliseconds do not count."""
        return not (self.lost or self.messages_lost or self.damaged or self.problems)

    @property
    def holds(self) -> bool:
        """Whether the goal holds, the milliseconds included."""
        return self.whole and (self.text_lost_ms or 0) <= MOST_TEXT_LOST_MS and (self.memory_mb or 0) <= MOST_MEMORY_MB

    def add_memory(self, megabytes: float) -> None:
        self.memory_mb = max(self.memory_mb or 0.0, megabytes)

    def add_text_lost(self, milliseconds: float) -> None:
        self.text_lost_ms = max(self.text_lost_ms or 0.0, milliseconds)

    def cells(self) -> tuple[str, ...]:
        text = "-" if self.text_lost_ms is None else f"{self.text_lost_ms:.0f}"
        numbers = (self.tries, self.finished, self.lost, self.messages_lost, self.damaged)
        memory = "-" if self.memory_mb is None else f"{self.memory_mb:.0f}"
        return (self.case, *map(str, numbers), text, memory, "holds" if self.holds else "BROKEN")


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table of text, the notes and the problems below it."""
    rows = list(rows)
    lines = _aligned([_HEADINGS, *(row.cells() for row in rows)])
    for row in rows:
        lines += [f"{row.case}: {note}" for note in dict.fromkeys(row.notes)]
    for row in rows:
        lines += [f"{row.case}: PROBLEM: {problem}" for problem in row.problems[:_MOST_PROBLEMS]]
        if len(row.problems) > _MOST_PROBLEMS:
            lines.append(f"{row.case}: {len(row.problems) - _MOST_PROBLEMS} more problems")
    return "\n".join(lines)


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]

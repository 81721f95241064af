"""The rows of the table, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One ratio: `mine` of afk to `other`, the medians over the rounds, both in `unit`.

    `ratio` is the median of the rounds' own ratios, so that load which comes and goes hits both sides alike; `low` and
    `high` are their quartiles. `goal` is what the ratio must be at most, or at least where `more_is_better`. With
    `no_change` it is 1, and met where the quartiles do not lie above it: a change cannot be measured.
    """

    case: str
    against: str
    unit: str
    mine: float | None = None
    other: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    goal: float | None = None
    more_is_better: bool = False
    no_change: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is no goal, or nothing was measured."""
        if self.goal is None or self.ratio is None or self.low is None:
            return None
        if self.no_change:
            return self.low <= self.goal
        return self.ratio >= self.goal if self.more_is_better else self.ratio <= self.goal


def compare(
    case: str,
    against: str,
    unit: str,
    mine: Sequence[float],
    other: Sequence[float],
    *,
    goal: float | None = None,
    more_is_better: bool = False,
    no_change: bool = False,
    note: str = "",
) -> Row:
    """Return the row of figures that were measured side by side: `mine[n]` and `other[n]` in the same round."""
    ratios = sorted(a / b for a, b in zip(mine, other, strict=True))
    return Row(
        case=case,
        against=against,
        unit=unit,
        mine=median(mine),
        other=median(other),
        ratio=median(ratios),
        low=ratios[len(ratios) // 4],
        high=ratios[-1 - len(ratios) // 4],
        goal=1 if no_change else goal,
        more_is_better=more_is_better,
        no_change=no_change,
        note=note,
    )


def as_text(rows: Sequence[Row], conditions: Mapping[str, str]) -> str:
    """Return the table for a person: under what conditions it was measured, the rows, their notes."""
    lines: list[tuple[str, ...]] = [("case", "afk", "against", "", "ratio", "quartiles", "goal", "met")]
    lines += [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = [f"{name}: {value}" for name, value in conditions.items()]
    notes = [f"  {row.case}, {row.against}: {row.note}" for row in rows if row.note]
    table = [text[0], "-" * len(text[0]), *text[1:]]
    return "\n\n".join("\n".join(part) for part in (head, table, notes) if part)


def as_json(rows: Sequence[Row], runs: int, conditions: Mapping[str, str]) -> str:
    """Return the table as one JSON object."""
    table = [{**asdict(row), "met": row.met} for row in rows]
    return json.dumps({"runs": runs, "conditions": dict(conditions), "rows": table}, indent=2)


def _cells(row: Row) -> tuple[str, ...]:
    if row.ratio is None:
        return (row.case, "", row.against, "", "not measured", "", _goal(row), "")
    return (
        row.case,
        _figure(row.mine, row.unit),
        row.against,
        _figure(row.other, row.unit),
        f"{row.ratio:.2f}",
        f"{row.low:.2f}-{row.high:.2f}",
        _goal(row),
        {None: "", True: "yes", False: "NO"}[row.met],
    )


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    if row.no_change:
        return "no change"
    return f"{'>=' if row.more_is_better else '<='} {row.goal:g}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"

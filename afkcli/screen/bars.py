"""Bars of a chart, in eighths of a column."""

from __future__ import annotations

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(amount: float, most: float, columns: int) -> str:
    """Return a bar that is `columns` long for `most`; something is always seen of what is more than nothing."""
    if amount <= 0 or most <= 0 or columns <= 0:
        return " "
    eighths = max(1, round(min(amount / most, 1.0) * columns * 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")

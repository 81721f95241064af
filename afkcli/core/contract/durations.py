"""Lengths of time as people write them: seconds, or with units, as `90s`, `5m` or `1h30m`.

Since: 0.2.
"""

from __future__ import annotations

from afkcli.core.contract.lazy_pattern import LazyPattern

IN_WORDS = "seconds, or 90s, 5m, 1h"
"""What a value may be, for help texts and errors."""

_UNITS = {
    **dict.fromkeys(("ms",), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
}
_PART = LazyPattern(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-z]+) ?")


def seconds_of(text: str) -> float | None:
    """Return the seconds that a text says: `90`, `1.5`, `90s`, `5m`, `5min`, `1h`, `2d`, `500ms`, `1h 30m`, `2 hours`.

    None if it says no length of time. A number without a unit is in seconds, and may be negative or infinite: whoever
    uses it checks its range.
    """
    text = text.strip().lower()
    try:
        return float(text)
    except ValueError:
        pass
    seconds, end = 0.0, 0
    for part in _PART.compiled.finditer(text):
        if part.start() != end or part[2] not in _UNITS:
            return None
        seconds, end = seconds + float(part[1]) * _UNITS[part[2]], part.end()
    return seconds if text and end == len(text) else None

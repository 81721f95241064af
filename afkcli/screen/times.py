"""Times for a person."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = 60, 3600, 86400, 7 * 86400, 365 * 86400


def local_time(stamp: str) -> str:
    """Return an RFC 3339 time as the day and minute where the user is."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return stamp


def ago(stamp: str, now: Callable[[], float] = time.time) -> str:
    """Return how long an RFC 3339 time is past, shortly; the day, where that is more than eight weeks."""
    try:
        seconds = max(0.0, now() - datetime.fromisoformat(stamp).timestamp())
    except ValueError:
        return stamp
    if seconds < _MINUTE:
        return "now"
    for unit, name, end in ((_MINUTE, "min", _HOUR), (_HOUR, "h", _DAY), (_DAY, "d", 2 * _WEEK)):
        if seconds < end:
            return f"{int(seconds // unit)} {name}"
    if seconds < 8 * _WEEK:
        return f"{int(seconds // _WEEK)} wk"
    return local_time(stamp)[:10]


def age(stamp: str, now: Callable[[], float] = time.time) -> str:
    """Return how long an RFC 3339 time is past, in at most four characters: `now`, `5m`, `3h`, `2d`, `6w`, `2y`.

    Since: 0.2.
    """
    try:
        seconds = max(0.0, now() - datetime.fromisoformat(stamp).timestamp())
    except ValueError:
        return stamp
    if seconds < _MINUTE:
        return "now"
    for unit, name, end in ((_MINUTE, "m", _HOUR), (_HOUR, "h", _DAY), (_DAY, "d", 2 * _WEEK), (_WEEK, "w", _YEAR)):
        if seconds < end:
            return f"{int(seconds // unit)}{name}"
    return f"{int(seconds // _YEAR)}y"

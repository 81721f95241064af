"""Which known names a wrong one may mean.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable

_NEAR = 0.75
"""How alike two names have to be, as `difflib` counts it. At its usual 0.6 nearly any two short words are."""
_PREFIX_CHARS = 3
"""From this length on, a name that begins as another does is near it: `day` and `day_usd`."""


def near_names(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known names that are a slip away from `name`, the nearest first; hyphens at the start do not count.

    Args:
        name: what was written.
        known: the names that exist.
        most: how many to return.
    """
    written = _plain(name)
    rated = [(_likeness(written, _plain(item)), item) for item in known]
    return [item for rate, item in sorted(rated, key=lambda pair: (-pair[0], pair[1])) if rate >= _NEAR][:most]


def _plain(name: str) -> str:
    return name.lstrip("-").lower()


def _likeness(written: str, known: str) -> float:
    from difflib import SequenceMatcher

    ratio = SequenceMatcher(None, written, known).ratio()
    short, long = sorted((written, known), key=len)
    return max(ratio, _NEAR) if len(short) >= _PREFIX_CHARS and long.startswith(short) else ratio

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


def is_slip_of(name: str, other: str) -> bool:
    """Return whether `name` is `other` with one slip: a letter is wrong, missing or too much, or two are swapped.

    Names that differ in a digit are those of a series (`day-1`, `day-2`), and very short ones are near to all others.
    """
    if name == other or abs(len(name) - len(other)) > 1 or min(len(name), len(other)) < _PREFIX_CHARS:
        return False
    pairs = enumerate(zip(name, other, strict=False))
    start = next((at for at, (one, two) in pairs if one != two), min(len(name), len(other)))
    rest, wanted = name[start:], other[start:]
    if rest[1:] == wanted[1:]:
        differing = rest[:1] + wanted[:1]
    elif rest[1:] == wanted or rest == wanted[1:]:
        differing = max(rest, wanted, key=len)[:1]
    elif rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:]:
        differing = rest[:2]
    else:
        return False
    return not differing.isdigit()


def _plain(name: str) -> str:
    return name.lstrip("-").lower()


def _likeness(written: str, known: str) -> float:
    from difflib import SequenceMatcher

    ratio = SequenceMatcher(None, written, known).ratio()
    short, long = sorted((written, known), key=len)
    return max(ratio, _NEAR) if len(short) >= _PREFIX_CHARS and long.startswith(short) else ratio

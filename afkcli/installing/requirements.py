"""What the installed distributions require of each other, as constraints that keep afk working.

Since: 0.2.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable

from afkcli.installing.environment import DISTRIBUTION, normalised

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*\(?([^;()@]*)\)?\s*(;.*)?$")


def constraints(more: Iterable[str] = ()) -> list[str]:
    """Return the lines of a file of constraints: afk's own version, and all that afk and its plugins need in turn.

    Args:
        more: further distributions that are to keep working: the plugins that are installed.
    """
    lines: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [DISTRIBUTION, *more]
    while waiting:
        name = normalised(waiting.pop())
        distribution = _find(name)
        if name in seen or distribution is None:
            continue
        seen.add(name)
        if name == DISTRIBUTION:
            lines[f"{DISTRIBUTION}=={distribution.version}"] = None
        for line in distribution.requires or ():
            found = _REQUIREMENT.fullmatch(line)
            if found is None or re.search(r"\bextra\s*==", found[4] or ""):
                continue
            waiting.append(found[1])
            if found[3].strip() and normalised(found[1]) != DISTRIBUTION:
                lines[f"{found[1]}{found[3].strip()}{' ' + found[4] if found[4] else ''}"] = None
    return list(lines)


def needed() -> set[str]:
    """Return the distributions that afk itself needs, and afk, by their normalised names."""
    found: set[str] = set()
    waiting = [DISTRIBUTION]
    while waiting:
        name = normalised(waiting.pop())
        distribution = _find(name)
        if name in found or distribution is None:
            continue
        found.add(name)
        requirements = [_REQUIREMENT.fullmatch(line) for line in distribution.requires or ()]
        waiting += [item[1] for item in requirements if item and not re.search(r"\bextra\s*==", item[4] or "")]
    return found


def needed_by_others(name: str) -> list[str]:
    """Return the installed distributions that need the one named, without extras."""
    found = []
    for distribution in importlib.metadata.distributions():
        for line in distribution.requires or ():
            item = _REQUIREMENT.fullmatch(line)
            is_extra = item is None or re.search(r"\bextra\s*==", item[4] or "")
            if item is not None and not is_extra and normalised(item[1]) == normalised(name):
                found.append(str(distribution.metadata["Name"]))
    return sorted(set(found))


def _find(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None

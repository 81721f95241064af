"""Short names of threads that nobody named: the shortest end of their names that means no other thread.

A thread without a name is named by the id of its first run, a UUIDv7. Its beginning is the time, which all threads of
an hour share, and its end is random: so the end is what tells such threads apart, as in `afk events tail`. A
short name has at least six characters, so that it stays the same while a few thousand threads are added.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from afkcli.core.contract.lazy_pattern import LazyPattern

SHORTEST = 6
"""The characters of a short name, where they are enough."""
_LEAST = 4
"""The fewest characters that are taken for the end of a name."""
_BEGINNING = LazyPattern(rf"[0-9a-fA-F]{{3,{SHORTEST}}}")
_UUID = LazyPattern(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_END = LazyPattern(rf"[0-9a-fA-F-]{{{_LEAST},36}}")


def is_unnamed(name: str) -> bool:
    """Return whether the name of a thread has the form of a UUID."""
    return len(name) == 36 and _UUID.compiled.fullmatch(name) is not None


def may_end_a_name(text: str) -> bool:
    """Return whether `text` may be the end of an unnamed name: four or more of its characters, in any letter case."""
    return _END.compiled.fullmatch(text) is not None


def may_begin_a_short_name(text: str) -> bool:
    """Return whether a short name may begin with `text`: three or more of its characters, in any letter case."""
    return _BEGINNING.compiled.fullmatch(text) is not None


def reversed_end(text: str) -> str:
    """Return `text` from its end, in lower case: what ends alike begins alike."""
    return text[::-1].lower()


def short_name(name: str, neighbours: Iterable[str]) -> str:
    """Return the shortest end of an unnamed name that none of its neighbours has.

    Args:
        name: the name.
        neighbours: the unnamed names before and behind it in the order of `reversed_end`, or all others.
    """
    own = reversed_end(name)
    length = max([SHORTEST, *(1 + _shared(own, reversed_end(other)) for other in neighbours)])
    if name[-length:].startswith("-"):
        length += 1  # else it would be taken for an option
    return name[-length:]


def _shared(first: str, second: str) -> int:
    """Return how many characters two texts begin with alike."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def short_names_among(names: Sequence[str], every: Iterable[str]) -> dict[str, str]:
    """Return the short names of those of `names` that are unnamed, among the names of all threads."""
    wanted = [name for name in names if is_unnamed(name)]
    if not wanted:
        return {}
    by_end = sorted((reversed_end(name), name) for name in every if is_unnamed(name))
    places = {name: place for place, (_, name) in enumerate(by_end)}
    found = {}
    for name in wanted:
        place = places.get(name)
        near = by_end if place is None else [*by_end[max(0, place - 1) : place], *by_end[place + 1 : place + 2]]
        found[name] = short_name(name, [other for _, other in near if other != name])
    return found

"""What lists and names of threads ask of the index: each question is answered from an index of its table `thread`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from afkcli.plugin import ThreadFilter, is_slip_of, may_end_a_name, reversed_end, short_name

_LAST_CHARACTER = "\U0010ffff"
_BEGINS = "name >= ? AND name < ?"
_ENDS = "tail >= ? AND tail < ?"
_BY_USE = "ORDER BY used DESC, key DESC LIMIT ?"
_BEFORE = "SELECT max(tail) FROM thread WHERE tail < ?"
_BEHIND = "SELECT min(tail) FROM thread WHERE tail > ?"
_NEXT = "SELECT name FROM thread WHERE name >= ? AND name < ? ORDER BY name LIMIT 1"
_MOST_STEPS = 5_000
"""How many names are looked at in the search for one that is a slip away; more are there only in odd alphabets."""


def tags_text(tags: Sequence[str]) -> str:
    """Return tags as the column that `where` looks into: each between two line ends, which no tag has."""
    return "".join(f"\n{tag}\n" for tag in tags)


def where(wanted: ThreadFilter) -> tuple[str, list[str]]:
    """Return the condition for the threads that are wanted, but for their text, and its values."""
    conditions, values = ["1"], []
    model = "(model = ? OR substr(model, instr(model, '/') + 1) = ?)"
    for condition, value in (
        ("folder = ?", wanted.folder),
        ("used >= ?", wanted.since),
        ("used < ?", wanted.until),
        ("agent = ?", wanted.agent),
        (model, wanted.model),
        ("instr(tags, ?)", None if wanted.tag is None else tags_text([wanted.tag])),
    ):
        if value is not None:
            conditions.append(condition)
            values += [value] * condition.count("?")
    return " AND ".join(conditions), values


def names_meant(con: sqlite3.Connection, text: str, limit: int | None) -> Iterator[object]:
    """Yield the names that begin with `text`, and the unnamed ones that end with it, the last used first."""
    condition, values = _BEGINS, [text, text + _LAST_CHARACTER]
    if may_end_a_name(text):
        end = reversed_end(text)
        condition, values = f"({_BEGINS}) OR ({_ENDS})", [*values, end, end + _LAST_CHARACTER]
    query = f"SELECT name FROM thread WHERE {condition} {_BY_USE}"  # noqa: S608
    for (name,) in con.execute(query, (*values, -1 if limit is None else limit)):
        yield name


def short_names(con: sqlite3.Connection, names: Iterable[str]) -> dict[str, str]:
    """Return the short names of unnamed threads, from the names before and behind each in the order of their ends."""
    found = {}
    for name in names:
        end = reversed_end(name)
        near = [row[0] for query in (_BEFORE, _BEHIND) for row in con.execute(query, (end,))]
        found[name] = short_name(name, [reversed_end(other) for other in near if isinstance(other, str)])
    return found


def names_near(con: sqlite3.Connection, name: str) -> set[str]:
    """Return the names that `name` is a slip of."""
    near = set(_one_less(name)) | set(_one_more_or_other(con, name))
    found = {row[0] for other in near for row in con.execute("SELECT name FROM thread WHERE name = ?", (other,))}
    return {other for other in found if isinstance(other, str) and is_slip_of(name, other)}


def _one_less(name: str) -> Iterator[str]:
    """Yield `name` without one of its characters, and with two of them swapped."""
    for at in range(len(name)):
        yield name[:at] + name[at + 1 :]
        yield name[:at] + name[at : at + 2][::-1] + name[at + 2 :]


def _one_more_or_other(con: sqlite3.Connection, name: str) -> Iterator[str]:
    """Yield `name` with one more character, and with another one, of those that names really have at that place."""
    steps = 0
    for at in range(len(name) + 1):
        head = after = name[:at]
        while row := con.execute(_NEXT, (f"{after}\0", head + _LAST_CHARACTER)).fetchone():
            steps += 1
            if steps > _MOST_STEPS or not isinstance(row[0], str) or not row[0].startswith(head):
                return
            begun = row[0][: at + 1]
            yield begun + name[at:]
            yield begun + name[at + 1 :]
            after = begun + _LAST_CHARACTER
        if after == head:  # no name begins like this, so none goes on like this
            return

"""What a list of threads asks of the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from afk_store_postgres import rows
from afk_store_postgres.connections import WatchedConnection
from afk_store_postgres.damage import info_again
from afk_store_postgres.layout import Layout
from afkcli.plugin import (
    StoreError,
    ThreadFilter,
    ThreadInfo,
    is_slip_of,
    may_end_a_name,
    reversed_end,
    short_name,
)

Among = Collection[str] | None
"""The keys of the threads that a search found; None if there was no search."""

_LAST_CHARACTER = "\U0010ffff"
_BY_USE = "ORDER BY used DESC, key DESC LIMIT %(limit)s"


class Listing:
    """Questions about threads, on an open connection.

    Args:
        connection: the connection.
        layout: the tables.
    """

    def __init__(self, connection: WatchedConnection, layout: Layout) -> None:
        self._connection = connection
        self._layout = layout

    def infos(self, keys: Sequence[str]) -> list[ThreadInfo]:
        """Return the threads with `keys` in this order, as far as they are still there."""
        query = "SELECT key, name, info, crc FROM {s}.thread WHERE key = ANY(%(keys)s)"
        found = {row[0]: row for row in self._read(query, keys=list(keys))}
        return [info for key in keys if key in found and (info := self.info(found[key])) is not None]

    def find(self, name: str) -> ThreadInfo | None:
        """Return the thread `name`."""
        if not rows.is_column(name):
            return None
        for row in self._read("SELECT key, name, info, crc FROM {s}.thread WHERE name = %(name)s", name=name):
            return self.info(row, strict=True)
        return None

    def info(self, row: tuple[Any, ...], *, strict: bool = False) -> ThreadInfo | None:
        """Return the thread of a row; one of which nothing can be read is left out, unless `strict`."""
        key, name, data, crc = row
        info = rows.info_of(key, data, crc)
        if info is not None:
            return info
        try:
            return info_again(self._connection, self._layout, key, name)
        except StoreError:
            if strict:
                raise
            return None

    def keys(self, wanted: ThreadFilter, among: Among, limit: int | None) -> list[str]:
        """Return the keys of the threads that are wanted, the last used first."""
        condition, values = _where(wanted, among)
        found = self._read(f"SELECT key FROM {{s}}.thread WHERE {condition} {_BY_USE}", **values, limit=limit)  # noqa: S608
        return [key for (key,) in found]

    def count(self, wanted: ThreadFilter, among: Among) -> int:
        """Return how many threads are wanted."""
        condition, values = _where(wanted, among)
        ((count,),) = self._read(f"SELECT count(*) FROM {{s}}.thread WHERE {condition}", **values)  # noqa: S608
        return int(count)

    def names_meant(self, text: str, limit: int | None) -> list[str]:
        """Return the names that begin with `text`, and the unnamed ones that end with it, the last used first."""
        if not rows.is_column(text):
            return []
        condition = "name >= %(text)s AND name < %(after)s"
        if may_end_a_name(text):
            condition = f"({condition}) OR (tail >= %(end)s AND tail < %(after_end)s)"
        query = f"SELECT name FROM {{s}}.thread WHERE listed AND ({condition}) {_BY_USE}"  # noqa: S608
        end = reversed_end(text)
        values = {"text": text, "after": text + _LAST_CHARACTER, "end": end, "after_end": end + _LAST_CHARACTER}
        return [name for (name,) in self._read(query, **values, limit=limit)]

    def short_names(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return the short names of unnamed threads, from the names before and behind each in the order of ends."""
        query = (
            "SELECT (SELECT max(tail) FROM {s}.thread WHERE tail < %(end)s AND listed),"
            " (SELECT min(tail) FROM {s}.thread WHERE tail > %(end)s AND listed)"
        )
        found = {}
        for name in names:
            ((before, behind),) = self._read(query, end=reversed_end(name))
            found[name] = short_name(name, [reversed_end(other) for other in (before, behind) if other is not None])
        return found

    def names_near(self, name: str) -> list[str]:
        """Return the names that `name` is a slip of."""
        near = "SELECT name FROM {s}.thread WHERE listed AND length(name) BETWEEN %(least)s AND %(most)s"
        found = self._read(near, least=len(name) - 1, most=len(name) + 1)
        return [other for (other,) in found if is_slip_of(name, other)]

    def counters(self, prefix: str) -> Mapping[str, float]:
        """Return the counters whose names begin with `prefix`."""
        if not rows.is_column(prefix):
            return {}
        query = "SELECT name, value FROM {s}.counter WHERE name >= %(prefix)s AND name < %(after)s"
        return dict(self._read(query, prefix=prefix, after=prefix + _LAST_CHARACTER))

    def _read(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._layout.query(query), values).fetchall()


def _where(wanted: ThreadFilter, among: Among) -> tuple[str, dict[str, object]]:
    """Return the condition for the threads that are wanted, and its values."""
    model = "(model = %(model)s OR substr(model, strpos(model, '/') + 1) = %(model)s)"
    values: dict[str, object] = {
        "folder": rows.column(wanted.folder),
        "since": wanted.since,
        "until": wanted.until,
        "agent": rows.column(wanted.agent),
        "model": rows.column(wanted.model),
        "tag": rows.column(wanted.tag),
        "among": None if among is None else list(among),
    }
    conditions = {
        "folder": "folder = %(folder)s",
        "since": "used >= %(since)s",
        "until": "used < %(until)s",
        "agent": "agent = %(agent)s",
        "model": model,
        "tag": "%(tag)s = ANY(tags)",
        "among": "key = ANY(%(among)s)",
    }
    given = {name: value for name, value in values.items() if value is not None}
    return " AND ".join(["listed", *(conditions[name] for name in given)]), given

"""Listing: a second SQLite file beside the database, made from it and made again whenever it is lost.

It follows the database as following.py says. So a run never touches the index, an index that is lost or wrong is
corrected by itself, and a list costs what it shows. The text of the threads has a file of its own (text_index.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from afk_store_disk.cache import ThreadCache
from afk_store_disk.following import (
    NO_DIFFERENCE,
    SEEN_TABLE,
    FollowingFile,
    checked_text,
    data_version,
    difference,
    is_unchanged,
    keep_seen,
    put_seen,
    transaction,
)
from afk_store_disk.lookups import names_meant, names_near, short_names, tags_text, where
from afk_store_disk.problems import BUSY_SECONDS
from afk_store_disk.repair import read_info
from afkcli.plugin import ThreadFilter, is_unnamed, reversed_end

T = TypeVar("T")

INDEX_VERSION = 5

_TABLES = f"""
{SEEN_TABLE};
CREATE TABLE thread (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, number INTEGER, used TEXT, folder TEXT, name TEXT,
    agent TEXT, model TEXT, tags TEXT, tail TEXT
);
CREATE INDEX thread_number ON thread (number, key);
CREATE INDEX thread_used ON thread (used, key, agent, model, tags);
CREATE INDEX thread_folder ON thread (folder, used, key);
CREATE INDEX thread_name ON thread (name, used, key);
CREATE INDEX thread_tail ON thread (tail, name, used, key) WHERE tail IS NOT NULL
"""
_COLUMNS = ("key", "number", "used", "folder", "name", "agent", "model", "tags", "tail")
_PUT_THREAD = (
    f"INSERT INTO thread ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)

Among = Collection[str] | None
"""The keys of the threads that count; None for all threads."""


class Listing:
    """Answers from the index of `cache`, brought up to date first.

    Args:
        cache: the database; every method is called inside a snapshot of it.
        file: the index; it is created, brought up to date or made anew as needed. Where it cannot be written, an index
            in memory does the same, only slower.
    """

    def __init__(self, cache: ThreadCache, file: Path) -> None:
        self._cache = cache
        self._file = FollowingFile(file, INDEX_VERSION, _make_tables)

    def keys(self, wanted: ThreadFilter, among: Among, limit: int | None = None, *, compare: bool = False) -> list[str]:
        """Return the keys of the threads that are wanted, the last used first.

        Args:
            wanted: which threads, but for their text.
            among: those that count.
            limit: how many to return.
            compare: whether to compare all of the index with the database first.
        """

        def read(index: Index) -> list[str]:
            if compare:
                index.follow(self._cache, compare=True)
            return index.keys(wanted, among, limit)

        return self._read(read)

    def page(self, wanted: ThreadFilter, among: Among, limit: int, *, compare: bool = False) -> tuple[list[str], int]:
        """Return the first `limit` keys that `keys` would return, and how many it would return in all."""

        def read(index: Index) -> tuple[list[str], int]:
            if compare:
                index.follow(self._cache, compare=True)
            return index.keys(wanted, among, limit), index.count(wanted, among)

        return self._read(read)

    def count(self, wanted: ThreadFilter, among: Among) -> int:
        """Return how many threads `keys` would return."""
        return self._read(lambda index: index.count(wanted, among))

    def names_meant(self, text: str, limit: int | None) -> list[str]:
        """Return the names that `text` may mean, the last used first."""
        return self._read(lambda index: [checked_text(name) for name in names_meant(index.con, text, limit)])

    def short_names(self, names: Sequence[str]) -> dict[str, str]:
        """Return the short names of unnamed threads."""
        return self._read(lambda index: short_names(index.con, names))

    def names_near(self, name: str) -> list[str]:
        """Return the names that `name` is a slip of."""
        return self._read(lambda index: sorted(names_near(index.con, name)))

    def forget(self, key: str) -> None:
        """Take out a thread that was deleted.

        Raises:
            sqlite3.Error, OSError: that is not possible now.
        """
        self._file.use_once(lambda con: Index(con).forget(key), BUSY_SECONDS)

    def _read(self, read: Callable[[Index], T]) -> T:
        def use(con: sqlite3.Connection) -> T:
            index = Index(con)
            index.follow(self._cache)
            return read(index)

        return self._file.use(use, BUSY_SECONDS)


class Index:
    """The tables of an index, on an open connection."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self.con = con

    def follow(self, cache: ThreadCache, *, compare: bool = False) -> None:
        """Take over what changed in the database; with `compare` all rows are compared."""
        files, is_settled = cache.files()
        if not compare and is_unchanged(self.con, files):
            return
        version = data_version(self.con)
        found = difference(self.con, cache, compare=compare)
        if found == NO_DIFFERENCE:
            if is_settled:
                keep_seen(self.con, files, BUSY_SECONDS)
            return
        with transaction(self.con):
            if data_version(self.con) != version:  # another process was faster
                found = difference(self.con, cache, compare=compare)
            for key in found.gone:
                self.forget(key)
            for key, number in found.changed.items():
                self._take(cache, key, number)
            if is_settled:
                put_seen(self.con, files)

    def keys(self, wanted: ThreadFilter, among: Among, limit: int | None) -> list[str]:
        """Return the keys of the threads that are wanted, the last used first."""
        condition, values = where(wanted)
        query = f"SELECT key FROM thread WHERE {condition} ORDER BY used DESC, key DESC LIMIT ?"  # noqa: S608
        most = -1 if limit is None or among is not None else limit
        found = (checked_text(key) for (key,) in self.con.execute(query, (*values, most)))
        return list(islice((key for key in found if among is None or key in among), limit))

    def count(self, wanted: ThreadFilter, among: Among) -> int:
        """Return how many threads `keys` would return."""
        if among is not None:
            return len(self.keys(wanted, among, None))
        condition, values = where(wanted)
        ((count,),) = self.con.execute(f"SELECT count(*) FROM thread WHERE {condition}", values).fetchall()  # noqa: S608
        return int(count)

    def _take(self, cache: ThreadCache, key: str, number: int) -> None:
        row = read_info(cache, key)
        if row is None:
            self.forget(key)
            return
        info = row.info
        tail = reversed_end(info.name) if is_unnamed(info.name) else None
        about = (info.used, info.folder, info.name, info.agent, info.model, tags_text(info.tags), tail)
        self.con.execute(_PUT_THREAD, (key, number, *about))

    def forget(self, key: str) -> None:
        """Take out the thread `key`."""
        self.con.execute("DELETE FROM thread WHERE key = ?", (key,))


def _make_tables(con: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        con.execute(statement)

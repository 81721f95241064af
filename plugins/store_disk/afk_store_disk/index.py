"""Listing: a second SQLite file beside the database, made from it and made again whenever it is lost.

It follows the database as following.py says. So a run never touches the index, an index that is lost or wrong is
corrected by itself, and a list costs what it shows. The text of the threads has a file of its own (text_index.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from afk_store_disk.cache import ThreadCache
from afk_store_disk.following import Difference, FollowingFile, checked_text, difference, transaction
from afk_store_disk.problems import BUSY_SECONDS
from afk_store_disk.repair import read_info

T = TypeVar("T")

INDEX_VERSION = 3

_TABLES = """
CREATE TABLE thread (id INTEGER PRIMARY KEY, key TEXT UNIQUE, number INTEGER, used TEXT, folder TEXT, name TEXT);
CREATE INDEX thread_number ON thread (number, key);
CREATE INDEX thread_used ON thread (used, key);
CREATE INDEX thread_folder ON thread (folder, used, key);
CREATE INDEX thread_name ON thread (name, used, key)
"""
_PUT_THREAD = (
    "INSERT INTO thread (key, number, used, folder, name) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET number = excluded.number, used = excluded.used, folder = excluded.folder, "
    "name = excluded.name"
)
_LAST_CHARACTER = "\U0010ffff"

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

    def keys(self, folder: str | None, among: Among, limit: int | None = None, *, compare: bool = False) -> list[str]:
        """Return the keys of the threads that are wanted, the last used first.

        Args:
            folder: the folder that the threads must have, if any.
            among: those that count.
            limit: how many to return.
            compare: whether to compare all of the index with the database first.
        """

        def read(index: Index) -> list[str]:
            if compare:
                index.follow(self._cache, compare=True)
            found = index.keys(folder, limit if among is None else None)
            return list(islice((key for key in found if among is None or key in among), limit))

        return self._read(read)

    def count(self, folder: str | None, among: Among) -> int:
        """Return how many threads `keys` would return."""
        if among is not None:
            return len(self.keys(folder, among))
        return self._read(lambda index: index.count(folder))

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, the last used first."""
        return self._read(lambda index: index.names(prefix))

    def _read(self, read: Callable[[Index], T]) -> T:
        def use(con: sqlite3.Connection) -> T:
            index = Index(con)
            index.follow(self._cache)
            return read(index)

        return self._file.use(use, BUSY_SECONDS)


class Index:
    """The tables of an index, on an open connection."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con

    def follow(self, cache: ThreadCache, *, compare: bool = False) -> None:
        """Take over what changed in the database; with `compare` all rows are compared."""
        if difference(self._con, cache, compare=compare) == Difference(frozenset(), {}):
            return
        with transaction(self._con):
            gone, changed = difference(self._con, cache, compare=compare)  # another process may have been faster
            for key in gone:
                self._forget(key)
            for key, number in changed.items():
                self._take(cache, key, number)

    def keys(self, folder: str | None, limit: int | None) -> Iterator[str]:
        """Yield the keys of the threads in `folder`, the last used first."""
        where, values = _in(folder)
        query = f"SELECT key FROM thread WHERE {where} ORDER BY used DESC, key DESC LIMIT ?"  # noqa: S608
        for (key,) in self._con.execute(query, (*values, -1 if limit is None else limit)):
            yield checked_text(key)

    def count(self, folder: str | None) -> int:
        """Return how many threads `keys` would yield."""
        where, values = _in(folder)
        ((count,),) = self._con.execute(f"SELECT count(*) FROM thread WHERE {where}", values).fetchall()  # noqa: S608
        return int(count)

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, the last used first."""
        query = "SELECT name FROM thread WHERE name >= ? AND name < ? ORDER BY used DESC, key DESC"
        return [checked_text(name) for (name,) in self._con.execute(query, (prefix, f"{prefix}{_LAST_CHARACTER}"))]

    def _take(self, cache: ThreadCache, key: str, number: int) -> None:
        row = read_info(cache, key)
        if row is None:
            self._forget(key)
            return
        info = row.info
        self._con.execute(_PUT_THREAD, (key, number, info.used, info.folder, info.name))

    def _forget(self, key: str) -> None:
        self._con.execute("DELETE FROM thread WHERE key = ?", (key,))


def _make_tables(con: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        con.execute(statement)


def _in(folder: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a thread is in `folder`, and its values."""
    return ("1", ()) if folder is None else ("folder = ?", (folder,))

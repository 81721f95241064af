"""Listing and search: a second SQLite file beside the database, made from it and made again whenever it is lost.

The database holds one row `changed/<number>/<key>` a thread, with a number that grows with every change. A process
that lists threads reads the rows behind the last one that the index knows, and these threads. Then it compares how many
rows there are, the sum of their numbers and the last one; where they differ (a thread was deleted, the index is damaged
or of another database) it compares all rows. So a run never touches the index, an index that is lost or wrong is
corrected by itself, and a list costs what it shows.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from afk_store_disk import rows
from afk_store_disk.cache import Changes, ThreadCache
from afk_store_disk.problems import BUSY_SECONDS
from afk_store_disk.repair import read_info
from afkcli.plugin import Json, JsonError, loads_object, private_file

T = TypeVar("T")

INDEX_VERSION = 2
MEMORY = ":memory:"

_TABLES = """
CREATE TABLE thread (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, number INTEGER, used TEXT, folder TEXT, name TEXT, title TEXT,
    searched INTEGER DEFAULT 0, next_record INTEGER DEFAULT 0
);
CREATE INDEX thread_number ON thread (number, key);
CREATE INDEX thread_used ON thread (used, key);
CREATE INDEX thread_folder ON thread (folder, used, key);
CREATE INDEX thread_name ON thread (name, used, key);
CREATE INDEX thread_to_search ON thread (id) WHERE searched <> number;
CREATE TABLE passage (id INTEGER PRIMARY KEY, thread INTEGER, record INTEGER);
CREATE INDEX passage_thread ON passage (thread, record);
"""
_WORDS = "CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'trigram')"
_PLAIN_WORDS = "CREATE TABLE words (text TEXT)"
_PUT_THREAD = (
    "INSERT INTO thread (key, number, used, folder, name, title) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET number = excluded.number, used = excluded.used, folder = excluded.folder, "
    "name = excluded.name, title = excluded.title"
)
_THREADS = "SELECT thread FROM words JOIN passage ON passage.id = words.rowid"
_LAST_CHARACTER = "\U0010ffff"
_TITLE = -1  # the record number of the passage that holds a thread's name and title
_TRIGRAM = 3  # shorter words have no trigram and are looked for one by one
_NOT_DAMAGE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)


class Listing:
    """Answers from the index of `cache`, brought up to date first.

    Args:
        cache: the database; every method is called inside a snapshot of it.
        file: the index; it is created, brought up to date or made anew as needed. Where it cannot be written, an index
            in memory does the same, only slower.
    """

    def __init__(self, cache: ThreadCache, file: Path) -> None:
        self._cache = cache
        self._file = file

    def keys(
        self, folder: str | None, search: str | None, limit: int | None = None, *, compare: bool = False
    ) -> list[str]:
        """Return the keys of the threads that are wanted, the last used first.

        Args:
            folder: the folder that the threads must have, if any.
            search: words that the thread's name, title and messages must contain, in any letter case.
            limit: how many to return.
            compare: whether to compare all of the index with the database first.
        """

        def read(index: Index) -> list[str]:
            if compare:
                index.compare(self._cache)
            return index.keys(folder, self._words(index, search), limit)

        return self._read(read)

    def count(self, folder: str | None, search: str | None) -> int:
        """Return how many threads `keys` would return."""
        return self._read(lambda index: index.count(folder, self._words(index, search)))

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, the last used first."""
        return self._read(lambda index: index.names(prefix))

    def _words(self, index: Index, search: str | None) -> list[str]:
        words = (search or "").replace("\0", " ").casefold().split()
        if words:
            index.follow_text(self._cache)
        return words

    def _read(self, read: Callable[[Index], T]) -> T:
        for _ in range(2):
            try:
                return self._read_from(str(_created(self._file)), read)
            except (sqlite3.Error, OSError, ValueError, TypeError) as error:  # damage gives values of any type
                if not _is_damage(error) or not _removed(self._file):
                    break
        return self._read_from(MEMORY, read)

    def _read_from(self, path: str, read: Callable[[Index], T]) -> T:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as con:
            index = Index(con)
            index.follow(self._cache)
            return read(index)


def _created(file: Path) -> Path:
    if not file.exists():
        os.close(private_file(file))
    return file


def _is_damage(error: Exception) -> bool:
    if isinstance(error, (ValueError, TypeError)):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
    return code not in _NOT_DAMAGE


def _removed(file: Path) -> bool:
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
    except OSError:
        return False
    return True


class Index:
    """The tables of an index, on an open connection."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con
        con.text_factory = partial(str, encoding="utf-8", errors="replace")
        con.execute("PRAGMA synchronous = OFF")  # what a power loss breaks is made again
        con.execute("PRAGMA trusted_schema = OFF")
        if self._version() == 0:
            self._make_tables()
        if self._version() != INDEX_VERSION:
            raise _wrong_version()
        kind = con.execute("SELECT sql FROM sqlite_master WHERE name = 'words'").fetchone()
        self._trigrams = kind is not None and "fts5" in kind[0]

    def follow(self, cache: ThreadCache) -> None:
        """Take over what changed in the database: order, names and folders."""
        there = cache.changes()
        if self._changes() == there:
            return
        with self._transaction():
            last = self._changes().last
            for key, number in rows.changed_threads(cache.keys_after(rows.CHANGED, last)).items():
                self._take(cache, key, number)
            if self._changes() != there:
                self._compare(cache)

    def compare(self, cache: ThreadCache) -> None:
        """Compare all rows with the database, and take over what differs."""
        with self._transaction():
            self._compare(cache)

    def _compare(self, cache: ThreadCache) -> None:
        there = rows.changed_threads(cache.keys(rows.CHANGED))
        here = dict(self._con.execute("SELECT key, number FROM thread"))
        for key in here.keys() - there.keys():
            self._forget(key)
        for key, number in there.items():
            if here.get(key) != number:
                self._take(cache, key, number)

    def _changes(self) -> Changes:
        ((count, total),) = self._con.execute("SELECT count(*), total(number) FROM thread").fetchall()
        last = self._con.execute("SELECT number, key FROM thread ORDER BY number DESC, key DESC LIMIT 1").fetchone()
        return Changes(count, total, rows.changed_key(*last) if last is not None else "")

    def follow_text(self, cache: ThreadCache) -> None:
        """Take over the text of the threads that changed since the last search."""
        stale = "SELECT id, key, number, searched, title, next_record FROM thread WHERE searched <> number"
        if self._con.execute(f"{stale} LIMIT 1").fetchone() is None:
            return
        with self._transaction():
            for thread, key, number, searched, title, next_record in self._con.execute(stale).fetchall():
                if number < searched:  # the database was put back to an earlier state
                    self._forget_text(thread, 0)
                    next_record = 0
                self._forget_text(thread, _TITLE, _TITLE)
                self._add_text(thread, _TITLE, title)
                self._con.execute(
                    "UPDATE thread SET searched = ?, next_record = ? WHERE id = ?",
                    (number, self._add_records(cache, thread, key, next_record), thread),
                )

    def keys(self, folder: str | None, words: Sequence[str], limit: int | None) -> list[str]:
        """Return the keys of the threads in `folder` whose text contains all `words`, the last used first."""
        where, values = self._where(folder, words)
        query = f"SELECT key FROM thread WHERE {where} ORDER BY used DESC, key DESC LIMIT ?"  # noqa: S608
        return [_text(key) for (key,) in self._con.execute(query, (*values, -1 if limit is None else limit))]

    def count(self, folder: str | None, words: Sequence[str]) -> int:
        """Return how many threads `keys` would return."""
        where, values = self._where(folder, words)
        ((count,),) = self._con.execute(f"SELECT count(*) FROM thread WHERE {where}", values).fetchall()  # noqa: S608
        return int(count)

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, the last used first."""
        query = "SELECT name FROM thread WHERE name >= ? AND name < ? ORDER BY used DESC, key DESC"
        return [_text(name) for (name,) in self._con.execute(query, (prefix, f"{prefix}{_LAST_CHARACTER}"))]

    def _where(self, folder: str | None, words: Sequence[str]) -> tuple[str, list[str]]:
        where, values = ["1"], []
        if folder is not None:
            where.append("folder = ?")
            values.append(folder)
        for word in words:
            condition, value = self._contains(word)
            where.append(f"id IN ({_THREADS} WHERE {condition})")
            values.append(value)
        return " AND ".join(where), values

    def _contains(self, word: str) -> tuple[str, str]:
        if self._trigrams and len(word) >= _TRIGRAM:
            return "words MATCH ?", '"' + word.replace('"', '""') + '"'
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return "text LIKE ? ESCAPE '\\'", f"%{escaped}%"

    def _version(self) -> int:
        ((version,),) = self._con.execute("PRAGMA user_version").fetchall()
        return int(version)

    def _make_tables(self) -> None:
        with self._transaction():
            if self._version():  # another process was first
                return
            for statement in _TABLES.split(";"):
                self._con.execute(statement)
            try:
                self._con.execute(_WORDS)
            except sqlite3.OperationalError:  # an SQLite without FTS5 or its trigrams: search scans
                self._con.execute(_PLAIN_WORDS)
            self._con.execute(f"PRAGMA user_version = {INDEX_VERSION}")

    def _take(self, cache: ThreadCache, key: str, number: int) -> None:
        row = read_info(cache, key)
        if row is None:
            self._forget(key)
            return
        info = row.info
        self._con.execute(
            _PUT_THREAD, (key, number, info.used, info.folder, info.name, f"{info.name}\n{info.title or ''}")
        )

    def _forget(self, key: str) -> None:
        for (thread,) in self._con.execute("SELECT id FROM thread WHERE key = ?", (key,)).fetchall():
            self._forget_text(thread, _TITLE)
            self._con.execute("DELETE FROM thread WHERE id = ?", (thread,))

    def _forget_text(self, thread: int, first: int, last: int | None = None) -> None:
        wanted = "FROM passage WHERE thread = ? AND record >= ? AND (? IS NULL OR record <= ?)"
        values = (thread, first, last, last)
        self._con.execute(f"DELETE FROM words WHERE rowid IN (SELECT id {wanted})", values)  # noqa: S608
        self._con.execute(f"DELETE {wanted}", values)

    def _add_records(self, cache: ThreadCache, thread: int, key: str, first: int) -> int:
        """Add the text of the sealed records from `first` on; return the number of the one to come."""
        for row, text in cache.texts(*rows.kept_from(key, first)):
            record = rows.record_from_text(row, text)
            self._add_text(thread, record.index, _spoken(record.body))
            first = max(first, record.index + 1)
        return first

    def _add_text(self, thread: int, record: int, text: str) -> None:
        added = self._con.execute("INSERT INTO passage (thread, record) VALUES (?, ?)", (thread, record))
        folded = text.replace("\0", " ").casefold()
        self._con.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (added.lastrowid, folded))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._con.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._con.execute("COMMIT")
        except BaseException:
            if self._con.in_transaction:
                self._con.execute("ROLLBACK")
            raise


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("the index has a value that is not text")
    return value


def _spoken(body: str) -> str:
    """Return the text of the messages in the body of a record, "" where there is none."""
    try:
        messages = loads_object(body).get("messages")
    except JsonError:
        return ""
    return "\n".join(_texts(messages))


def _texts(value: Json) -> Iterator[str]:
    """Yield the text of a message, of its parts and of their parts; what a provider keeps for itself is left out."""
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        yield from _texts(value.get("parts"))


def _wrong_version() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the index is of another version")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error

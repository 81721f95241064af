"""Listing and search: a second SQLite file beside the database, made from it and made again whenever it is lost.

The database holds one row `changed/<number>/<key>` a thread, with a number that grows with every change. A process
that lists threads compares these rows with the index and reads the threads that differ. So a run never touches the
index, and an index that is old, deleted, damaged or of another database is corrected by itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from afk_store_disk import rows
from afk_store_disk.cache import ThreadCache
from afk_store_disk.problems import BUSY_SECONDS
from afk_store_disk.repair import read_info
from afkcli.plugin import Json, JsonError, loads_object, private_file

INDEX_VERSION = 1
MEMORY = ":memory:"

_TABLES = """
CREATE TABLE IF NOT EXISTS thread (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, number INTEGER, used TEXT, folder TEXT, title TEXT,
    searched INTEGER DEFAULT 0, next_record INTEGER DEFAULT 0
);
CREATE INDEX IF NOT EXISTS thread_used ON thread (used, key);
CREATE TABLE IF NOT EXISTS passage (id INTEGER PRIMARY KEY, thread INTEGER, record INTEGER);
CREATE INDEX IF NOT EXISTS passage_thread ON passage (thread, record);
"""
_WORDS = "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize = 'trigram')"
_PLAIN_WORDS = "CREATE TABLE IF NOT EXISTS words (text TEXT)"
_THREADS = "SELECT thread FROM words JOIN passage ON passage.id = words.rowid"
_TITLE = -1  # the record number of the passage that holds a thread's name and title
_TRIGRAM = 3  # shorter words have no trigram and are looked for one by one
_NOT_DAMAGE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)


def list_keys(cache: ThreadCache, file: Path, folder: str | None, search: str | None) -> Sequence[str]:
    """Return the keys of the threads of `cache` that are wanted, the last used first.

    Args:
        cache: the database.
        file: the index; it is created, brought up to date or made anew as needed. Where it cannot be written, an index
            in memory does the same, only slower.
        folder: the folder that the threads must have, if any.
        search: words that the thread's name, title and messages must contain, in any letter case.
    """
    for _ in range(2):
        try:
            return _list_keys(cache, str(_created(file)), folder, search)
        except (sqlite3.Error, OSError) as error:
            if not _is_damage(error) or not _removed(file):
                break
    return _list_keys(cache, MEMORY, folder, search)


def _list_keys(cache: ThreadCache, path: str, folder: str | None, search: str | None) -> Sequence[str]:
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as con:
        index = Index(con)
        index.follow(cache)
        words = (search or "").replace("\0", " ").casefold().split()
        if words:
            index.follow_text(cache)
        return index.find(folder, words)


def _created(file: Path) -> Path:
    if not file.exists():
        os.close(private_file(file))
    return file


def _is_damage(error: Exception) -> bool:
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
        con.execute("PRAGMA synchronous = OFF")  # what a power loss breaks is made again
        con.execute("PRAGMA trusted_schema = OFF")
        ((version,),) = con.execute("PRAGMA user_version").fetchall()
        if version == 0:
            self._make_tables()
        elif version != INDEX_VERSION:
            raise _wrong_version()
        kind = con.execute("SELECT sql FROM sqlite_master WHERE name = 'words'").fetchone()
        self._trigrams = kind is not None and "fts5" in kind[0]

    def follow(self, cache: ThreadCache) -> None:
        """Take over what changed in the database: order and folders."""
        if not self._behind(cache):
            return
        with self._transaction():
            for key, number in self._behind(cache).items():
                self._take(cache, key, number)

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

    def find(self, folder: str | None, words: Sequence[str]) -> list[str]:
        """Return the keys of the threads in `folder` whose text contains all `words`, the last used first."""
        where, values = ["1"], []
        if folder is not None:
            where.append("folder = ?")
            values.append(folder)
        for word in words:
            condition, value = self._contains(word)
            where.append(f"id IN ({_THREADS} WHERE {condition})")
            values.append(value)
        query = f"SELECT key FROM thread WHERE {' AND '.join(where)} ORDER BY used DESC, key DESC"  # noqa: S608
        return [key for (key,) in self._con.execute(query, values)]

    def _contains(self, word: str) -> tuple[str, str]:
        if self._trigrams and len(word) >= _TRIGRAM:
            return "words MATCH ?", '"' + word.replace('"', '""') + '"'
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return "text LIKE ? ESCAPE '\\'", f"%{escaped}%"

    def _make_tables(self) -> None:
        with self._transaction():
            for statement in _TABLES.split(";"):
                self._con.execute(statement)
            try:
                self._con.execute(_WORDS)
            except sqlite3.OperationalError:  # an SQLite without FTS5 or its trigrams: search scans
                self._con.execute(_PLAIN_WORDS)
            self._con.execute(f"PRAGMA user_version = {INDEX_VERSION}")

    def _behind(self, cache: ThreadCache) -> dict[str, int | None]:
        """Return the threads that differ from the database, with their number there; None if they are gone."""
        there = rows.changed_threads(cache.keys(rows.CHANGED))
        here = dict(self._con.execute("SELECT key, number FROM thread"))
        gone: dict[str, int | None] = dict.fromkeys(here.keys() - there.keys())
        return gone | {key: number for key, number in there.items() if here.get(key) != number}

    def _take(self, cache: ThreadCache, key: str, number: int | None) -> None:
        row = read_info(cache, key) if number is not None else None
        if row is None:
            self._forget(key)
            return
        info = row.info
        self._con.execute(
            "INSERT INTO thread (key, number, used, folder, title) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
            " SET number = excluded.number, used = excluded.used, folder = excluded.folder, title = excluded.title",
            (key, number, info.used, info.folder, f"{info.name}\n{info.title or ''}"),
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

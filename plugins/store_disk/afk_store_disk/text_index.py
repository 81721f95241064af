"""Search: a third SQLite file beside the database, with the text of all sealed turns, by trigrams.

The first search makes it. It follows the database as following.py says: when somebody searches, and when a store that
has written is closed (`TextSearch.keep`), so that a search has little to read. No seal waits for it. It is brought up
to date in steps, each in a transaction of its own and in its own snapshot of the database: a process that is killed
loses one step, and no log of the database grows meanwhile. What it finds is a place alone: the thread, the record and
the order. The text that is shown is read from the thread itself, so a wrong index shows nothing wrong.

    thread    how far a thread is indexed: the record to come, and the hash of the one before
    place     a sealed turn (`record` is the index of its seal), or what a thread is called (`record` is -1)
    text      the text of a place, folded: the words of a search are looked for in it as they are
    change    the changes of a thread (its `meta` records), which say what is left out of the conversation

A text ends with two newlines, so that each of its characters begins a trigram: a word of one or two characters is
looked for by the trigrams that begin with it. Where SQLite has no FTS5 or no trigrams, `text` is a plain table: all of
it is read, and the order is that of `text_score`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from afk_store_disk import rows
from afk_store_disk.cache import ThreadCache
from afk_store_disk.following import FollowingFile, checked_text, difference, newer_threads, transaction
from afk_store_disk.problems import BUSY_SECONDS
from afk_store_disk.repair import read_info
from afk_store_disk.text_query import COLUMNS, TextQuery
from afkcli.plugin import (
    TEXT_KINDS,
    Record,
    RecordKind,
    ThreadInfo,
    TurnMatch,
    TurnPlace,
    TurnSearch,
    TurnText,
    folded,
    left_out,
    names_text,
    progress,
    turn_text,
)

NAMES, *_ = TEXT_KINDS

T = TypeVar("T")

VERSION = 1
WAIT_SECONDS = 60.0
"""How long a search waits for another process that writes to the index: it does what the search would have to do."""
STEP_CHARS = 4 << 20
STEP_THREADS = 500
KEPT_RECORDS = 64
KEPT_CHARS = 256 << 10
"""How much of the threads is taken over when a store is closed: a shell waits for it."""
KEPT_PLACES = 1000
"""A thread of more places than these is left to a search, if all of them have to be compared."""
ENDING = "\n\n"

_TABLES = """
CREATE TABLE thread (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, number INTEGER DEFAULT 0, next_record INTEGER DEFAULT 0,
    last_record INTEGER, last_hash TEXT, forked INTEGER DEFAULT 0
);
CREATE INDEX thread_number ON thread (number, key);
CREATE TABLE place (
    id INTEGER PRIMARY KEY, thread INTEGER, record INTEGER, turn INTEGER, run_id TEXT, resumes TEXT, started TEXT,
    copy TEXT, left_out TEXT
);
CREATE INDEX place_thread ON place (thread, record);
CREATE TABLE change (thread INTEGER, record INTEGER, turn INTEGER, body TEXT);
CREATE INDEX change_thread ON change (thread, record)
"""
_TEXT = f"CREATE VIRTUAL TABLE text USING fts5({', '.join(COLUMNS)}, tokenize = 'trigram')"
_TRIGRAMS = "CREATE VIRTUAL TABLE trigram USING fts5vocab(text, 'row')"
_PLAIN_TEXT = f"CREATE TABLE text ({', '.join(COLUMNS)})"
_NAMES = -1  # the record of the place that holds what a thread is called


class _StepEnd(Exception):  # noqa: N818 - it is no error
    """Enough was taken for one step."""


class TextSearch:
    """Searches the text of the threads of `cache`.

    Args:
        cache: the database; every method is called outside snapshots of it.
        file: the index; it is created, brought up to date or made anew as needed.
    """

    def __init__(self, cache: ThreadCache, file: Path) -> None:
        self._cache = cache
        self._file = FollowingFile(file, VERSION, _make_tables)

    def matches(self, search: TurnSearch, limit: int) -> list[TurnMatch]:
        """Return the turns and threads that are found, as `SearchStore.search_turns` does."""
        if limit < 1 or not search.words:
            return []

        def read(con: sqlite3.Connection) -> list[TurnMatch]:
            found = self._found(con, search, limit)
            if None in found:  # a thread was deleted just now, or the index is wrong
                TextIndex(con, self._cache).follow(compare=True)
                found = self._found(con, search, limit)
            return [match for match in found if match is not None]

        return self._read(read)

    def _found(self, con: sqlite3.Connection, search: TurnSearch, limit: int) -> list[TurnMatch | None]:
        places = TextQuery(con, search).places(limit)
        with self._cache.snapshot():
            return [self._match(place) for place in places]

    def _match(self, found: tuple[str, int, str | None]) -> TurnMatch | None:
        key, record, why = found
        row = read_info(self._cache, key)
        return TurnMatch(thread=row.info, record=None if record == _NAMES else record, left_out=why) if row else None

    def threads(self, words: Sequence[str]) -> frozenset[str]:
        """Return the keys of the threads that have all `words`, each anywhere in the thread."""
        search = TurnSearch(words=tuple(words), every=True)
        return self._read(lambda con: frozenset(TextQuery(con, search).keys_of_threads()))

    def forget(self, key: str) -> None:
        """Take out a thread that was deleted.

        Raises:
            sqlite3.Error, OSError: that is not possible now.
        """
        self._file.use_once(lambda con: TextIndex(con, self._cache).forget(key), BUSY_SECONDS)

    def keep(self) -> None:
        """Take over a little of what was sealed, if no other process writes to the index.

        Raises:
            sqlite3.Error, OSError, ValueError, TypeError, StoreError: that is not possible now, or the index is
                damaged, which the next search repairs.
        """
        self._file.use_once(lambda con: TextIndex(con, self._cache).keep(), 0.0)

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        def use(con: sqlite3.Connection) -> T:
            TextIndex(con, self._cache).follow()
            return read(con)

        return self._file.use(use, WAIT_SECONDS)


class _Taken(NamedTuple):
    """How far a thread is indexed."""

    id: int
    number: int
    next_record: int
    last_record: int | None
    last_hash: str | None


class TextIndex:
    """The tables of the index, on an open connection.

    Args:
        con: the connection.
        cache: the database; no method is called inside a snapshot of it.
    """

    def __init__(self, con: sqlite3.Connection, cache: ThreadCache) -> None:
        self._con = con
        self._cache = cache
        self._chars = 0  # that were taken in this step
        self._records = 0  # that were read in this step
        self._is_keeping = False

    def follow(self, *, compare: bool = False) -> None:
        """Take over what changed in the database until now, step by step; with `compare` all rows are compared."""
        with self._cache.snapshot():
            found = difference(self._con, self._cache, compare=compare)
        newest_last = sorted(found.changed.items(), key=lambda item: item[1])
        left: list[tuple[str, int | None]] = [*((key, None) for key in found.gone), *newest_last]
        total = len(left)
        with progress("making the search index, threads") as tell:
            while left:
                tell(total - len(left), total)
                with self._cache.snapshot(), transaction(self._con):
                    left = self._step(left)

    def keep(self) -> None:
        """Take over a little of what was written since the last change that is known, in one step.

        It does not compare the sums: that costs what there is of threads. What it does not see, a search does.
        """
        self._is_keeping = True
        with self._cache.snapshot(), transaction(self._con):
            newer: list[tuple[str, int | None]] = [*newer_threads(self._con, self._cache, KEPT_RECORDS).items()]
            if newer:
                self._step(newer)

    def forget(self, key: str) -> None:
        """Take out the thread `key`."""
        with transaction(self._con):
            self._forget(key)

    def _step(self, left: list[tuple[str, int | None]]) -> list[tuple[str, int | None]]:
        """Take over some threads, given with the numbers of their changes, and return the others."""
        self._chars = self._records = 0
        for done, (key, number) in enumerate(left):
            if done == STEP_THREADS or self._chars >= STEP_CHARS:
                return left[done:]
            try:
                self._take(key, number)
            except _StepEnd:
                return left[done:]
        return []

    def _take(self, key: str, number: int | None) -> None:
        """Take over what is new in the thread `key`; raises `_StepEnd` if some of it is left."""
        row = read_info(self._cache, key)
        if row is None or number is None:
            self._forget(key)
            return
        taken = self._taken(key)
        if taken.number == row.changed != 0:  # another process was faster
            return
        if not self._follows(key, taken):
            self._forget(key)
            taken = self._taken(key)
        self._add_records(taken, row.info)
        self._put_names(taken.id, row.info)
        forked = row.info.parent is not None
        values = (row.changed or number, forked, taken.id)
        self._con.execute("UPDATE thread SET number = ?, forked = ? WHERE id = ?", values)

    def _taken(self, key: str) -> _Taken:
        columns = "id, number, next_record, last_record, last_hash"
        query = f"SELECT {columns} FROM thread WHERE key = ?"  # noqa: S608
        found = self._con.execute(query, (key,)).fetchone()
        if found is None:
            added = self._con.execute("INSERT INTO thread (key) VALUES (?)", (key,))
            self._forget_texts(added.lastrowid or 0)  # there are some if rows of this table were lost
            found = self._con.execute(query, (key,)).fetchone()
        return _Taken(*found)

    def _follows(self, key: str, taken: _Taken) -> bool:
        """Return whether the last record that was taken is still there; not so in a database that was put back."""
        if taken.last_record is None:
            return taken.next_record == 0
        for row, text in self._cache.texts(*rows.kept_from(key, taken.last_record), limit=1):
            record = rows.record_from_text(row, text)
            return (record.index, record.hash) == (taken.last_record, taken.last_hash)
        return False

    def _put_names(self, thread: int, info: ThreadInfo) -> None:
        of_place = "FROM place JOIN text ON text.rowid = place.id WHERE place.thread = ?"
        first = f"SELECT substr(text.question, 1, 1000) {of_place} AND place.record >= 0 ORDER BY place.record LIMIT 1"
        asked = self._con.execute(first, (thread,)).fetchone()
        names = names_text(info, asked[0] or "" if asked is not None else "")
        there = f"SELECT place.id, text.names {of_place} AND place.record = ?"
        known = self._con.execute(there, (thread, _NAMES)).fetchone()
        if known is not None and known[1] == folded(names) + ENDING:
            self._con.execute("UPDATE place SET started = ? WHERE id = ?", (info.used, known[0]))
            return
        self._forget_place(thread, _NAMES)
        self._put(thread, TurnText(_NAMES, 0, "", None, info.used, "", {NAMES: names}))

    def _add_records(self, taken: _Taken, info: ThreadInfo) -> None:
        """Add what is sealed from the first record on that was not taken yet."""
        decides = taken.number == 0  # whether something that was taken decides what is left out
        for row, text in self._cache.texts(*rows.kept_from(info.key, taken.next_record)):
            if self._is_enough(len(text or "")):
                self._end_step(taken.id)
            record = rows.record_from_text(row, text)
            decides |= self._add_record(taken.id, record)
            self._con.execute(
                "UPDATE thread SET next_record = ?, last_record = ?, last_hash = ? WHERE id = ?",
                (record.index + 1, record.index, record.hash, taken.id),
            )
        if decides or self._con.execute("SELECT 1 FROM change WHERE thread = ? LIMIT 1", (taken.id,)).fetchone():
            if self._is_keeping and self._has_many_places(taken.id):
                self._end_step(taken.id)
            self._put_left_out(taken.id, info)

    def _is_enough(self, chars: int) -> bool:
        """Return whether a record of `chars` characters is left to the next step."""
        if not self._is_keeping:
            return self._chars >= STEP_CHARS
        self._records += 1
        return self._records > KEPT_RECORDS or self._chars + chars > KEPT_CHARS

    def _end_step(self, thread: int) -> NoReturn:
        """End a step within a thread: the next one finds that some of it is left."""
        self._con.execute("UPDATE thread SET number = 0 WHERE id = ?", (thread,))
        raise _StepEnd

    def _has_many_places(self, thread: int) -> bool:
        query = "SELECT 1 FROM place WHERE thread = ? LIMIT 1 OFFSET ?"
        return bool(self._con.execute(query, (thread, KEPT_PLACES)).fetchone())

    def _add_record(self, thread: int, record: Record) -> bool:
        """Add a record, and return whether it decides what is left out."""
        if record.kind is RecordKind.META:
            self._con.execute(
                "INSERT INTO change VALUES (?, ?, ?, ?)", (thread, record.index, record.turn, record.body)
            )
            return True
        turn = turn_text(record)
        if turn is None:
            return False
        self._put(thread, turn)
        return turn.resumes is not None

    def _put(self, thread: int, turn: TurnText) -> None:
        added = self._con.execute(
            "INSERT INTO place (thread, record, turn, run_id, resumes, started, copy) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (thread, turn.record, turn.turn, turn.run_id, turn.resumes, turn.started, turn.copy),
        )
        texts = [folded(turn.texts[kind]) + ENDING if kind in turn.texts else None for kind in COLUMNS]
        self._chars += sum(len(text) for text in texts if text is not None)
        marks = ", ".join("?" * len(texts))
        self._con.execute(
            f"INSERT INTO text (rowid, {', '.join(COLUMNS)}) VALUES (?, {marks})",  # noqa: S608
            (added.lastrowid, *texts),
        )

    def _put_left_out(self, thread: int, info: ThreadInfo) -> None:
        """Keep which turns are left out, as all records that were taken say it."""
        why = left_out(info, list(self._turns(thread)), self._changes(thread))
        known = self._con.execute(
            "SELECT id, turn, left_out FROM place WHERE thread = ? AND record >= 0", (thread,)
        ).fetchall()
        for place, turn, before in known:
            if why.get(turn) != before:
                self._con.execute("UPDATE place SET left_out = ? WHERE id = ?", (why.get(turn), place))

    def _turns(self, thread: int) -> Iterator[TurnPlace]:
        query = "SELECT turn, run_id, resumes FROM place WHERE thread = ? AND record >= 0 ORDER BY record"
        for turn in self._con.execute(query, (thread,)):
            yield TurnPlace(*turn)

    def _changes(self, thread: int) -> Iterator[Record]:
        query = "SELECT record, turn, body FROM change WHERE thread = ? ORDER BY record"
        for index, turn, body in self._con.execute(query, (thread,)):
            yield Record(index=index, kind=RecordKind.META, turn=turn, prev="", body=checked_text(body), hash="")

    def _forget(self, key: str) -> None:
        for (thread,) in self._con.execute("SELECT id FROM thread WHERE key = ?", (key,)).fetchall():
            self._forget_texts(thread)
            self._con.execute("DELETE FROM thread WHERE id = ?", (thread,))

    def _forget_texts(self, thread: int) -> None:
        self._forget_place(thread)
        self._con.execute("DELETE FROM change WHERE thread = ?", (thread,))

    def _forget_place(self, thread: int, record: int | None = None) -> None:
        wanted = "FROM place WHERE thread = ? AND (? IS NULL OR record = ?)"
        values = (thread, record, record)
        self._con.execute(f"DELETE FROM text WHERE rowid IN (SELECT id {wanted})", values)  # noqa: S608
        self._con.execute(f"DELETE {wanted}", values)


def _make_tables(con: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        con.execute(statement)
    try:
        con.execute(_TEXT)
        con.execute(_TRIGRAMS)
    except sqlite3.OperationalError:  # an SQLite without FTS5 or its trigrams
        con.execute(_PLAIN_TEXT)

"""Asks the text index: which places have the words of a search, and in which order.

A word is data: it is looked for as it is, also inside other words. What SQLite's query language gets of it is a quoted
phrase of at most `PHRASE_CHARS` characters; the rest of a longer word, and words beyond the first `INDEXED_WORDS`, are
compared with the text of the places that the others leave.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from afk_store_disk.following import checked_text
from afkcli.plugin import TEXT_KINDS, TEXT_WEIGHTS, TurnSearch, text_score

COLUMNS = TEXT_KINDS
TRIGRAM = 3
PHRASE_CHARS = 60
INDEXED_WORDS = 32
MOST_TRIGRAMS = 200
"""A word of one or two characters that begins more trigrams than these is looked for in the text itself."""

_FROM = (  # in this order: the words are looked for first
    "FROM text CROSS JOIN place ON place.id = text.rowid CROSS JOIN thread ON thread.id = place.thread WHERE"
)
_IS_TURN, _IS_NAMES = "place.record >= 0", "place.record < 0"
_RANKED_AT_MOST = 1000
"""Of more places than these, the newest are ranked: a word that is everywhere must not cost what there is of it."""
_LAST_CHARACTER = "\U0010ffff"

Place = tuple[str, int, str | None]
"""The key of a thread, the index of a record (-1 for what the thread is called), and why it is left out."""


class _Row(NamedTuple):
    """A place that was found, and the number of its thread.

    `copy` is the same for a turn that a fork has too, and `forked` is whether the thread is a fork.
    """

    rank: float
    key: str
    record: int
    left_out: str | None
    copy: str
    thread: int
    forked: int

    @property
    def place(self) -> Place:
        return self.key, self.record, self.left_out


class _Condition(NamedTuple):
    """What the text of a place has to match: a query of FTS5, and a call of `holds`."""

    sql: str
    values: tuple[object, ...]
    has_order: bool  # whether FTS5 ranks what it finds


_NOWHERE = _Condition("0", (), has_order=False)


class TextQuery:
    """A search, on an open connection to the index.

    Args:
        con: the connection.
        search: what is searched.
    """

    def __init__(self, con: sqlite3.Connection, search: TurnSearch) -> None:
        self._con = con
        self._words = sorted(search.words, key=len, reverse=True)  # the rarest first, as far as one can guess
        self._filters, self._filter_values = _filters(search)
        self._held: list[tuple[str, ...]] = []  # the words of each call of `holds`
        kind = con.execute("SELECT sql FROM sqlite_master WHERE name = 'text'").fetchone()
        self._indexed = kind is not None and "fts5" in checked_text(kind[0])
        con.create_function("holds", 1 + len(COLUMNS), self._holds, deterministic=True)
        con.create_function("score", len(COLUMNS), self._score, deterministic=True)

    def places(self, limit: int) -> list[Place]:
        """Return up to `limit` places: the best with all words, then one for each thread with all words."""
        condition = self._all_of(self._words)
        turns = list(_without_copies(self._rows(condition, _IS_TURN)))
        in_turns = {row.thread for row in turns}  # a turn says more than the name of its thread
        names = [row for row in self._rows(condition, _IS_NAMES) if row.thread not in in_turns]
        found = sorted([*names, *turns], key=lambda row: row.rank)[:limit]
        if len(found) < limit:
            found += self._of_whole_threads({row.thread for row in found}, limit - len(found))
        return [row.place for row in found]

    def keys_of_threads(self) -> Iterator[str]:
        """Yield the keys of the threads that have all words, each anywhere in the thread."""
        threads = self._threads()
        for thread, key in self._con.execute("SELECT id, key FROM thread"):
            if thread in threads:
                yield checked_text(key)

    def _of_whole_threads(self, without: set[int], limit: int) -> list[_Row]:
        """Return the best place of each thread that has all words in several places, up to `limit` of them."""
        if not 1 < len(self._words) <= 2 * INDEXED_WORDS or limit < 1:
            return []
        threads = self._threads() - without
        if not threads:
            return []
        condition = self._any_of(self._words)
        best: dict[int, _Row] = {}
        for of in (_IS_TURN, _IS_NAMES):
            for row in _without_copies(self._rows(condition, of)):
                if row.thread in threads:
                    best.setdefault(row.thread, row)
        return list(best.values())[:limit]

    def _threads(self) -> set[int]:
        """Return the threads that have all words, by their numbers in the index."""
        threads: set[int] | None = None
        for word in self._words:
            found = self._threads_of(self._all_of([word]))
            threads = found if threads is None else threads & found
            if not threads:
                break
        return threads or set()

    def _threads_of(self, condition: _Condition) -> set[int]:
        query = f"SELECT DISTINCT place.thread {_FROM} {condition.sql} AND {self._filters}"
        return {thread for (thread,) in self._con.execute(query, (*condition.values, *self._filter_values))}

    def _rows(self, condition: _Condition, of: str) -> list[_Row]:
        """Return the newest places that fulfil a condition, the best first; of copies the eldest thread's first."""
        rank = f"bm25(text, {', '.join(str(TEXT_WEIGHTS[kind]) for kind in COLUMNS)})"
        if not condition.has_order:
            rank = f"-score({_columns()})"
        newest = (
            f"SELECT {rank} AS rank, thread.key AS key, place.record, place.left_out, place.copy, place.thread, "
            f"thread.forked, place.started AS started {_FROM} {condition.sql} AND {self._filters} AND {of} "
            f"ORDER BY text.rowid DESC LIMIT {_RANKED_AT_MOST}"
        )
        columns = "rank, key, record, left_out, copy, thread, forked"
        query = f"SELECT {columns} FROM ({newest}) ORDER BY rank, started DESC, key"  # noqa: S608
        return [_Row(*row) for row in self._con.execute(query, (*condition.values, *self._filter_values))]

    def _all_of(self, words: Iterable[str]) -> _Condition:
        """Return the condition that a text has all `words`."""
        phrases: list[str] = []
        rest: list[str] = []
        for word in words:
            phrase = self._phrase(word) if self._indexed and len(phrases) < INDEXED_WORDS else None
            if phrase == "":
                return _NOWHERE
            if phrase is not None:
                phrases.append(phrase)
            if phrase is None or len(word) > PHRASE_CHARS:
                rest.append(word)
        conditions, values = [], []
        if phrases:
            conditions.append("text MATCH ?")
            values.append(" AND ".join(phrases))
        if rest:
            conditions.append(f"holds({len(self._held)}, {_columns()})")
            self._held.append(tuple(rest))
        return _Condition(" AND ".join(conditions), tuple(values), has_order=bool(phrases))

    def _any_of(self, words: Iterable[str]) -> _Condition:
        """Return the condition that a text has one of the words that are indexed; if none is, it may be any text."""
        phrases = [self._phrase(word) for word in words] if self._indexed else []
        found = [phrase for phrase in phrases if phrase]
        if not found:
            return _Condition("1", (), has_order=False)
        return _Condition("text MATCH ?", (" OR ".join(found),), has_order=True)

    def _phrase(self, word: str) -> str | None:
        """Return the query of FTS5 for a word, "" if no text can have it, None if it is not looked for by the index."""
        if len(word) >= TRIGRAM:
            return _quoted(word[:PHRASE_CHARS])
        query = "SELECT term FROM trigram WHERE term >= ? AND term < ? LIMIT ?"
        found = self._con.execute(query, (word, f"{word}{_LAST_CHARACTER}", MOST_TRIGRAMS + 1)).fetchall()
        if len(found) > MOST_TRIGRAMS:
            return None
        return f"({' OR '.join(_quoted(checked_text(term)) for (term,) in found)})" if found else ""

    def _holds(self, number: int, *texts: str | None) -> bool:
        return all(any(word in text for text in texts if text) for word in self._held[number])

    def _score(self, *texts: str | None) -> float:
        return text_score(self._words, {kind: text for kind, text in zip(COLUMNS, texts, strict=True) if text})


def _filters(search: TurnSearch) -> tuple[str, tuple[object, ...]]:
    filters, values = ["place.started >= ? AND place.started < ?"], [search.since, search.until]
    if not search.every:
        filters.append("place.left_out IS NULL")
    if search.thread is not None:
        filters.append("thread.key = ?")
        values.append(search.thread)
    return " AND ".join(filters), tuple(values)


def _without_copies(found: Iterable[_Row]) -> Iterator[_Row]:
    """Yield what was found without the copies of a turn that forks have."""
    seen: dict[str, int] = {}  # whether the thread of the first one is a fork
    for row in found:
        if not (row.copy in seen and (row.forked or seen[row.copy])):
            yield row
        if row.copy:
            seen.setdefault(row.copy, row.forked)


def _columns() -> str:
    return ", ".join(f"text.{kind}" for kind in COLUMNS)


def _quoted(text: str) -> str:
    """Return a text as a phrase of FTS5's query language."""
    return '"' + text.replace('"', '""') + '"'

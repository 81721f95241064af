"""Searches the text of the threads by an index that the tables have of it.

PostgreSQL's text search knows whole words of a language, and afk looks for a word as it is, also inside other words and
in text without blanks. Its extension for that, pg_trgm, needs a right that a role with its own schema does not have. So
a turn is indexed by the pieces of three characters that are in its text, as numbers, in PostgreSQL's index for arrays
(GIN): it says which turns may have a word, and `strpos` which do.

A seal costs nothing for the search: what was written since is taken over by the next search, thread by thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from afk_store_postgres import rows
from afk_store_postgres.connections import WatchedConnection
from afk_store_postgres.damage import RECORDS
from afk_store_postgres.layout import Layout
from afk_store_postgres.listing import Listing
from afkcli.plugin import (
    TEXT_KINDS,
    TEXT_WEIGHTS,
    Record,
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

PIECE = 3
INDEXED_CHARS = 400_000
"""A turn with more text than this has no pieces: it is compared in every search."""
INDEXED_WORDS = 32
_PAGE = 50
_NAMES = -1  # the record of the place that holds what a thread is called


class _Place(NamedTuple):
    """A place that has a word: `words` says which ones."""

    key: str
    record: int
    started: str
    copy: str
    left_out: str | None
    forked: bool
    score: float
    words: tuple[bool, ...]

    @property
    def is_turn(self) -> bool:
        return self.record >= 0

    @property
    def has_all(self) -> bool:
        return all(self.words)


def pieces_of(text: str) -> set[int]:
    """Return the numbers of the pieces of a text."""
    pieces = {text[at : at + PIECE] for at in range(len(text) - PIECE + 1)}
    return {crc32(piece.encode()) - (1 << 31) for piece in pieces}  # as PostgreSQL's `integer`


class Search:
    """Questions about texts, on an open connection.

    Args:
        connection: the connection; it has no transaction.
        layout: the tables.
    """

    def __init__(self, connection: WatchedConnection, layout: Layout) -> None:
        self._connection = connection
        self._layout = layout

    def matches(self, search: TurnSearch, limit: int) -> list[TurnMatch]:
        """Return the turns and threads that are found, as `SearchStore.search_turns` does."""
        words = [word for word in search.words if rows.is_column(word)]
        if limit < 1 or not words or len(words) < len(search.words):
            return []
        self.follow()
        best = _best(self._places(search, words), limit)
        infos = {info.key: info for info in Listing(self._connection, self._layout).infos([at.key for at in best])}
        return [
            TurnMatch(thread=infos[at.key], record=at.record if at.is_turn else None, left_out=at.left_out)
            for at in best
            if at.key in infos
        ]

    def threads(self, words: Sequence[str]) -> set[str]:
        """Return the keys of the threads that have all `words`, each anywhere in the thread."""
        if not all(rows.is_column(word) for word in words):
            return set()
        self.follow()
        found: set[str] | None = None
        for word in words:
            condition, values = _has(word, 0)
            query = self._layout.query(f"SELECT DISTINCT thread FROM {{s}}.place WHERE {condition}")  # noqa: S608
            keys = {key for (key,) in self._connection.execute(query, values).fetchall()}
            found = keys if found is None else found & keys
        return found or set()

    def _places(self, search: TurnSearch, words: Sequence[str]) -> list[_Place]:
        """Return the places that have a word; only those with all words, if no thread can have them in several."""
        conditions, values = list[str](), dict[str, object]()
        for number, word in enumerate(words):
            condition, needed = _has(word, number)
            conditions.append(condition)
            values |= needed
        has = ", ".join(_holds(number) for number in range(len(words)))
        filters = ["p.started >= %(since)s", "p.started < %(until)s"]
        values |= {"since": rows.column(search.since), "until": rows.column(search.until)}
        if not search.every:
            filters.append("p.left_out IS NULL")
        if search.thread is not None:
            filters.append("p.thread = %(thread)s")
            values["thread"] = search.thread
        query = (
            f"SELECT p.thread, p.record, p.started, p.copy, p.left_out, t.forked, {_score(len(words))}, ARRAY[{has}]"  # noqa: S608
            " FROM {s}.place p JOIN {s}.thread t ON t.key = p.thread"
            f" WHERE ({' OR '.join(conditions)}) AND {' AND '.join(filters)} ORDER BY p.thread, p.record"
        )
        found = self._connection.execute(self._layout.query(query), values).fetchall()
        return [_Place._make((*row[:-1], tuple(row[-1]))) for row in found]

    def follow(self) -> None:
        """Take over what was written since the last search."""
        query = self._layout.query("SELECT key FROM {s}.thread WHERE stale AND listed ORDER BY key")
        stale = [key for (key,) in self._connection.execute(query, ()).fetchall()]
        with progress("making the search index, threads") as tell:
            for number, key in enumerate(stale):
                tell(number, len(stale))
                while not self._take(key):
                    pass

    def _take(self, key: str) -> bool:
        """Take over some of a thread, in a transaction that holds up its writers; return whether that was all."""
        with self._connection.transaction():
            self._connection.execute("SET LOCAL synchronous_commit = off")  # what is lost of an index is made again
            self._connection.execute("SET LOCAL idle_in_transaction_session_timeout = 10000")
            query = "SELECT key, name, info, crc, taken FROM {s}.thread WHERE key = %s AND stale FOR UPDATE"
            found = self._connection.execute(self._layout.query(query), (key,)).fetchall()
            info = Listing(self._connection, self._layout).info(found[0][:4]) if found else None
            if info is None:
                return True
            records = self._records(key, found[0][4])
            for record in records:
                turn = turn_text(record)
                if turn is not None:
                    self._put(key, turn)
            taken = records[-1].index + 1 if records else found[0][4]
            is_whole = len(records) < _PAGE
            if is_whole:
                self._put_names(info)
                self._put_left_out(info)
            self._execute("UPDATE {s}.thread SET taken = %s, stale = %s WHERE key = %s", taken, not is_whole, key)
            return is_whole

    def _records(self, key: str, first: int) -> list[Record]:
        """Return the next kept records of a thread, from the index `first` on."""
        query = self._layout.query(f"{RECORDS} AND kind IN ('seal', 'meta') ORDER BY index LIMIT {_PAGE}")
        return [
            rows.record_of(row) for row in self._connection.execute(query, (key, first - 1), binary=True).fetchall()
        ]

    def _put(self, key: str, turn: TurnText) -> None:
        texts = {kind: folded(turn.texts[kind]) if kind in turn.texts else None for kind in TEXT_KINDS}
        length = sum(len(text) for text in texts.values() if text)
        pieces = (
            sorted(set().union(*(pieces_of(text) for text in texts.values() if text)))
            if length <= INDEXED_CHARS
            else None
        )
        columns = ", ".join(TEXT_KINDS)
        marks = ", ".join(["%s"] * len(TEXT_KINDS))
        self._execute("DELETE FROM {s}.place WHERE thread = %s AND record = %s", key, turn.record)
        self._execute(
            f"INSERT INTO {{s}}.place (thread, record, turn, run_id, resumes, started, copy, {columns}, pieces)"  # noqa: S608
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, {marks}, %s)",
            key,
            turn.record,
            turn.turn,
            rows.column(turn.run_id),
            rows.column(turn.resumes),
            rows.column(turn.started),
            rows.column(turn.copy),
            *texts.values(),
            pieces,
        )

    def _put_names(self, info: ThreadInfo) -> None:
        query = "SELECT question FROM {s}.place WHERE thread = %s AND record >= 0 ORDER BY record LIMIT 1"
        first = self._connection.execute(self._layout.query(query), (info.key,)).fetchall()
        names = names_text(info, first[0][0] or "" if first else "")
        self._put(info.key, TurnText(_NAMES, 0, "", None, info.used, "", {TEXT_KINDS[0]: names}))

    def _put_left_out(self, info: ThreadInfo) -> None:
        """Keep which turns are left out, as all records say it; where none decides that, all turns count."""
        changes = self._layout.query(f"{RECORDS} AND kind = 'meta' ORDER BY index")
        metas = [
            rows.record_of(row) for row in self._connection.execute(changes, (info.key, -1), binary=True).fetchall()
        ]
        query = (
            "SELECT turn, run_id, resumes, left_out FROM {s}.place WHERE thread = %s AND record >= 0 ORDER BY record"
        )
        known = self._connection.execute(self._layout.query(query), (info.key,)).fetchall()
        why = left_out(info, [TurnPlace(*row[:3]) for row in known], metas)
        for turn, _, _, before in known:
            if why.get(turn) != before:
                self._execute(
                    "UPDATE {s}.place SET left_out = %s WHERE thread = %s AND turn = %s AND record >= 0",
                    why.get(turn),
                    info.key,
                    turn,
                )

    def _execute(self, query: str, *values: object) -> None:
        self._connection.execute(self._layout.query(query), values)


def _has(word: str, number: int) -> tuple[str, dict[str, object]]:
    """Return the condition that a place has a word, by the index where there are pieces, and its values."""
    values: dict[str, object] = {f"w{number}": word}
    pieces = pieces_of(word[: 4 * PIECE * 10]) if number < INDEXED_WORDS else set()
    if not pieces:
        return _holds(number), values
    values[f"p{number}"] = sorted(pieces)
    return f"((pieces @> %(p{number})s::integer[] OR pieces IS NULL) AND {_holds(number)})", values


def _holds(number: int) -> str:
    return "(" + " OR ".join(f"coalesce(strpos({kind}, %(w{number})s) > 0, false)" for kind in TEXT_KINDS) + ")"


def _score(words: int) -> str:
    """Return the score of a place, as `afkcli.plugin.text_score` counts it."""
    terms = []
    for kind, weight in TEXT_WEIGHTS.items():
        for number in range(words):
            times = (
                f"((length({kind}) - length(replace({kind}, %(w{number})s, ''))) / length(%(w{number})s::text))::float8"
            )
            terms.append(f"coalesce({weight} * {times} / ({times} + 1 + length({kind}) / 2000.0::float8), 0)")
    return f"({' + '.join(terms)})::float8"


def _best(places: Sequence[_Place], limit: int) -> list[_Place]:
    """Return the best places: those with all words, then one for each thread that has all words in several places."""
    by_thread: dict[str, list[_Place]] = {}
    for place in places:
        by_thread.setdefault(place.key, []).append(place)
    whole, parts = list[_Place](), list[_Place]()
    copies: set[str] = set()
    for of_thread in by_thread.values():  # the eldest first: what a fork has too is the elder's
        found, is_whole = _of_thread(of_thread)
        for place in found:
            if not (place.copy in copies and place.forked):
                (whole if is_whole else parts).append(place)
            if place.copy:
                copies.add(place.copy)
    for group in (whole, parts):
        group.sort(key=lambda place: (place.score, place.started), reverse=True)
    return [*whole, *parts][:limit]


def _of_thread(places: Sequence[_Place]) -> tuple[list[_Place], bool]:
    """Return the places of a thread that are shown, and whether each has all words."""
    whole = [place for place in places if place.has_all]
    whole = [place for place in whole if place.is_turn] or whole  # a turn says more than the thread's name
    if whole:
        return whole, True
    if places and all(any(has) for has in zip(*(place.words for place in places), strict=True)):
        return [max(places, key=lambda place: (place.is_turn, place.score, place.started))], False
    return [], False

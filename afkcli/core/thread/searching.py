"""Finds turns by words: by the store's own index where it has one, else by reading all threads.

Since: 0.2.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from afkcli.core.contract.protocols import Record, RecordKind, Store, ThreadInfo, TurnMatch, TurnSearch
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.thread.listing import each_thread
from afkcli.core.thread.pages import records_in_pages
from afkcli.core.thread.records import record_hash
from afkcli.core.thread.snippets import Snippet, snippet_of
from afkcli.core.thread.turn_text import (
    NAMES,
    QUESTION,
    TEXT_KINDS,
    TurnPlace,
    TurnText,
    folded,
    left_out,
    names_text,
    text_score,
    turn_text,
)

NAME, TITLE, TAG = "name", "title", "tag"
_NAMES = -1  # where a turn has the index of its record


class FoundTurn(FrozenStruct, kw_only=True):
    """What a search shows of a turn, or of a thread whose name, title or tag was found (then `turn` is None).

    `kind` is what the text of the snippet is: `question`, `answer`, `tool`, `reasoning`, `name`, `title` or `tag`.
    `date` is when the turn began, or when the thread was last used. `left_out` is as in `TurnMatch`.
    """

    thread: ThreadInfo
    turn: int | None
    date: str
    kind: str
    snippet: Snippet
    left_out: str | None = None


def search_turns(store: Store, search: TurnSearch, limit: int) -> Sequence[TurnMatch]:
    """Return up to `limit` turns and threads that are found, the best first, as `SearchStore.search_turns` does."""
    indexed = getattr(store, "search_turns", None)
    if indexed is not None:
        found: Sequence[TurnMatch] = indexed(search, limit)
        return found
    return _Reading(store, search).matches(limit)


def found_turns(store: Store, search: TurnSearch, limit: int, width: int) -> Iterator[FoundTurn]:
    """Yield what is shown of the turns that are found, each read when it is asked for.

    Args:
        store: where the threads are.
        search: what is searched.
        limit: how many at most.
        width: how many characters of a text are shown.

    Raises:
        StoreError: the store failed.
    """
    for match in search_turns(store, search, limit):
        shown = _shown(store, match, search.words, width)
        if shown is not None:  # else it was deleted meanwhile, or cannot be read
            yield shown


def _shown(store: Store, match: TurnMatch, words: Sequence[str], width: int) -> FoundTurn | None:
    thread = match.thread
    if match.record is None:
        called = [(NAME, thread.name), (TITLE, thread.title or ""), *((TAG, tag) for tag in thread.tags)]
        kind, snippet = _best(called, words, width)
        return FoundTurn(thread=thread, turn=None, date=thread.used, kind=kind, snippet=snippet)
    turn = _turn_at(store, thread.key, match.record)
    if turn is None:
        return None
    kind, snippet = _best([(kind, turn.texts[kind]) for kind in TEXT_KINDS if kind in turn.texts], words, width)
    return FoundTurn(
        thread=thread, turn=turn.turn, date=turn.started, kind=kind, snippet=snippet, left_out=match.left_out
    )


def _turn_at(store: Store, key: str, index: int) -> TurnText | None:
    for record in store.load(key, after=index - 1, limit=1):
        if record.index == index and record_hash(key, record) == record.hash:
            return turn_text(record)
    return None


def _best(texts: Sequence[tuple[str, str]], words: Sequence[str], width: int) -> tuple[str, Snippet]:
    """Return the snippet that shows the most words, and the kind of its text; of several the first one."""
    snippets = [(kind, snippet_of(text, words, width)) for kind, text in texts]
    return max(snippets, key=lambda found: found[1].words, default=("", Snippet("", (), 0)))


class _Hit(NamedTuple):
    """A place in a thread that has words of the search."""

    score: float
    date: str
    words: frozenset[str]
    place: TurnPlace | None
    record: int | None
    copy: str


class _Reading:
    """A search that reads all threads, page by page, and keeps no text of them."""

    def __init__(self, store: Store, search: TurnSearch) -> None:
        self._store = store
        self._search = search
        self._all = frozenset(search.words)
        self._copies: set[str] = set()  # of turns that forks have, too

    def matches(self, limit: int) -> list[TurnMatch]:
        """Return up to `limit` places, the best first."""
        if not self._all or limit < 1:
            return []
        wanted = [info for info in each_thread(self._store) if self._search.thread in (None, info.key)]
        wanted.sort(key=lambda info: info.key)  # the eldest first: what a fork has too is the elder's
        found = (found for info in wanted for found in self._in_thread(info))
        return [match for *_, match in heapq.nlargest(limit, found, key=lambda found: found[:3])]

    def _in_thread(self, info: ThreadInfo) -> Iterator[tuple[bool, float, str, TurnMatch]]:
        """Yield the places with all words, or the best place if several have all words; the greater, the better."""
        hits, why = self._hits(info)
        counted = [hit for hit in hits if self._counts(hit, why)]
        whole = [hit for hit in counted if hit.words == self._all]
        whole = [hit for hit in whole if hit.place is not None] or whole  # a turn says more than the thread's name
        if not whole and frozenset().union(*(hit.words for hit in counted)) == self._all:
            whole = [max(counted, key=lambda hit: (hit.place is not None, hit.score, hit.date))]
        for hit in whole:
            if hit.copy not in self._copies or info.parent is None:
                reason = why.get(hit.place.turn) if hit.place is not None else None
                match = TurnMatch(thread=info, record=hit.record, left_out=reason)
                yield hit.words == self._all, hit.score, hit.date, match
            if hit.copy:
                self._copies.add(hit.copy)

    def _hits(self, info: ThreadInfo) -> tuple[list[_Hit], dict[int, str]]:
        """Return the places of a thread that have a word, and why turns of it are left out."""
        hits: list[_Hit] = []
        turns: list[TurnPlace] = []
        changes: list[Record] = []
        question: str | None = None
        for record in records_in_pages(self._store, info.key, end=info.next_index):
            turn = turn_text(record)
            if record.kind is RecordKind.META:
                changes.append(record)
            elif turn is not None:
                turns.append(TurnPlace(turn.turn, turn.run_id, turn.resumes))
                hits.append(self._hit(turn, turns[-1]))
                question = turn.texts.get(QUESTION, "") if question is None else question
        names = TurnText(_NAMES, 0, "", None, info.used, "", {NAMES: names_text(info, question or "")})
        hits.append(self._hit(names, None))
        return [hit for hit in hits if hit.words], left_out(info, turns, changes)

    def _hit(self, turn: TurnText, place: TurnPlace | None) -> _Hit:
        compared = {kind: folded(text) for kind, text in turn.texts.items()}
        words = frozenset(word for word in self._all if any(word in text for text in compared.values()))
        score = text_score(self._search.words, compared) if words else 0.0
        record = turn.record if place is not None else None
        return _Hit(score, turn.started, words, place, record, turn.copy)

    def _counts(self, hit: _Hit, why: Mapping[int, str]) -> bool:
        if not self._search.since <= hit.date < self._search.until:
            return False
        return hit.place is None or self._search.every or hit.place.turn not in why

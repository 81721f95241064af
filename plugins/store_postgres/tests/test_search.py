"""A search by the index finds what a search finds that reads all threads."""

from __future__ import annotations

import random

import pytest
from afk_store_postgres.search import INDEXED_CHARS
from afk_store_postgres.store import PostgresStore

from afkcli.core.thread.operations import fork
from afkcli.core.thread.searching import search_turns
from afkcli.core.thread.turn_text import words_of
from afkcli.core.thread.undoing import undo
from afkcli.plugin import Store, TurnSearch, current_owner
from afkcli.testing.store_steps import acquired, save, save_turn, with_meta
from tests.postgres_server import PostgresServer

WORDS = [
    "apple",
    "pear",
    "Ünïted",
    "日本語のテキスト",
    "a*b",
    "100%_sure",
    "x",
    "😀",
    "it's",
    '"quoted"',
    "back\\slash",
]


class Unindexed:
    """The same store without its index."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        if name == "search_turns":
            raise AttributeError(name)
        return getattr(self._store, name)


def found(store: Store, search: TurnSearch) -> set[tuple[str, int | None, str | None]]:
    return {(match.thread.name, match.record, match.left_out) for match in search_turns(store, search, 500)}


def test_the_index_finds_what_reading_finds(store: PostgresStore) -> None:
    dice = random.Random(7)
    for number in range(12):
        lease = acquired(store, f"{dice.choice(WORDS)} {number}")
        for turn in range(dice.randint(1, 4)):
            texts = [" ".join(dice.choices(WORDS, k=dice.randint(1, 6))) for _ in range(2)]
            lease = save_turn(store, lease, *texts, second=number * 10 + turn)
        if number % 3 == 0:
            lease = save(store, lease, with_meta(lease.thread, title=dice.choice(WORDS), tags=(dice.choice(WORDS),)))
        if number % 4 == 0:
            lease = undo(store, lease).lease
        store.release(lease)
        if number % 5 == 0:
            store.release(fork(store, lease.thread, f"fork {number}", current_owner("run")))
    reading: Store = Unindexed(store)  # type: ignore[assignment]
    key = store.list()[3].key
    for _ in range(60):
        words = words_of(" ".join(dice.choice(WORDS)[dice.randint(0, 2) :] for _ in range(dice.randint(1, 3))))
        every, thread = dice.random() < 0.3, key if dice.random() < 0.2 else None
        search = TurnSearch(words=words, every=every, thread=thread)
        assert found(store, search) == found(reading, search), search


def test_a_turn_with_very_much_text_is_found_too(store: PostgresStore) -> None:
    lease = save_turn(store, acquired(store, "long"), "question", "x " * INDEXED_CHARS + "needle")
    store.release(lease)
    assert {name for name, *_ in found(store, TurnSearch(words=("needle",)))} == {"long"}


def test_only_what_is_new_is_read_again(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    lease = acquired(store)
    for number in range(3):
        lease = save_turn(store, lease, f"apple {number}", "answer")
    assert len(found(store, TurnSearch(words=("apple",)))) == 3
    server.execute(f"UPDATE {schema}.place SET answer = 'as it was' WHERE record >= 0")
    save_turn(store, lease, "apple 3", "answer")
    assert len(found(store, TurnSearch(words=("apple",)))) == 4
    kept = server.execute(f"SELECT count(*) FROM {schema}.place WHERE answer = 'as it was'")
    assert kept == [(3,)]


@pytest.mark.parametrize("pages", [50, 101])
def test_long_threads_are_taken_over_page_by_page(store: PostgresStore, pages: int) -> None:
    lease = acquired(store)
    for number in range(pages):
        lease = save(store, lease, with_meta(lease.thread, title=f"title {number}"))
    save_turn(store, lease, "apple", "pear")
    assert len(found(store, TurnSearch(words=("apple",)))) == 1
    assert found(store, TurnSearch(words=("apple",))) == found(store, TurnSearch(words=("pear",)))

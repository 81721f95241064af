"""The contract of a store about searches, with or without an index of its own."""

from __future__ import annotations

from typing import Any

import pytest

from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.protocols import (
    Store,
    TurnSearch,
)
from afkcli.core.thread.operations import fork
from afkcli.core.thread.searching import found_turns, search_turns
from afkcli.core.thread.turn_text import words_of
from afkcli.core.thread.undoing import redo, undo
from afkcli.host.owner import current_owner
from afkcli.testing.store_case import StoreCase
from afkcli.testing.store_steps import (
    acquired,
    save,
    save_turn,
    with_meta,
)


def _search(words: str, **limits: Any) -> TurnSearch:
    return TurnSearch(words=words_of(words), **limits)


def _found(store: Store, words: str, **limits: Any) -> list[tuple[str, int | None]]:
    """Return the threads and turns that a search shows, in their order."""
    found = found_turns(store, _search(words, **limits), 20, 80)
    return [(turn.thread.name, turn.turn) for turn in found]


class SearchContract(StoreCase):
    """What `StoreContract` asks of `list(search=)` and of `search_turns`."""

    def test_search_finds_threads_by_all_words(self, store: Store) -> None:
        save_turn(store, acquired(store, "alpha"), "Where does Voltaire live?", "In the château of Ferney.", 1)
        lease = save_turn(store, acquired(store, "beta"), "Where does 伏尔泰 live?", 'He said: "100%_sure" (a*b)', 2)
        lease = save(store, lease, with_meta(lease.thread, title="An ordinary heading"))

        def found(search: str) -> list[str]:
            return [info.name for info in store.list(search=search)]

        assert found("where live") == ["beta", "alpha"]
        assert found("VOLTAIRE") == found("ferney where") == found("CHÂTEAU") == ["alpha"]
        assert found("voltaire 伏尔泰") == []
        assert found("alpha") == ["alpha"]
        assert found("heading") == ["beta"]
        assert found("伏尔泰") == ["beta"]
        assert found("100%_sure") == found("a*b") == ["beta"]
        assert found("") == found("  ") == ["beta", "alpha"]
        assert [info.name for info in store.list(search="where", limit=1)] == ["beta"]

    @pytest.mark.parametrize(
        "search", ['"', "'", "a AND", "NOT", "(", "*", "a:b", "^", "-x", "NEAR(", "\\", "%", "\0", "{}"]
    )
    def test_no_search_is_an_error(self, store: Store, search: str) -> None:
        save_turn(store, acquired(store), "question", "answer")
        assert len(store.list(search=search)) <= 1

    def test_search_follows_what_changes(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "apple", "answer")
        assert len(store.list(search="apple")) == 1
        lease = save_turn(store, lease, "banana", "answer")
        assert len(store.list(search="apple banana")) == 1
        lease = save(store, lease, with_meta(lease.thread, name="renamed"))
        assert len(store.list(search="renamed")) == 1
        store.delete(lease)
        assert len(store.list(search="apple")) == 0

    # turns, with or without the store's own index

    def test_a_search_finds_turns_by_all_words(self, store: Store) -> None:
        lease = save_turn(store, acquired(store, "trip"), "Where is the Louvre?", "In Paris, by the river.", 1)
        lease = save_turn(store, lease, "And the Prado?", "In Madrid.", 2)
        save_turn(store, acquired(store, "soup"), "Onion soup of Paris", "Peel the onions.", 3)
        assert sorted(_found(store, "PARIS")) == [("soup", 1), ("trip", 1)]
        assert _found(store, "prado madrid") == [("trip", 2)]
        assert _found(store, "paris onions") == [("soup", 1)]
        assert _found(store, "louvre madrid") in ([("trip", 1)], [("trip", 2)])  # in two turns of one thread
        assert _found(store, "louvre onions") == _found(store, "zebra") == []
        assert _found(store, "adri") == [("trip", 2)]

    def test_a_search_finds_names_titles_and_tags(self, store: Store) -> None:
        lease = save_turn(store, acquired(store, "beds"), "question", "answer")
        save(store, lease, with_meta(lease.thread, title="Kitchen garden", tags=("home",)))
        for word in ("beds", "kitchen", "home"):
            assert _found(store, word) == [("beds", None)]
        assert _found(store, "kitchen answer") == [("beds", 1)]

    @pytest.mark.parametrize("word", ["日本", "本", "日本語", "é", "😀", "שלום", "?", "%_", '"', "a*", "."])
    def test_a_search_takes_each_word_as_it_is(self, store: Store, word: str) -> None:
        save_turn(store, acquired(store), "What is asked here?", 'これは日本語. é 😀 שלום 100%_sure "a*b"')
        save_turn(store, acquired(store, "other"), "nothing", "nothing of the kind")
        assert _found(store, word) == [("t-42", 1)]

    @pytest.mark.parametrize("words", ["NEAR(", "a AND", "NOT x", "(", "*", "zz:zz", "^", "-x", "{}", "z" * 1_000_000])
    def test_no_search_of_turns_is_an_error(self, store: Store, words: str) -> None:
        save_turn(store, acquired(store), "ques", "ion")
        assert _found(store, words) == []

    def test_a_search_follows_what_changes(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "apple", "answer", 1)
        assert _found(store, "apple") == [("t-42", 1)]
        lease = save_turn(store, lease, "banana", "answer", 2)
        assert _found(store, "banana") == [("t-42", 2)]
        lease = save(store, lease, with_meta(lease.thread, name="renamed"))
        assert _found(store, "t-42") == []
        assert _found(store, "renamed") == [("renamed", None)]
        store.delete(lease)
        assert _found(store, "apple") == []

    def test_a_search_may_be_of_one_thread_and_of_some_time(self, store: Store) -> None:
        first = save_turn(store, acquired(store, "one"), "apple", "answer", 0).thread
        save_turn(store, acquired(store, "two"), "apple", "answer", 3600)
        assert _found(store, "apple", thread=first.key) == [("one", 1)]
        assert _found(store, "apple", since=rfc3339(1_700_000_001)) == [("two", 1)]
        assert _found(store, "apple", until=rfc3339(1_700_000_001)) == [("one", 1)]

    def test_a_search_finds_what_is_set_aside_only_where_that_is_wanted(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "apple", "answer", 1)
        lease = save_turn(store, lease, "banana", "answer", 2)
        undone = undo(store, lease)
        assert _found(store, "banana") == []
        assert _found(store, "banana", every=True) == [("t-42", 2)]
        assert [match.left_out for match in search_turns(store, _search("banana", every=True), 9)] == ["undone"]
        lease = save_turn(store, redo(store, undone.lease).lease, "cherry", "answer", 3)
        assert _found(store, "banana") == [("t-42", 2)]

    def test_a_search_finds_a_turn_of_a_fork_once(self, store: Store) -> None:
        source = save_turn(store, acquired(store), "apple", "answer").thread
        lease = fork(store, source, "forked", current_owner("run"))
        assert _found(store, "apple") == [("t-42", 1)]
        assert _found(store, "apple", thread=lease.thread.key) == [("forked", 1)]

    def test_a_search_returns_as_many_as_are_wanted(self, store: Store) -> None:
        for number in range(5):
            save_turn(store, acquired(store, f"t-{number}"), f"apple {number}", "answer", number)
        assert len(search_turns(store, _search("apple"), 3)) == 3
        assert list(search_turns(store, _search("apple"), 0)) == list(search_turns(store, _search(" "), 3)) == []

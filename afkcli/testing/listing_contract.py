"""The contract of a store about lists: what it answers quickly agrees with its list of all threads."""

from __future__ import annotations

import pytest

from afkcli.core.contract.listing import ThreadFilter
from afkcli.core.contract.protocols import Store
from afkcli.core.thread.listing import (
    each_thread,
    names_meant,
    short_names,
    thread_count,
    thread_names,
    thread_page,
)
from afkcli.core.thread.lookup import near_threads
from afkcli.testing.store_case import StoreCase
from afkcli.testing.store_steps import acquired, save, save_turn, with_meta


class ListingContract(StoreCase):
    """What `StoreContract` asks of `find` and of lists, with and without the methods of `ListingStore`."""

    def test_find_tells_what_is_there(self, store: Store) -> None:
        assert store.find("t-42") is None
        lease = acquired(store)
        assert store.find("t-42") == lease.thread

    def test_threads_are_listed_the_last_used_first(self, store: Store) -> None:
        assert list(store.list()) == []
        leases = [
            save_turn(store, acquired(store, name), "question", "answer", second)
            for second, name in enumerate(["one", "two", "three"])
        ]
        save_turn(store, leases[0], "again", "answer", 9)
        assert [info.name for info in store.list()] == ["one", "three", "two"]
        assert [info.name for info in store.list(limit=2)] == ["one", "three"]
        assert list(store.list(limit=0)) == []
        assert store.list()[0] == store.find("one")

    def test_a_list_may_change_while_it_is_read(self, store: Store) -> None:
        for second in range(3):
            store.release(save_turn(store, acquired(store, f"t-{second}"), "question", "answer", second))
        threads = each_thread(store)
        names = [next(threads).name]
        save_turn(store, acquired(store, "t-0"), "again", "answer", 9)  # is the last used from here on
        store.delete(acquired(store, "t-1"))
        names += [info.name for info in threads]
        assert names in (["t-2", "t-0"], ["t-2", "t-1", "t-0"])

    def test_threads_are_listed_by_folder(self, store: Store) -> None:
        for name, folder in [("one", "/a"), ("two", "/a/b"), ("three", None)]:
            lease = acquired(store, name)
            save(store, lease, with_meta(lease.thread, folder=folder))
        assert [info.name for info in store.list(folder="/a")] == ["one"]
        assert list(store.list(folder="/")) == []

    def test_lists_of_what_is_shown_agree_with_the_list_of_all(self, store: Store) -> None:
        made = [("one", "/a"), ("on", "/b"), ("two", "/a"), ("%n", None), ("One", None)]
        for second, (name, folder) in enumerate(made):
            lease = acquired(store, name)
            lease = save(store, lease, with_meta(lease.thread, folder=folder))
            save_turn(store, lease, f"An {'pear' if second % 2 else 'apple'} pie?", "answer", second)
        assert thread_count(store) == 5
        assert thread_count(store, ThreadFilter(folder="/a")) == 2
        assert thread_count(store, ThreadFilter(search="apple pie")) == 3
        assert thread_count(store, ThreadFilter(search="Apple")) == 3
        assert thread_count(store, ThreadFilter(folder="/a", search="nowhere")) == 0
        assert [info.name for info in each_thread(store)] == ["One", "%n", "two", "on", "one"]
        assert list(each_thread(store, ThreadFilter(folder="/a"))) == list(store.list(folder="/a"))
        assert list(each_thread(store, ThreadFilter(search="pear"))) == list(store.list(search="pear"))
        assert thread_names(store) == ["One", "%n", "two", "on", "one"]
        assert thread_names(store, "on") == ["on", "one"]
        assert thread_names(store, "%") == ["%n"]
        assert list(thread_names(store, "nothing")) == list(thread_names(store, "on%")) == []

    def test_lists_of_some_threads_agree_with_the_list_of_all(self, store: Store) -> None:
        made = [
            ("one", "/a", "chat", "openai/m", ()),
            ("two", "/b", "chat", "m", ("x",)),
            ("six", "/a", None, None, ()),
        ]
        for second, (name, folder, agent, model, tags) in enumerate(made):
            lease = acquired(store, name)
            lease = save(store, lease, with_meta(lease.thread, folder=folder, agent=agent, model=model, tags=tags))
            save_turn(store, lease, "A pear?", "answer", second)
        times = [info.used for info in reversed(store.list())]
        for wanted, names in (
            (ThreadFilter(), ["six", "two", "one"]),
            (ThreadFilter(since=times[1]), ["six", "two"]),
            (ThreadFilter(until=times[1]), ["one"]),
            (ThreadFilter(since=times[0], until=times[2], folder="/a"), ["one"]),
            (ThreadFilter(agent="chat"), ["two", "one"]),
            (ThreadFilter(model="m"), ["two", "one"]),
            (ThreadFilter(model="openai/m"), ["one"]),
            (ThreadFilter(model="openai/"), []),
            (ThreadFilter(tag="x", search="pear"), ["two"]),
            (ThreadFilter(tag=""), []),
            (ThreadFilter(tag="x", folder="/a"), []),
        ):
            assert [info.name for info in each_thread(store, wanted)] == names, wanted
            assert [info.name for info in each_thread(store, wanted, limit=1)] == names[:1], wanted
            assert thread_count(store, wanted) == len(names), wanted
            page = thread_page(store, wanted, 1)
            assert ([info.name for info in page.threads], page.total) == (names[:1], len(names)), wanted

    def test_a_text_means_names_that_begin_with_it_and_unnamed_ones_that_end_with_it(self, store: Store) -> None:
        unnamed = ["01a21c5a-f8a6-7273-9b29-33e33c8d2b10", "01a21c5a-f8a6-7273-9b29-44e33C8D2B10"]
        for second, name in enumerate(["tea", "teapot", "a8d2b10", *unnamed]):
            store.release(save_turn(store, acquired(store, name), "question", "answer", second))
        for text, meant in (
            ("", [*unnamed[::-1], "a8d2b10", "teapot", "tea"]),
            ("tea", ["teapot", "tea"]),
            ("teap", ["teapot"]),
            ("pot", []),
            ("01a2", unnamed[::-1]),
            ("d2b10", unnamed[::-1]),
            ("33e33c8d2b10", [unnamed[0]]),
            ("44E33c8d2b10", [unnamed[1]]),
            ("8d2", unnamed[::-1]),
            ("b10", []),
            ("%", []),
            ("tea%", []),
        ):
            assert list(names_meant(store, text)) == meant, text
            assert list(names_meant(store, text, limit=1)) == meant[:1], text
        short = short_names(store, [*unnamed, "tea"])
        assert short == {unnamed[0]: "3e33c8d2b10", unnamed[1]: "4e33C8D2B10"}
        assert all(list(names_meant(store, end)) == [name] for name, end in short.items())

    @pytest.mark.parametrize("name", ["gardne", "grden", "gardden", "Garden", "gärden", "garde", "xgarden", "gardenx"])
    def test_a_name_with_a_slip_finds_the_one_that_was_meant(self, store: Store, name: str) -> None:
        for second, other in enumerate(["garden", "garlic", "gate", "day-1", "ab"]):
            store.release(save_turn(store, acquired(store, other), "question", "answer", second))
        assert near_threads(store, name) == ["garden"]
        assert near_threads(store, "garden") == near_threads(store, "day-2") == near_threads(store, "ac") == []

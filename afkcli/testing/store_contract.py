"""The contract of a store as a test suite: what `afkcli.core.contract.protocols.Store` promises, sentence by sentence.

For the author of a store. In your tests:

    from afkcli.testing.store_contract import StoreContract
    from afkcli.testing.store_model import model_test

    def make_store(path):                        # `path` is a folder that is empty at first
        return MyStore(path / "threads")         # the same path opens the same threads again

    class TestMyStore(StoreContract):
        def make_store(self, path):
            return make_store(path)

    TestMyStoreLikeTheModel = model_test(make_store)

`model_test` compares the store with a model of a few lines, through random calls and with crashes in between: the store
is dropped without `close` and opened again. A store that keeps nothing on disk sets `keeps_on_disk = False` and passes
`keeps_on_disk=False`; one that cannot tell whether an owner is dead sets `proves_death = False`. Time is made to pass
by moving `time.time` and `time.monotonic`; a store that counts leases by another clock overrides `pass_time`.

Needs `pytest` and `hypothesis`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from afkcli.core.contract.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import (
    LEASE_SECONDS,
    Acquire,
    Add,
    Append,
    Fork,
    Lease,
    Operation,
    Record,
    RecordKind,
    Release,
    Renew,
    Store,
    TurnSearch,
)
from afkcli.core.contract.result import Usage
from afkcli.core.thread.batch import apply
from afkcli.core.thread.history import load_history
from afkcli.core.thread.listing import each_thread
from afkcli.core.thread.operations import fork
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.searching import found_turns, search_turns
from afkcli.core.thread.turn_text import words_of
from afkcli.core.thread.undoing import redo, undo
from afkcli.host.owner import current_owner
from afkcli.testing.listing_contract import ListingContract
from afkcli.testing.store_steps import (
    ShiftedTime,
    acquired,
    appended,
    asked,
    digest,
    save,
    save_turn,
    with_journal,
    with_meta,
    with_question,
    with_seal,
)

PICTURE = b"\x89PNG\r\n\x1a\n\x00 not much of a picture"


def _kinds(records: Sequence[Record]) -> list[str]:
    return [record.kind.value for record in records]


def _search(words: str, **limits: Any) -> TurnSearch:
    return TurnSearch(words=words_of(words), **limits)


def _found(store: Store, words: str, **limits: Any) -> list[tuple[str, int | None]]:
    """Return the threads and turns that a search shows, in their order."""
    found = found_turns(store, _search(words, **limits), 20, 80)
    return [(turn.thread.name, turn.turn) for turn in found]


class StoreContract(ListingContract):
    """Subclass it as `TestSomething` and give `make_store`; see the head of this module."""

    keeps_on_disk: ClassVar[bool] = True
    proves_death: ClassVar[bool] = True

    def make_store(self, path: Path) -> Store:
        """Open the store in the folder `path`."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass by the store's clock."""
        self._time.advance(seconds)

    @pytest.fixture(autouse=True)
    def _shifted_time(self) -> Iterator[None]:
        self._time = ShiftedTime()
        self._time.start()
        yield
        self._time.stop()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.make_store(tmp_path / "store")
        yield store
        store.close()

    # acquire, holder, renew, release

    def test_a_thread_is_created_with_a_key_of_its_own(self, store: Store) -> None:
        first, second = acquired(store, "one").thread, acquired(store, "two").thread
        assert first.name == "one"
        assert first.key[14] == "7"  # the version digit of a UUIDv7
        assert first.key != second.key
        assert first.head == first.kept_head == ""
        assert first.next_index == first.turns == 0
        assert first.open_turn is None
        assert first.created.endswith("Z")

    def test_a_thread_is_not_created_where_that_is_not_wanted(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="t-42"):
            store.acquire("t-42", current_owner("run"), create=False)
        assert store.find("t-42") is None
        store.release(asked(store))
        assert store.acquire("t-42", current_owner("run"), create=False) is not None

    def test_a_thread_that_nothing_was_appended_to_goes_with_its_lease(self, store: Store) -> None:
        lease = acquired(store)
        assert list(store.list()) == []
        store.release(lease)
        assert store.find("t-42") is None
        assert acquired(store).thread.key != lease.thread.key

    @pytest.mark.parametrize(
        "name", ["../up", "a/b", "ünï", "日本語", "'; --", "%", "_", "a b", "x" * 200, "name/x", "🙂"]
    )
    def test_a_name_is_kept_to_the_letter(self, store: Store, name: str) -> None:
        key = asked(store, name).thread.key
        found = store.find(name)
        assert found is not None
        assert (found.key, found.name) == (key, name)
        assert [info.name for info in store.list()] == [name]

    def test_names_that_differ_in_case_are_two_threads(self, store: Store) -> None:
        assert acquired(store, "Thread").thread.key != acquired(store, "thread").thread.key

    def test_a_lease_that_is_held_is_not_given_to_another_owner(self, store: Store) -> None:
        lease = acquired(store)
        assert store.acquire("t-42", current_owner("other")) is None
        self.pass_time(LEASE_SECONDS - 1)
        assert store.acquire("t-42", current_owner("other")) is None
        save_turn(store, lease, "still", "mine")

    def test_a_lease_comes_with_the_thread_as_it_is_now(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "question", "answer")
        store.release(lease)
        assert acquired(store).thread == lease.thread

    def test_every_lease_has_a_token_of_its_own(self, store: Store) -> None:
        lease = asked(store)
        tokens = {lease.token}
        for _ in range(20):
            store.release(lease)
            lease = acquired(store)
            tokens.add(lease.token)
        assert len(tokens) == 21

    def test_an_expired_lease_is_replaced_and_its_owner_fenced(self, store: Store) -> None:
        old = asked(store)
        self.pass_time(LEASE_SECONDS + 1)
        new = acquired(store)
        assert new.thread == old.thread
        step = with_journal(old.thread, "too late")
        with pytest.raises(LeaseLostError, match="t-42"):
            save(store, old, step)
        with pytest.raises(LeaseLostError):
            store.renew(old)
        with pytest.raises(LeaseLostError):
            store.delete(old)
        store.release(old)
        assert store.holder("t-42") is not None
        save(store, new, step)

    def test_an_owner_can_use_its_expired_lease_until_it_is_taken(self, store: Store) -> None:
        lease = asked(store)
        self.pass_time(LEASE_SECONDS * 3)
        assert store.holder("t-42") is None
        lease = save(store, lease, with_journal(lease.thread, "text"))
        lease = store.renew(lease)
        assert store.holder("t-42") is not None
        assert store.acquire("t-42", current_owner("other")) is None

    def test_a_renewed_lease_lasts_from_now(self, store: Store) -> None:
        lease = acquired(store)
        self.pass_time(LEASE_SECONDS - 1)
        renewed = store.renew(lease)
        assert renewed.token == lease.token
        assert renewed.expires > lease.expires
        self.pass_time(LEASE_SECONDS - 1)
        assert store.acquire("t-42", current_owner("other")) is None
        self.pass_time(2)
        assert store.acquire("t-42", current_owner("other")) is not None

    def test_a_released_lease_is_free_at_once(self, store: Store) -> None:
        lease = acquired(store)
        store.release(lease)
        assert store.holder("t-42") is None
        store.release(lease)
        with pytest.raises(LeaseLostError):
            store.renew(lease)
        with pytest.raises(LeaseLostError):
            save(store, lease, with_question(lease.thread, "question"))
        acquired(store)

    def test_an_import_may_give_a_new_thread_its_key(self, store: Store) -> None:
        key = uuid7()
        lease = store.acquire("t-42", current_owner("run"), key=key)
        assert lease is not None
        assert lease.thread.key == key
        save_turn(store, lease, "question", "answer")
        store.release(lease)
        with pytest.raises(StoreError, match="key"):
            store.acquire("other", current_owner("run"), key=key)
        assert store.find("other") is None
        again = store.acquire("t-42", current_owner("run"), key=uuid7())
        assert again is not None
        assert again.thread.key == key

    def test_holder_returns_the_owner_of_an_unexpired_lease(self, store: Store) -> None:
        assert store.holder("t-42") is None
        owner = current_owner("a-run")
        assert store.acquire("t-42", owner) is not None
        assert store.holder("t-42") == owner
        self.pass_time(LEASE_SECONDS + 1)
        assert store.holder("t-42") is None

    def test_an_owner_that_is_proven_dead_is_replaced_at_once(self, store: Store) -> None:
        if not self.proves_death:
            return
        owner = current_owner("dead")
        for dead in (replace(owner, start_time="1"), replace(owner, boot_id="an-earlier-boot")):
            assert store.acquire("t-42", dead) is not None
            lease = acquired(store)
            store.release(lease)

    def test_an_owner_elsewhere_is_waited_for(self, store: Store) -> None:
        elsewhere = replace(current_owner("far"), host="another-host", pid=2**22 + 1)
        assert store.acquire("t-42", elsewhere) is not None
        assert store.acquire("t-42", current_owner("other")) is None
        self.pass_time(LEASE_SECONDS + 1)
        assert store.acquire("t-42", current_owner("other")) is not None

    def test_of_many_that_want_a_lease_one_gets_it(self, store: Store) -> None:
        leases: list[Lease | None] = []
        start = threading.Barrier(8)

        def want() -> None:
            start.wait()
            leases.append(store.acquire("t-42", current_owner("run")))

        _in_threads(want, 8)
        assert len(leases) == 8
        assert sum(lease is not None for lease in leases) == 1

    # append and load

    def test_records_come_back_to_the_letter(self, store: Store) -> None:
        lease = acquired(store)
        bodies = [
            '{"v":1}',
            '{ "spaced" : [1, 2.50, 1e3],\n "é": "\\u00e9 🙂 \\n \\u0000" }',
            '{"long":"' + "x" * 100_000 + '"}',
        ]
        records = []
        thread = lease.thread
        for body in bodies:
            record = replace(next_record(thread, RecordKind.META, 0, {}), body=body)
            thread = advance(thread, record)
            records.append(record)
        store.append(thread, records, "", lease)
        assert store.load(thread.key) == records

    def test_metadata_comes_back_as_it_was(self, store: Store) -> None:
        lease = asked(store)
        everything = replace(
            lease.thread,
            folder="/home/someone/project",
            title='a "title"',
            agent="agent",
            model="provider/model",
            parent=Fork(key=uuid7(), name="parent", turn=3),
            usage=Usage(input_tokens=1, output_tokens=2, total_tokens=3, cache_read_input_tokens=4),
            cost_usd=None,
            tags=("one", "two"),
        )
        store.append(everything, [], lease.thread.head, lease)
        assert store.find("t-42") == everything
        assert store.renew(lease).thread == everything

    def test_a_seal_drops_the_question_and_journal_of_its_turn(self, store: Store) -> None:
        lease = asked(store)
        lease = save(store, lease, with_journal(lease.thread, "some"))
        assert _kinds(store.load(lease.thread.key)) == ["question", "journal"]
        lease = save(store, lease, with_meta(lease.thread, title="title"))
        lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
        assert _kinds(store.load(lease.thread.key)) == ["meta", "seal"]
        lease = save(store, lease, with_question(lease.thread, "next"))
        assert _kinds(store.load(lease.thread.key)) == ["meta", "seal", "question"]

    def test_a_history_is_whole(self, store: Store) -> None:
        lease = acquired(store)
        for number in range(5):
            lease = save_turn(store, lease, f"question {number}", f"answer {number}")
        history = load_history(store, lease.thread)
        assert history.damage == ()
        assert [turn.messages[1].text for turn in history.turns] == [f"answer {number}" for number in range(5)]

    def test_several_records_are_appended_all_or_nothing(self, store: Store) -> None:
        lease = acquired(store)
        thread, question = with_question(lease.thread, "question")
        thread, journal = with_journal(thread, "text")
        with pytest.raises(HeadMismatchError):
            store.append(thread, [question, journal], "another head", lease)
        assert store.load(thread.key) == []
        store.append(thread, [question, journal], "", lease)
        assert store.load(thread.key) == [question, journal]

    def test_an_append_needs_the_head_that_is_there(self, store: Store) -> None:
        lease = asked(store)
        before, records = store.find("t-42"), store.load(lease.thread.key)
        stale = replace(lease.thread, head="", next_index=0)
        with pytest.raises(HeadMismatchError, match="t-42"):
            save(store, replace(lease, thread=stale), with_journal(stale, "text"))
        assert store.find("t-42") == before
        assert store.load(lease.thread.key) == records

    def test_an_append_needs_the_lease_of_that_thread(self, store: Store) -> None:
        lease, other = acquired(store), acquired(store, "other")
        with pytest.raises(LeaseLostError):
            save(store, replace(lease, token=other.token), with_question(lease.thread, "question"))
        with pytest.raises(LeaseLostError):
            save(store, replace(lease, token=""), with_question(lease.thread, "question"))
        assert store.load(lease.thread.key) == []

    def test_a_new_name_renames_the_thread(self, store: Store) -> None:
        lease = save_turn(store, acquired(store, "old"), "question", "answer")
        lease = save(store, lease, with_meta(lease.thread, name="new"))
        assert store.find("old") is None
        assert store.find("new") == lease.thread
        assert [info.name for info in store.list()] == ["new"]
        assert store.holder("new") is not None
        assert len(store.load(lease.thread.key)) == 2
        assert acquired(store, "old").thread.key != lease.thread.key

    def test_a_name_that_is_taken_is_refused(self, store: Store) -> None:
        taken, lease = acquired(store, "taken"), acquired(store, "mine")
        with pytest.raises(NameTakenError, match="taken"):
            save(store, lease, with_meta(lease.thread, name="taken"))
        assert store.load(lease.thread.key) == []
        found = store.find("taken")
        assert found is not None
        assert found.key == taken.thread.key
        assert store.find("mine") == lease.thread

    def test_load_pages_both_ways(self, store: Store) -> None:
        lease = acquired(store)
        for number in range(4):
            lease = save_turn(store, lease, f"question {number}", "answer")
        lease = save(store, lease, with_question(lease.thread, "open"))
        lease = save(store, lease, with_journal(lease.thread, "text"))
        key = lease.thread.key
        every = list(store.load(key))
        assert [record.index for record in every] == [2, 5, 8, 11, 12, 13]
        for after in (-1, 0, 2, 8, 11, 12, 13, 99):
            wanted = [record for record in every if record.index > after]
            for limit in (None, 0, 1, 3, 5, 50):
                assert list(store.load(key, after=after, limit=limit)) == wanted[:limit]
                assert list(store.load(key, after=after, limit=limit, reverse=True)) == wanted[::-1][:limit]

    def test_an_unknown_thread_has_no_records(self, store: Store) -> None:
        acquired(store)
        assert list(store.load(uuid7())) == []
        assert list(store.load("")) == []

    def test_text_that_is_not_unicode_is_refused_and_harms_nothing(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "question", "answer")
        thread, record = with_meta(lease.thread, title="title")
        try:
            store.append(thread, [replace(record, body='{"text":"\ud800"}')], lease.thread.head, lease)
        except StoreError:
            assert len(store.load(lease.thread.key)) == 1
            assert store.find("t-42") == lease.thread

    # contents of attachments

    def test_contents_come_back_to_the_byte(self, store: Store) -> None:
        contents = {digest(data): data for data in (b"", b"\x00\xff\xfe text", "日本".encode(), os.urandom(3_000_000))}
        lease = acquired(store)
        lease = save(store, lease, with_question(lease.thread, "question"), contents)
        for sha256, data in contents.items():
            assert store.content(lease.thread.key, sha256) == data
        assert store.content(lease.thread.key, digest(b"another")) is None
        assert store.content(lease.thread.key, "") is None
        assert store.content(uuid7(), digest(b"")) is None

    def test_contents_belong_to_their_thread_and_stay_with_it(self, store: Store) -> None:
        sha256 = digest(PICTURE)
        lease = acquired(store, "one")
        lease = save(store, lease, with_question(lease.thread, "question"), {sha256: PICTURE})
        other = asked(store, "other")
        assert store.content(other.thread.key, sha256) is None
        other = save(store, other, with_seal(other.thread, []), {sha256: PICTURE})
        lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
        lease = save(store, lease, with_meta(lease.thread, name="renamed"))
        assert store.content(lease.thread.key, sha256) == PICTURE
        store.delete(lease)
        assert store.content(lease.thread.key, sha256) is None
        assert store.content(other.thread.key, sha256) == PICTURE

    def test_the_same_content_may_come_again(self, store: Store) -> None:
        lease = acquired(store)
        lease = save(store, lease, with_question(lease.thread, "question"), {digest(PICTURE): PICTURE})
        lease = save(store, lease, with_seal(lease.thread, []))
        lease = save(store, lease, with_question(lease.thread, "again"), {digest(PICTURE): PICTURE, digest(b"b"): b"b"})
        assert store.content(lease.thread.key, digest(PICTURE)) == PICTURE
        assert store.content(lease.thread.key, digest(b"b")) == b"b"

    def test_contents_that_come_with_the_journal_are_there_before_and_after_the_seal(self, store: Store) -> None:
        lease, sha256 = asked(store), digest(PICTURE)
        lease = save(store, lease, with_journal(lease.thread, "seen"), {sha256: PICTURE})
        assert store.content(lease.thread.key, sha256) == PICTURE

        messages = [text_message(Role.USER, "question"), text_message(Role.ASSISTANT, "seen")]
        lease = save(store, lease, with_seal(lease.thread, messages), {sha256: PICTURE})
        assert store.content(lease.thread.key, sha256) == PICTURE

    def test_contents_of_the_journal_of_a_run_that_died_stay(self, store: Store) -> None:
        lease, sha256 = asked(store), digest(PICTURE)
        lease = save(store, lease, with_journal(lease.thread, "seen"), {sha256: PICTURE})
        lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
        assert store.content(lease.thread.key, sha256) == PICTURE

    def test_contents_are_kept_with_their_records_or_not_at_all(self, store: Store) -> None:
        lease = acquired(store)
        contents = {digest(PICTURE): PICTURE}
        step = with_question(lease.thread, "question")
        with pytest.raises(HeadMismatchError):
            store.append(step[0], [step[1]], "another head", lease, contents)
        with pytest.raises(LeaseLostError):
            save(store, replace(lease, token=""), step, contents)
        taken = asked(store, "taken")
        with pytest.raises(NameTakenError):
            save(store, lease, with_meta(lease.thread, name=taken.thread.name), contents)
        assert store.content(lease.thread.key, digest(PICTURE)) is None

    # find, list, delete

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

    # searching turns, with or without the store's own index

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

    def test_a_deleted_thread_is_gone(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "question", "answer")
        other = save_turn(store, acquired(store, "other"), "question", "answer")
        assert len(store.list()) == 2
        store.delete(lease)
        assert store.find("t-42") is None
        assert store.holder("t-42") is None
        assert list(store.load(lease.thread.key)) == []
        assert [info.key for info in store.list()] == [other.thread.key]
        assert len(store.load(other.thread.key)) == 1
        with pytest.raises(LeaseLostError):
            store.delete(lease)
        with pytest.raises(LeaseLostError):
            save(store, lease, with_question(lease.thread, "question"))
        assert acquired(store).thread.key != lease.thread.key

    # counters

    def test_a_counter_adds_up_to_its_limit(self, store: Store) -> None:
        assert store.add("budget", 0.25) == 0.25
        assert store.add("budget", 0.5, limit=0.75) == 0.75
        with pytest.raises(CounterLimitError, match="budget"):
            store.add("budget", 0.25, limit=0.75)
        assert store.add("budget", 0) == 0.75
        assert store.add("budget", -0.5, limit=0.75) == 0.25
        assert store.add("other", 1) == 1

    def test_no_addition_is_lost(self, store: Store) -> None:
        def add() -> None:
            for _ in range(10):
                store.add("turns", 1)

        _in_threads(add, 4)
        assert store.add("turns", 0) == 40

    def test_counters_are_listed_without_being_made(self, store: Store) -> None:
        """For stores that have `counters`."""
        counters = getattr(store, "counters", None)
        if counters is None:
            return
        assert counters("bud") == {}
        store.add("budget.a", 0.25)
        store.add("budget.b/c", 1)
        store.add("budge", 3)
        assert counters("budget.") == {"budget.a": 0.25, "budget.b/c": 1}
        assert counters("budget.a") == {"budget.a": 0.25}
        assert counters("budget.z") == counters("other") == {}

    # several operations at once

    def test_operations_are_carried_out_together_with_a_result_for_each(self, store: Store) -> None:
        lease, other = asked(store), asked(store, "other")
        self.pass_time(LEASE_SECONDS - 1)
        step, others = with_journal(lease.thread, "text"), with_seal(other.thread, [])
        operations: list[Operation] = [
            appended(lease, step),
            appended(other, others),
            Renew(lease),
            Add("budget", 0.5, 1.0),
        ]
        first, second, renewed, counted = apply(store, operations)
        assert (first, second, counted) == (None, None, 0.5)
        assert isinstance(renewed, Lease)
        assert (renewed.token, renewed.thread) == (lease.token, step[0])
        self.pass_time(2)
        assert store.acquire("t-42", current_owner("other")) is None
        assert store.acquire("other", current_owner("other")) is not None
        assert _kinds(store.load(lease.thread.key)) == ["question", "journal"]
        assert _kinds(store.load(other.thread.key)) == ["seal"]

    def test_no_operations_have_no_results(self, store: Store) -> None:
        assert apply(store, []) == []
        together = getattr(store, "apply", None)
        if together is not None:
            assert list(together([])) == []

    def test_an_operation_that_fails_fails_alone(self, store: Store) -> None:
        good, lost, stale, renamed = (asked(store, name) for name in ("good", "lost", "stale", "renamed"))
        gone = asked(store, "gone")
        store.delete(gone)
        store.add("budget", 1)
        contents = {digest(PICTURE): PICTURE}
        last = with_seal(good.thread, [])
        results = apply(
            store,
            [
                appended(replace(lost, token=good.token), with_seal(lost.thread, []), contents),
                appended(replace(stale, thread=replace(stale.thread, head="x")), with_seal(stale.thread, []), contents),
                appended(renamed, with_meta(renamed.thread, name="good"), contents),
                appended(gone, with_seal(gone.thread, [])),
                Renew(replace(lost, token="")),
                Renew(gone),
                Add("budget", 1, 1.5),
                appended(good, last, contents),
            ],
        )
        assert [type(result) for result in results] == [
            LeaseLostError,
            HeadMismatchError,
            NameTakenError,
            LeaseLostError,
            LeaseLostError,
            LeaseLostError,
            CounterLimitError,
            type(None),
        ]
        assert store.find("good") == last[0]
        assert store.content(good.thread.key, digest(PICTURE)) == PICTURE
        for lease in (lost, stale, renamed):
            assert store.find(lease.thread.name) == lease.thread
            assert _kinds(store.load(lease.thread.key)) == ["question"]
            assert store.content(lease.thread.key, digest(PICTURE)) is None
        assert store.find("gone") is None
        assert store.add("budget", 0) == 1

    def test_operations_on_one_thread_follow_one_another(self, store: Store) -> None:
        lease = asked(store)
        first = with_journal(lease.thread, "one")
        second = with_journal(first[0], "two")
        seal = with_seal(second[0], [text_message(Role.USER, "question")])
        after_first, after_second = replace(lease, thread=first[0]), replace(lease, thread=second[0])
        results = apply(
            store,
            [
                appended(lease, first),
                appended(lease, with_journal(lease.thread, "of the head before")),
                appended(after_first, second),
                Renew(lease),
                appended(after_second, seal),
            ],
        )
        assert isinstance(results[1], HeadMismatchError)
        assert (results[0], results[2], results[4]) == (None, None, None)
        renewed = results[3]
        assert isinstance(renewed, Lease)
        assert renewed.thread == second[0]
        assert store.find("t-42") == seal[0]
        assert load_history(store, seal[0]).damage == ()

    def test_several_records_of_an_operation_are_all_or_nothing(self, store: Store) -> None:
        lease, other = acquired(store), asked(store, "other")
        thread, question = with_question(lease.thread, "question")
        after, journal = with_journal(thread, "text")
        operation = Append(after, [question, journal], "another head", lease)
        operations: list[Operation] = [operation, appended(other, with_journal(other.thread, "text")), operation]
        results = apply(store, operations)
        assert isinstance(results[0], HeadMismatchError)
        assert isinstance(results[2], HeadMismatchError)
        assert store.load(after.key) == []
        operations = [operation._replace(expected_head=""), Renew(other)]
        assert apply(store, operations)[0] is None
        assert store.load(after.key) == [question, journal]

    def test_leases_are_taken_and_given_back_together(self, store: Store) -> None:
        held, sealed, empty, lost = asked(store, "held"), asked(store, "sealed"), acquired(store, "empty"), asked(store)
        owner, key, step = current_owner("run"), uuid7(), with_seal(sealed.thread, [])
        results = apply(
            store,
            [
                Acquire("new", owner),
                Acquire("new", owner),
                Acquire("held", owner),
                Acquire("missing", owner, create=False),
                Acquire("imported", owner, key=key),
                Acquire("another", owner, key=held.thread.key),
                appended(sealed, step),
                Release(sealed),
                Acquire("sealed", owner),
                Release(empty),
                Release(replace(lost, token="")),
            ],
        )
        assert [type(result) for result in results] == [
            Lease,
            type(None),
            type(None),
            UnknownNameError,
            Lease,
            StoreError,
            type(None),
            type(None),
            Lease,
            type(None),
            type(None),
        ]
        new, imported, again = results[0], results[4], results[8]
        assert isinstance(new, Lease)
        assert isinstance(imported, Lease)
        assert isinstance(again, Lease)
        assert (new.thread.name, new.thread.head, imported.thread.key, again.thread) == ("new", "", key, step[0])
        assert [store.find(name) for name in ("missing", "another", "empty")] == [None, None, None]
        assert store.holder("t-42") is not None
        save(store, new, with_question(new.thread, "question"))
        save(store, again, with_question(again.thread, "question"))

    def test_a_lease_is_given_back_also_if_the_seal_before_it_fails(self, store: Store) -> None:
        lease = asked(store)
        seal = appended(lease, with_seal(lease.thread, []))._replace(expected_head="another head")
        failed, released = apply(store, [seal, Release(lease)])
        assert isinstance(failed, HeadMismatchError)
        assert released is None
        assert acquired(store).thread == lease.thread

    def test_what_was_written_together_is_there_when_it_is_opened_again(self, tmp_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        store = self.make_store(tmp_path / "store")
        lease, other = asked(store), acquired(store, "other")
        steps = with_journal(lease.thread, "text"), with_question(other.thread, "question")
        assert apply(store, [appended(lease, steps[0]), appended(other, steps[1])]) == [None, None]
        again = self.make_store(tmp_path / "store")  # without `close`: as after the death of the process
        assert again.find("t-42") == steps[0][0]
        assert again.find("other") == steps[1][0]
        again.close()
        store.close()

    # across openings

    def test_what_was_written_is_there_when_it_is_opened_again(self, tmp_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        store = self.make_store(tmp_path / "store")
        lease = save_turn(store, acquired(store), "question", "answer")
        lease = save(store, lease, with_question(lease.thread, "open"), {digest(PICTURE): PICTURE})
        store.add("budget", 1)
        records, threads = store.load(lease.thread.key), store.list()
        store.close()
        again = self.make_store(tmp_path / "store")
        assert again.load(lease.thread.key) == records
        assert again.list() == threads
        assert again.content(lease.thread.key, digest(PICTURE)) == PICTURE
        assert again.add("budget", 1) == 2
        assert again.acquire("t-42", current_owner("other")) is None
        save(again, lease, with_journal(lease.thread, "by the same owner"))
        again.close()

    def test_two_openings_see_each_other(self, tmp_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        one, two = self.make_store(tmp_path / "store"), self.make_store(tmp_path / "store")
        lease = save_turn(one, acquired(one), "question", "answer")
        assert two.acquire("t-42", current_owner("other")) is None
        assert two.find("t-42") == lease.thread
        assert len(two.list(search="question")) == 1
        one.release(lease)
        save_turn(two, acquired(two), "second", "answer")
        assert len(one.load(lease.thread.key)) == 2
        one.close()
        two.close()


def _in_threads(target: Callable[[], None], count: int) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            target()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

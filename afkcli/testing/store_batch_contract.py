"""The contract of a store about counters, and about several operations at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from afkcli.core.contract.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import (
    LEASE_SECONDS,
    Acquire,
    Add,
    Append,
    Lease,
    Operation,
    Release,
    Renew,
    Store,
)
from afkcli.core.thread.batch import apply
from afkcli.core.thread.history import load_history
from afkcli.host.owner import current_owner
from afkcli.testing.store_case import PICTURE, StoreCase, in_threads, kinds_of
from afkcli.testing.store_steps import (
    acquired,
    appended,
    asked,
    digest,
    save,
    with_journal,
    with_meta,
    with_question,
    with_seal,
)


class BatchContract(StoreCase):
    """What `StoreContract` asks of `add`, `counters` and `apply`."""

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

        in_threads(add, 4)
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
        assert kinds_of(store.load(lease.thread.key)) == ["question", "journal"]
        assert kinds_of(store.load(other.thread.key)) == ["seal"]

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
            assert kinds_of(store.load(lease.thread.key)) == ["question"]
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

    def test_what_was_written_together_is_there_when_it_is_opened_again(self, store_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        store = self.make_store(store_path)
        lease, other = asked(store), acquired(store, "other")
        steps = with_journal(lease.thread, "text"), with_question(other.thread, "question")
        assert apply(store, [appended(lease, steps[0]), appended(other, steps[1])]) == [None, None]
        again = self.make_store(store_path)  # without `close`: as after the death of the process
        assert again.find("t-42") == steps[0][0]
        assert again.find("other") == steps[1][0]
        again.close()
        store.close()

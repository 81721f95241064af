"""The contract of a store about leases: who may write to a thread, and until when."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from afkcli.core.contract.errors import (
    LeaseLostError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.protocols import (
    LEASE_SECONDS,
    Lease,
    Store,
)
from afkcli.host.owner import current_owner
from afkcli.testing.store_case import StoreCase, in_threads
from afkcli.testing.store_steps import (
    acquired,
    asked,
    save,
    save_turn,
    with_journal,
    with_question,
)


class LeaseContract(StoreCase):
    """What `StoreContract` asks of `acquire`, `holder`, `renew` and `release`."""

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

        in_threads(want, 8)
        assert len(leases) == 8
        assert sum(lease is not None for lease in leases) == 1

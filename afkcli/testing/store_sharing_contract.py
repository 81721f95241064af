"""The contract of a store about who shares it: openings, threads, processes and hosts, and what outlives them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.errors import HeadMismatchError, LeaseLostError
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import LEASE_SECONDS, Lease, Store
from afkcli.core.thread.batch import apply
from afkcli.core.thread.history import load_history
from afkcli.host.owner import current_owner
from afkcli.testing.store_case import PICTURE, StoreCase, in_threads, kinds_of
from afkcli.testing.store_processes import CAN_FORK, OtherProcess, OtherProcesses
from afkcli.testing.store_steps import (
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

PROCESSES = 3
ROUNDS = 30
ADDITIONS = 40
LONG_THREAD = 10_000_000  # characters

Start = Callable[..., OtherProcess]


class SharingContract(StoreCase):
    """What `StoreContract` asks of a store that several processes open. Since: 0.2."""

    @pytest.fixture
    def other_process(self, store_path: Path) -> Iterator[Start]:
        """Start a process that takes the steps it is given on the same store; before the test opens the store."""
        started: list[OtherProcess] = []

        def start(*steps: Callable[..., Any]) -> OtherProcess:
            started.append(OtherProcess(lambda: self.make_store(store_path), *steps))
            return started[-1]

        yield start
        for process in started:
            process.close()

    @property
    def _is_shared(self) -> bool:
        return self.keeps_on_disk and CAN_FORK

    # across openings

    def test_what_was_written_is_there_when_it_is_opened_again(self, store_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        store = self.make_store(store_path)
        lease = save_turn(store, acquired(store), "question", "answer")
        lease = save(store, lease, with_question(lease.thread, "open"), {digest(PICTURE): PICTURE})
        store.add("budget", 1)
        records, threads = store.load(lease.thread.key), store.list()
        store.close()
        again = self.make_store(store_path)
        assert again.load(lease.thread.key) == records
        assert again.list() == threads
        assert again.content(lease.thread.key, digest(PICTURE)) == PICTURE
        assert again.add("budget", 1) == 2
        assert again.acquire("t-42", current_owner("other")) is None
        save(again, lease, with_journal(lease.thread, "by the same owner"))
        again.close()

    def test_two_openings_see_each_other(self, store_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        one, two = self.make_store(store_path), self.make_store(store_path)
        lease = save_turn(one, acquired(one), "question", "answer")
        assert two.acquire("t-42", current_owner("other")) is None
        assert two.find("t-42") == lease.thread
        assert len(two.list(search="question")) == 1
        one.release(lease)
        save_turn(two, acquired(two), "second", "answer")
        assert len(one.load(lease.thread.key)) == 2
        one.close()
        two.close()

    def test_what_another_opening_changed_is_found_at_once(self, store_path: Path) -> None:
        if not self.keeps_on_disk:
            return
        one, two = self.make_store(store_path), self.make_store(store_path)
        lease = save_turn(one, acquired(one), "question", "answer")
        assert two.find("t-42") == lease.thread
        assert [info.name for info in two.list()] == ["t-42"]
        assert len(two.load(lease.thread.key)) == 1
        lease = save(one, lease, with_question(lease.thread, "second"))
        assert two.find("t-42") == lease.thread
        lease = save(one, lease, with_journal(lease.thread, "text"))
        assert kinds_of(two.load(lease.thread.key)) == ["seal", "question", "journal"]
        lease = save(one, lease, with_meta(lease.thread, name="renamed"))
        assert two.find("t-42") is None
        assert two.find("renamed") == lease.thread
        assert [info.name for info in two.list()] == ["renamed"]
        one.delete(lease)
        assert two.find("renamed") is None
        assert two.holder("renamed") is None
        assert list(two.load(lease.thread.key)) == []
        assert list(two.list()) == []
        one.close()
        two.close()

    # many calls at once

    def test_calls_of_several_threads_may_overlap(self, store: Store) -> None:
        names = iter(range(100))

        def talk() -> None:
            name = f"t-{next(names)}"
            lease = acquired(store, name)
            for number in range(3):
                lease = save_turn(store, lease, f"question {number}", "answer")
                assert store.find(name) == lease.thread
                assert store.add(name, 1) == number + 1
                assert len(store.load(lease.thread.key)) == number + 1
            store.release(lease)

        in_threads(talk, 4)
        assert len(store.list()) == 4
        assert all(load_history(store, info).damage == () for info in store.list())

    def test_an_append_reads_nothing_of_the_turns_before_it(self, store: Store) -> None:
        lease = acquired(store)
        for _ in range(4):
            lease = save_turn(store, lease, "question", "x" * (LONG_THREAD // 4))

        def append(lease: Lease) -> Lease:
            lease = save(store, lease, with_question(lease.thread, "question"))
            lease = save(store, lease, with_journal(lease.thread, "text"))
            return save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))

        lease = append(lease)  # what is made once is made now
        peaks = []
        tracemalloc.start()
        try:
            for _ in range(3):  # other threads of the tests' process may take memory meanwhile
                tracemalloc.clear_traces()
                lease = append(lease)
                peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert min(peaks) < LONG_THREAD / 10

    # several processes

    def test_no_addition_of_several_processes_is_lost(self, store_path: Path) -> None:
        if not self._is_shared:
            return

        def add(store: Store, number: int, meet: Callable[[], object]) -> None:
            for _ in range(ADDITIONS):
                meet()
                store.add("turns", 1)

        self._in_processes(store_path, add)
        store = self.make_store(store_path)
        assert store.add("turns", 0) == PROCESSES * ADDITIONS
        store.close()

    def test_of_several_processes_that_want_a_thread_one_gets_it(self, store_path: Path) -> None:
        if not self._is_shared:
            return

        def make(store: Store, number: int, meet: Callable[[], object]) -> None:
            if number == 0:
                for at in range(0, ROUNDS, 2):
                    store.release(asked(store, f"t-{at}"))

        def want(store: Store, number: int, meet: Callable[[], object]) -> list[bool]:
            got = []
            for at in range(ROUNDS):
                meet()
                got.append(store.acquire(f"t-{at}", current_owner("run")) is not None)
            return got

        _, got = self._in_processes(store_path, make, want)
        assert [sum(at) for at in zip(*got, strict=True)] == [1] * ROUNDS

    def test_of_several_appends_behind_one_record_one_is_made(self, store_path: Path) -> None:
        if not self._is_shared:
            return

        def ask(store: Store, number: int, meet: Callable[[], object]) -> str:
            lease = asked(store) if number == 0 else None
            return lease.token if lease is not None else ""

        def append(store: Store, number: int, meet: Callable[[], object], tokens: list[str]) -> int:
            made = 0
            for _ in range(ROUNDS):
                thread = store.find("t-42")
                assert thread is not None
                lease = Lease(token=tokens[0], thread=thread, expires=0.0)
                meet()
                try:
                    save(store, lease, with_journal(thread, f"by {number}"))
                    made += 1
                except HeadMismatchError:
                    pass
                meet()
            return made

        processes = OtherProcesses(lambda: self.make_store(store_path), PROCESSES, ask, append)
        try:
            made = processes.step(processes.step())
        finally:
            processes.close()
        store = self.make_store(store_path)
        thread = store.find("t-42")
        assert thread is not None
        assert sum(made) == ROUNDS
        assert [record.index for record in store.load(thread.key)] == list(range(ROUNDS + 1))
        assert load_history(store, thread).damage == ()
        store.close()

    def test_two_processes_take_turns_on_one_thread(self, store_path: Path, other_process: Start) -> None:
        if not self._is_shared:
            return

        def answer(store: Store) -> int:
            assert store.acquire("t-42", current_owner("other")) is None
            return len(store.load(store.list()[0].key))

        def take(store: Store) -> None:
            store.release(save_turn(store, acquired(store), "second", "answer"))

        other = other_process(answer, take, answer)
        store = self.make_store(store_path)
        lease = save_turn(store, acquired(store), "first", "answer")
        assert other.step() == 1
        store.release(lease)
        other.step()
        lease = acquired(store)
        assert lease.thread.turns == 2
        assert other.step() == 2
        assert len(load_history(store, lease.thread).turns) == 2
        store.close()

    def test_what_a_killed_process_wrote_is_there(self, store_path: Path, other_process: Start) -> None:
        if not self._is_shared:
            return

        def write(store: Store) -> None:
            lease = save_turn(store, acquired(store), "question", "answer")
            lease = save(store, lease, with_question(lease.thread, "open"), {digest(PICTURE): PICTURE})
            save(store, lease, with_journal(lease.thread, "half an ans"))
            store.release(asked(store, "released"))
            store.add("budget", 2)

        other = other_process(write)
        other.step()
        other.kill()
        self.lose_power(store_path)
        store = self.make_store(store_path)
        thread, released = store.find("t-42"), store.find("released")
        assert thread is not None
        assert released is not None
        assert kinds_of(store.load(thread.key)) == ["seal", "question", "journal"]
        assert store.content(thread.key, digest(PICTURE)) == PICTURE
        assert kinds_of(store.load(released.key)) == ["question"]
        assert load_history(store, thread).damage == ()
        assert store.add("budget", 0) == 2
        if self.proves_death:
            assert acquired(store).thread == thread
        store.close()

    def test_a_seal_is_as_durable_as_the_store_says(self, store_path: Path) -> None:
        """At once after each durable record the power is lost; where there is no server, the store is left as it is."""
        if not self.keeps_on_disk:
            return
        store = self.make_store(store_path)
        lease = asked(store)
        self.lose_power(store_path)
        assert store.find("t-42") == lease.thread
        (result,) = apply(store, [appended(lease, step := with_seal(lease.thread, []))])
        assert result is None
        self.lose_power(store_path)
        again = self.make_store(store_path)
        assert again.find("t-42") == step[0]
        assert kinds_of(again.load(lease.thread.key)) == ["seal"]
        again.close()
        store.close()

    # the clock of a server, and connections to it

    def test_leases_go_by_the_clock_of_the_store_and_not_of_its_user(self, store_path: Path) -> None:
        if not self.has_own_clock:
            return
        right, wrong = self.make_store(store_path), self.make_store(store_path)
        for ahead in (3600.0, -3600.0):
            lease = asked(right, f"right {ahead}")
            self._time.advance(ahead)
            assert wrong.acquire(lease.thread.name, current_owner("other")) is None
            assert wrong.holder(lease.thread.name) is not None
            skewed = asked(wrong, f"wrong {ahead}")
            self._time.advance(-ahead)
            assert right.acquire(skewed.thread.name, current_owner("other")) is None
            self.pass_time(LEASE_SECONDS - 1)
            assert right.acquire(skewed.thread.name, current_owner("other")) is None
            self._time.advance(ahead)
            skewed = wrong.renew(skewed)
            self._time.advance(-ahead)
            self.pass_time(LEASE_SECONDS - 1)
            assert right.acquire(skewed.thread.name, current_owner("other")) is None
            self.pass_time(2)
            assert right.holder(skewed.thread.name) is None
            assert right.acquire(skewed.thread.name, current_owner("other")) is not None
            with pytest.raises(LeaseLostError):
                wrong.renew(skewed)
        right.close()
        wrong.close()

    def test_a_lost_connection_is_made_again(self, store_path: Path) -> None:
        store = self.make_store(store_path)
        lease = asked(store)
        for number in range(2):
            self.cut_connections(store_path)
            assert store.find("t-42") == lease.thread
            self.cut_connections(store_path)
            lease = save(store, lease, with_journal(lease.thread, f"text {number}"))
            self.cut_connections(store_path)
            assert store.add("budget", 1) == number + 1
            self.cut_connections(store_path)
            lease = store.renew(lease)
            self.cut_connections(store_path)
            step = with_journal(lease.thread, "together")
            assert apply(store, [appended(lease, step)]) == [None]
            lease = replace(lease, thread=step[0])
        self.cut_connections(store_path)
        assert kinds_of(store.load(lease.thread.key)) == ["question", *["journal"] * 4]
        self.cut_connections(store_path)
        lease = save(store, lease, with_seal(lease.thread, []))
        self.cut_connections(store_path)
        store.release(lease)
        self.cut_connections(store_path)
        store.delete(acquired(store))
        assert store.find("t-42") is None
        store.close()

    def _in_processes(self, path: Path, *steps: Callable[..., Any]) -> list[list[Any]]:
        """Have several processes take steps; return for each step what it returned in each process."""
        processes = OtherProcesses(lambda: self.make_store(path), PROCESSES, *steps)
        try:
            return [processes.step() for _ in steps]
        finally:
            processes.close()

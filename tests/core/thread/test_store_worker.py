"""The store's thread: calls in order, open turns journaled and leases renewed by its own clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from afkcli.core.contract.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.contract.messages import Message, ProviderData, Role, TextPart, text_message
from afkcli.core.contract.protocols import (
    Acquire,
    Add,
    Append,
    Lease,
    Operation,
    OperationResult,
    Renew,
    Store,
)
from afkcli.core.contract.structs import replace
from afkcli.core.contract.waiting import while_waiting
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread import store_worker as store_worker
from afkcli.core.thread import writer
from afkcli.core.thread.batch import Batch, Steps, make_alone, one
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.store_worker import StoreWorker
from afkcli.core.thread.turns import Beginning, interrupted_turn
from afkcli.core.thread.writer import TurnWriter
from afkcli.testing.store_steps import acquired, appended, with_question


@pytest.fixture
def calls() -> Any:
    made = StoreWorker()
    yield made
    made.close()


def test_calls_run_in_order_on_one_thread(calls: StoreWorker) -> None:
    seen: list[tuple[int, str]] = []
    for number in range(100):
        calls.submit(lambda number=number: seen.append((number, threading.current_thread().name)))
    calls.submit(lambda: None).result()
    assert seen == [(number, "afk-store") for number in range(100)]


def test_where_the_system_starts_no_thread_a_call_fails_and_does_not_wait(
    calls: StoreWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the limit of processes is reached; the next call tries again."""
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    for _ in range(2):
        with pytest.raises(StoreError, match="can't start new thread: the limit of processes may be reached"):
            calls.submit(lambda: 1)
    assert calls.close()

    monkeypatch.setattr(threading.Thread, "start", start)
    assert calls.submit(lambda: 2).result() == 2


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_a_call_returns_or_raises_is_handed_back(calls: StoreWorker) -> None:
    async def run() -> None:
        assert await calls.call(int, "3") == 3
        assert await calls.finish(int, "3") == 3
        for way in (calls.call, calls.finish):
            with pytest.raises(ValueError, match="invalid literal"):
                await way(int, "x")

    asyncio.run(run())


@pytest.mark.parametrize("waits", [False, True])
def test_a_call_runs_to_its_end_when_the_waiting_task_is_cancelled(calls: StoreWorker, waits: bool) -> None:
    begun, release, done = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait()
        done.set()

    async def run() -> None:
        waiting = asyncio.ensure_future(calls.finish(slow) if waits else calls.call(slow))
        while not begun.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert waiting.done() is not waits
        release.set()
        await asyncio.wait({waiting})
        assert waiting.cancelled() is not waits

    asyncio.run(run())
    calls.submit(lambda: None).result()
    assert done.is_set()


def test_threads_take_turns_and_each_keeps_its_order(calls: StoreWorker) -> None:
    began, release, seen = threading.Event(), threading.Event(), list[tuple[str, int]]()
    calls.submit(lambda: (began.set(), release.wait()))
    began.wait()
    for number in range(50):
        calls.of("long").submit(lambda number=number: seen.append(("long", number)))
    for number in range(2):
        calls.of("short").submit(lambda number=number: seen.append(("short", number)))
    release.set()
    calls.of("long").submit(lambda: None).result()
    assert [number for key, number in seen if key == "long"] == list(range(50))
    assert seen[:4] == [("long", 0), ("short", 0), ("long", 1), ("short", 1)]


def test_the_last_call_comes_after_all_others_on_the_same_thread() -> None:
    worker, seen = StoreWorker(), list[tuple[str, int | None]]()
    for key in ("", "one", "two", "one"):
        worker.of(key).submit(lambda key=key: seen.append((key, threading.current_thread().ident)))
    worker.close(lambda: seen.append(("last", threading.current_thread().ident)))
    assert sorted(key for key, _ in seen[:-1]) == ["", "one", "one", "two"]
    assert seen[-1][0] == "last"
    assert len({ident for _, ident in seen}) == 1
    StoreWorker().close(lambda: seen.append(("never", None)))
    assert seen[-1][0] == "last"


def test_it_starts_with_the_first_call_and_can_be_closed_without_one() -> None:
    before = threading.active_count()
    StoreWorker().close()
    assert threading.active_count() == before


class Journal:
    """An open turn on a store in memory, watched by a store's thread."""

    def __init__(self, calls: StoreWorker, store: MemoryStore, name: str = "t") -> None:
        self.calls = calls
        self.store = store
        self.problems: list[Exception] = []
        self.name = name
        lease = store.acquire(name, unknown_owner("run"))
        assert lease is not None
        self.writer = TurnWriter(store, lease, "run", self.problems.append)
        question = text_message(Role.USER, "hi")
        beginning = Beginning(messages=(question,))
        make_alone(self.writer.open(beginning, agent="a", model="m", now="2026-01-01T00:00:00.000Z"))
        calls.submit(calls.watch, self.writer).result()

    def journaled(self) -> str:
        """What a reader after a crash would find of the answer now."""
        info = self.store.find(self.name)
        assert info is not None
        assert info.open_turn is not None
        records = load_history(self.store, info).open_records
        return "".join(message.text for message in interrupted_turn(info, info.open_turn, records).messages[1:])


def wait_until(condition: Any) -> None:
    pause = threading.Event()
    while not condition():
        pause.wait(0.005)


def test_text_is_journaled_without_any_other_call(calls: StoreWorker) -> None:
    turn = Journal(calls, MemoryStore())
    for text in ("one ", "two ", "three"):
        turn.writer.journal_text(text)
        said = turn.journaled() + text
        wait_until(lambda said=said: turn.journaled() == said)
    turn.writer.journal_message(text_message(Role.ASSISTANT, "in full"))
    wait_until(lambda: turn.journaled() == "in full")
    assert turn.problems == []


def test_the_journal_is_written_often_enough() -> None:
    assert store_worker.JOURNAL_SECONDS < 0.25


def test_the_lease_is_renewed_even_while_the_journal_fails(calls: StoreWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    renewed = threading.Semaphore(0)

    class Full(MemoryStore):
        full = False

        def append(self, *args: Any) -> None:
            if self.full:
                raise OSError("full")
            super().append(*args)

        def renew(self, lease: Lease) -> Lease:
            renewed.release()
            return super().renew(lease)

    store = Full()
    turn = Journal(calls, store)
    store.full = True
    turn.writer.journal_text("a")
    for _ in range(5):
        assert renewed.acquire(timeout=60)
    assert [str(problem) for problem in turn.problems] == ["full"]
    store.full = False
    wait_until(lambda: turn.journaled() == "a")


def test_an_owner_that_lost_its_lease_writes_nothing_more(calls: StoreWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    store = MemoryStore()
    turn = Journal(calls, store)
    next(iter(store._threads.values())).expires = 0.0
    assert store.acquire("t", unknown_owner("other")) is not None
    turn.writer.journal_text("late")
    wait_until(lambda: turn.problems)
    turn.writer.journal_text("later")
    calls.submit(lambda: None).result()
    assert turn.writer.lost
    assert turn.journaled() == ""
    assert len(turn.problems) == 1


class Counting(MemoryStore):
    """Keeps the types of the operations of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[type]] = []

    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        self.batches.append([type(operation) for operation in operations])
        return super().apply(operations)


def test_what_is_due_of_many_turns_goes_into_one_batch(calls: StoreWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    store = Counting()
    turns = [Journal(calls, store, f"t-{number}") for number in range(5)]
    begun, release = threading.Event(), threading.Event()

    def busy() -> None:
        begun.set()
        release.wait()

    calls.submit(busy)
    begun.wait()
    for turn in turns:
        turn.writer._renewed = 0.0
        turn.writer.journal_text("text")
    release.set()
    wait_until(lambda: all(turn.journaled() == "text" for turn in turns))
    assert store.batches[0] == [Append, Renew] * 5
    assert [turn.problems for turn in turns] == [[]] * 5


def test_a_turn_that_lost_its_lease_does_not_keep_others_from_being_written(
    calls: StoreWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    store = Counting()
    lost, kept = Journal(calls, store, "lost"), Journal(calls, store, "kept")
    store._threads[lost.writer.thread.key].token = "another"
    for number in range(3):
        lost.writer.journal_text("late")
        kept.writer.journal_text(f"{number}")
        wait_until(lambda number=number: kept.journaled().endswith(str(number)))
    assert kept.journaled() == "012"
    assert (lost.writer.lost, kept.writer.lost) == (True, False)
    assert [type(problem) for problem in lost.problems] == [LeaseLostError]
    assert kept.problems == []


def test_a_store_that_takes_one_operation_at_a_time_works_as_well(
    calls: StoreWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RENEW_SECONDS", 0.0)
    monkeypatch.delattr(MemoryStore, "apply")
    store = MemoryStore()
    turns = [Journal(calls, store, f"t-{number}") for number in range(3)]
    for turn in turns:
        turn.writer.journal_text("text")
    wait_until(lambda: all(turn.journaled() == "text" for turn in turns))
    assert [turn.problems for turn in turns] == [[]] * 3


@pytest.mark.parametrize("result", [[], [None] * 9, None, SystemExit(3), StoreError("full"), OSError("full")])
def test_a_store_whose_batch_fails_is_reported_by_each_turn_once(
    calls: StoreWorker, monkeypatch: pytest.MonkeyPatch, result: Any
) -> None:
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    failed = threading.Semaphore(0)

    class Failing(MemoryStore):
        broken = True

        def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
            if not self.broken:
                return super().apply(operations)
            failed.release()
            if isinstance(result, BaseException):
                raise result
            return result  # type: ignore[no-any-return]

    store = Failing()
    turns = [Journal(calls, store, f"t-{number}") for number in range(2)]
    for turn in turns:
        turn.writer.journal_text("text")
    for _ in range(4):
        assert failed.acquire(timeout=60)
    assert [len(turn.problems) for turn in turns] == [1, 1]
    store.broken = False
    wait_until(lambda: all(turn.journaled() == "text" for turn in turns))


def test_a_journal_that_is_not_json_is_reported_once_and_stops_neither_the_lease_nor_other_turns(
    calls: StoreWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_worker, "JOURNAL_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RENEW_SECONDS", 0.0)
    renewed: set[str] = set()

    class Renewing(MemoryStore):
        def renew(self, lease: Lease) -> Lease:
            renewed.add(lease.thread.name)
            return super().renew(lease)

    store = Renewing()
    odd, kept = Journal(calls, store, "odd"), Journal(calls, store, "kept")
    data = ProviderData(provider="p", api="a", model="m", payload=object())  # type: ignore[arg-type]
    odd.writer.journal_message(Message(role=Role.ASSISTANT, parts=(TextPart(text="a", provider_data=data),)))
    wait_until(lambda: odd.problems)
    renewed.clear()
    kept.writer.journal_text("text")
    wait_until(lambda: kept.journaled() == "text" and renewed == {"odd", "kept"})
    assert (len(odd.problems), odd.writer.lost, kept.problems) == (1, False, [])


def test_a_call_that_comes_while_the_worker_is_closed_is_made_by_one_worker_at_a_time() -> None:
    worker, started, release, seen = StoreWorker(), threading.Event(), threading.Event(), list[str]()

    def last() -> None:
        started.set()
        release.wait()
        seen.append("last")

    worker.submit(seen.append, "first")
    closing = threading.Thread(target=worker.close, args=(last,))
    closing.start()
    started.wait()
    late = worker.submit(seen.append, "late")
    release.set()
    late.result(timeout=60)
    closing.join(60)
    assert not closing.is_alive()
    worker.close(lambda: seen.append("last again"))
    assert seen == ["first", "last", "late", "last again"]


def test_a_call_that_comes_before_the_last_one_of_a_closing_worker_is_made_before_it() -> None:
    worker, started, release, seen = StoreWorker(), threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        started.set()
        release.wait()

    worker.submit(first)
    started.wait()
    closing = threading.Thread(target=worker.close, args=(lambda: seen.append("last"),))
    closing.start()
    wait_until(lambda: worker._closing)
    late = worker.submit(seen.append, "late")
    release.set()
    late.result(timeout=60)
    closing.join(60)
    assert not closing.is_alive()
    assert seen == ["late", "last"]


class Batches(Counting):
    """Also blocks in its first batch until it is released, so that others come together meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        self.entered.set()
        self.go_on.wait()
        return super().apply(operations)


def questions(store: MemoryStore, count: int) -> list[Append]:
    """Return the question of a turn for each of so many new threads."""
    leases = [acquired(store, f"t-{number}") for number in range(count)]
    return [appended(lease, with_question(lease.thread, "question")) for lease in leases]


def test_what_calls_of_many_threads_want_goes_into_one_batch(calls: StoreWorker) -> None:
    store = Batches()
    asked = questions(store, 20)
    first = calls.submit_steps(both, store, Add("a", 1), Add("b", 1))
    store.entered.wait()
    done = [calls.of(item.thread.key).submit_steps(one, store, item) for item in asked]
    store.go_on.set()
    assert [future.result() for future in done] == [None] * 20
    assert first.result() == [1, 1]
    assert store.batches == [[Add, Add], [Append] * 20]
    assert [store.find(f"t-{number}") for number in range(20)] == [item.thread for item in asked]


def test_an_operation_that_fails_fails_its_own_call_alone(calls: StoreWorker) -> None:
    store = Batches()
    good, stale, lost = questions(store, 3)
    calls.submit_steps(both, store, Add("a", 1), Add("b", 1))
    store.entered.wait()
    done = [
        calls.of(key).submit_steps(one, store, item)
        for key, item in {
            "stale": stale._replace(expected_head="another"),
            "lost": lost._replace(lease=replace(lost.lease, token="")),
            "limit": Add("a", 9, 5),
            "unknown": Acquire("unknown", unknown_owner("run"), create=False),
            "good": good,
        }.items()
    ]
    store.go_on.set()
    errors = [type(future.exception()) for future in done]
    assert errors == [HeadMismatchError, LeaseLostError, CounterLimitError, UnknownNameError, type(None)]
    assert len(store.batches) == 2
    assert store.find("t-0") == good.thread


def test_the_calls_of_a_thread_are_made_one_after_the_other(calls: StoreWorker) -> None:
    """The next one begins when all steps of the one before are made, and sees what they did."""
    store, seen = MemoryStore(), list[str]()

    def counted(name: str) -> Steps[None]:
        for _ in range(3):
            value = yield from one(store, Add("counter", 1))
            seen.append(f"{name} {value:g}")

    def plain() -> None:
        seen.append(f"plain {store.add('counter', 1):g}")

    release = threading.Event()
    calls.of("t").submit(release.wait)
    done = [
        calls.of("t").submit_steps(counted, "first"),
        calls.of("t").submit(plain),
        calls.of("t").submit_steps(counted, "second"),
    ]
    release.set()
    for future in done:
        future.result()
    steps = [(name, value) for name, value in (line.split() for line in seen)]
    assert steps == [*zip(["first"] * 3 + ["plain"] + ["second"] * 3, map(str, range(1, 8)), strict=True)]


def test_a_call_that_fails_between_its_steps_does_not_hold_up_others(calls: StoreWorker) -> None:
    store = MemoryStore()

    def failing(error: BaseException) -> Steps[None]:
        yield from one(store, Add("a", 1))
        raise error

    done = [calls.of(str(error)).submit_steps(failing, error) for error in (ValueError("x"), SystemExit(3))]
    good = calls.of("good").submit_steps(one, store, Add("b", 1))
    assert good.result() == 1
    assert [type(future.exception()) for future in done] == [ValueError, StoreError]
    assert store.add("a", 0) == 2


def test_calls_in_steps_work_on_a_store_that_takes_one_operation_at_a_time(
    calls: StoreWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MemoryStore, "apply")
    store, release = MemoryStore(), threading.Event()
    asked = questions(store, 5)
    calls.submit(release.wait)
    done = [calls.of(item.thread.key).submit_steps(one, store, item) for item in asked]
    stale = calls.of("stale").submit_steps(one, store, asked[0])
    release.set()
    assert [future.result() for future in done] == [None] * 5
    assert isinstance(stale.exception(), HeadMismatchError)


def test_calls_that_wait_together_end_when_no_one_wants_any_of_them(calls: StoreWorker) -> None:
    class Locked(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.locked = threading.Event()

        def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
            while not release.wait(0.01):
                while_waiting()
                self.locked.set()
            return super().apply(operations)

    store, release = Locked(), threading.Event()
    first, second, third = (Add(name, 1) for name in "abc")

    def submitted(*operations: Operation) -> list[Future[Any]]:
        begun, go_on = threading.Event(), threading.Event()
        calls.submit(lambda: (begun.set(), go_on.wait()))
        begun.wait()
        futures = [calls.of(repr(each)).submit_steps(one, store, each) for each in operations]
        go_on.set()
        store.locked.wait()
        return futures

    given_up = submitted(first, second)
    calls.give_up(given_up[0])
    for _ in range(2):  # it goes on waiting, for the other one is still wanted
        store.locked.clear()
        assert store.locked.wait(60)
    calls.give_up(given_up[1])
    assert ["given up" in str(future.exception(timeout=60)) for future in given_up] == [True, True]
    store.locked.clear()
    kept = submitted(first, third)
    calls.give_up(kept[0])
    release.set()
    assert [future.result(timeout=60) for future in kept] == [1, 1]


def both(store: Store, *operations: Operation) -> Steps[list[OperationResult]]:
    """Want some operations together."""
    return (yield Batch(store, operations))

"""The store's thread: calls in order, open turns journaled and leases renewed by its own clock."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import Lease
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread import store_worker as store_thread
from afkcli.core.thread import writer as thread
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.store_worker import StoreThread
from afkcli.core.thread.turns import Beginning, interrupted_turn
from afkcli.core.thread.writer import TurnWriter


@pytest.fixture
def calls() -> Any:
    made = StoreThread()
    yield made
    made.close()


def test_calls_run_in_order_on_one_thread(calls: StoreThread) -> None:
    seen: list[tuple[int, str]] = []
    for number in range(100):
        calls.submit(lambda number=number: seen.append((number, threading.current_thread().name)))
    calls.submit(lambda: None).result()
    assert seen == [(number, "afk-store") for number in range(100)]


def test_what_a_call_returns_or_raises_is_handed_back(calls: StoreThread) -> None:
    async def run() -> None:
        assert await calls.call(int, "3") == 3
        assert await calls.finish(int, "3") == 3
        for way in (calls.call, calls.finish):
            with pytest.raises(ValueError, match="invalid literal"):
                await way(int, "x")

    asyncio.run(run())


@pytest.mark.parametrize("waits", [False, True])
def test_a_call_runs_to_its_end_when_the_waiting_task_is_cancelled(calls: StoreThread, waits: bool) -> None:
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


def test_it_starts_with_the_first_call_and_can_be_closed_without_one() -> None:
    before = threading.active_count()
    StoreThread().close()
    assert threading.active_count() == before


class Journal:
    """An open turn on a store in memory, watched by a store's thread."""

    def __init__(self, calls: StoreThread, store: MemoryStore) -> None:
        self.calls = calls
        self.store = store
        self.problems: list[Exception] = []
        lease = store.acquire("t", unknown_owner("run"))
        assert lease is not None
        self.writer = TurnWriter(store, lease, "run", self.problems.append)
        question = text_message(Role.USER, "hi")
        self.writer.open(Beginning(messages=(question,)), agent="a", model="m", now="2026-01-01T00:00:00.000Z")
        calls.submit(calls.watch, self.writer).result()

    def journaled(self) -> str:
        """What a reader after a crash would find of the answer now."""
        info = self.store.find("t")
        assert info is not None
        assert info.open_turn is not None
        records = load_history(self.store, info).open_records
        return "".join(message.text for message in interrupted_turn(info, info.open_turn, records).messages[1:])


def wait_until(condition: Any) -> None:
    pause = threading.Event()
    while not condition():
        pause.wait(0.005)


def test_text_is_journaled_while_nobody_calls(calls: StoreThread) -> None:
    turn = Journal(calls, MemoryStore())
    for text in ("one ", "two ", "three"):
        turn.writer.journal_text(text)
        said = turn.journaled() + text
        wait_until(lambda said=said: turn.journaled() == said)
    turn.writer.journal_message(text_message(Role.ASSISTANT, "in full"))
    wait_until(lambda: turn.journaled() == "in full")
    assert turn.problems == []


def test_the_journal_is_written_often_enough() -> None:
    assert store_thread.JOURNAL_SECONDS < 0.25


def test_the_lease_is_renewed_even_while_the_journal_fails(calls: StoreThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(store_thread, "JOURNAL_SECONDS", 0.01)
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


def test_an_owner_that_lost_its_lease_writes_nothing_more(calls: StoreThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_thread, "JOURNAL_SECONDS", 0.01)
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

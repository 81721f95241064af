"""Budgets: what runs may cost together, also at the same time; what is used up ends a run and keeps what it has."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from afkcli.core.contract.errors import ErrorKind, LimitReachedError, ProviderError, StoreError, UsageError
from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import TextDelta
from afkcli.core.contract.protocols import Price
from afkcli.core.contract.result import AgentResult, RunState, exit_code
from afkcli.core.run.budgets import Budgets, Reservation, Reservations
from afkcli.core.run.config import Wiring
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.store_worker import StoreWorker
from tests.core.scripted import Scripted, agent, answer, collect, events_of, runner_of, streamed

PRICE = Price(input=1_000_000, output=2_000_000)  # a call of `answer` costs 10 * 1 + 5 * 2 = 20 dollars
FREE = Price(input=0, output=0)
PIECES = ["12345678"] * 100  # 4 dollars each


def run(model: Scripted, store: MemoryStore, thread: str = "t", **budgets: Any) -> tuple[AgentResult, list[Event]]:
    async def turn() -> list[Event]:
        async with runner_of(model, store=store, wiring=Wiring(budgets=Budgets(**budgets))) as runner:
            return await collect(await runner.run_stream(agent(), user_message="hi", thread_id=thread))

    events = asyncio.run(turn())
    last = events[-1]
    assert last.type == "completed"
    return last.result, events


def spent(store: MemoryStore, thread: str = "t") -> tuple[float, float]:
    """What is counted for the thread, and for today."""
    info = store.find(thread)
    assert info is not None
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return store.add(f"budget_thread.{info.key}", 0.0), store.add(f"budget_day.{day}", 0.0)


def is_cut_by(result: AgentResult, budget: str) -> bool:
    return (result.state, result.reason, exit_code(result), result.saved) == (RunState.DEGRADED, budget, 3, True)


@pytest.mark.parametrize("runs", [1, 2, 3])
@pytest.mark.parametrize(("name", "reason"), [("thread_usd", "budget_thread"), ("day_usd", "budget_day")])
def test_runs_until_the_budget_is_used_up(name: str, reason: str, runs: int) -> None:
    store = MemoryStore()
    model = Scripted(*[answer("a")] * 10, price=PRICE)
    results = [run(model, store, **{name: 20.0 * runs})[0] for _ in range(runs + 1)]

    assert [result.state for result in results] == [RunState.COMPLETED] * runs + [RunState.DEGRADED]
    assert is_cut_by(results[-1], reason)
    assert (len(model.requests), results[-1].steps, results[-1].total_cost_usd) == (runs, 0, 0)


def test_thread_budgets_are_separate_and_the_day_budget_is_shared() -> None:
    store = MemoryStore()
    model = Scripted(*[answer("a")] * 10, price=PRICE)
    assert run(model, store, "a", thread_usd=20, day_usd=40)[0].state is RunState.COMPLETED
    assert is_cut_by(run(model, store, "a", thread_usd=20, day_usd=40)[0], "budget_thread")
    assert run(model, store, "b", thread_usd=20, day_usd=40)[0].state is RunState.COMPLETED
    assert is_cut_by(run(model, store, "c", thread_usd=20, day_usd=40)[0], "budget_day")
    assert spent(store, "a") == (20, 40)
    assert spent(store, "b") == (20, 40)
    assert spent(store, "c") == (0, 40)


def test_an_answer_is_cut_while_it_streams_and_its_part_is_kept_and_counted() -> None:
    store = MemoryStore()
    result, events = run(Scripted(answer(*PIECES), price=PRICE), store, day_usd=13)  # an input of 1, pieces of 4
    assert is_cut_by(result, "budget_day")
    assert streamed(events) == "12345678" * 3
    assert result.final_text == "12345678" * 3
    assert spent(store) == (0, 13)


def test_a_long_answer_reserves_piece_by_piece_and_settles_by_usage() -> None:
    store = MemoryStore()
    seen: list[float] = []

    async def look() -> None:
        seen.append(spent(store)[1])

    long = TextDelta("x" * 4 * 1000)  # 2000 dollars
    run(Scripted([look, long, look, long, look, answer("")[-1]], price=PRICE), store, day_usd=10_000)

    before, middle, late = seen
    assert 1 < before < 1000, "something of the output is reserved before the call"
    assert before < 2001 <= middle < 3001
    assert 4001 <= late < 5001
    assert spent(store)[1] == pytest.approx(20), "the reported usage replaces the estimate"


def test_a_call_that_fails_gives_its_reservation_back() -> None:
    store = MemoryStore()
    busy = [ProviderError("busy", kind=ErrorKind.OVERLOADED, retry_after=0)]
    assert run(Scripted(busy, answer("a"), price=PRICE), store, day_usd=30)[0].state is RunState.COMPLETED
    assert spent(store)[1] == pytest.approx(20)


def test_a_cancelled_run_counts_the_streamed_text() -> None:
    store = MemoryStore()

    async def cancel() -> None:
        async with runner_of(
            Scripted([TextDelta("12345678"), asyncio.Event()], price=PRICE),
            store=store,
            wiring=Wiring(budgets=Budgets(day_usd=100)),
        ) as runner:
            handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
            async for event in handle:
                if event.type == "text_delta":
                    await handle.cancel()

    asyncio.run(cancel())
    assert spent(store)[1] == pytest.approx(5)


def test_a_free_model_runs_with_a_budget_of_zero() -> None:
    assert run(Scripted(answer("a"), price=FREE), MemoryStore(), day_usd=0)[0].state is RunState.COMPLETED
    assert is_cut_by(run(Scripted(answer("a"), price=PRICE), MemoryStore(), day_usd=0)[0], "budget_day")


def test_a_budget_refuses_an_unknown_price() -> None:
    with pytest.raises(UsageError, match="price of fake/small is unknown"):
        run(Scripted(answer("a")), MemoryStore(), thread_usd=1)


def test_a_day_budget_refuses_runs_without_a_kept_counter() -> None:
    with pytest.raises(UsageError, match="without memory"):
        run(Scripted(answer("a"), price=PRICE), MemoryStore(), day_usd=100, kept=False)
    assert run(Scripted(answer("a"), price=FREE), MemoryStore(), day_usd=100, kept=False)[0].steps == 1
    assert run(Scripted(answer("a"), price=PRICE), MemoryStore(), thread_usd=100, kept=False)[0].steps == 1


def test_a_counter_that_fails_ends_the_run_before_its_call() -> None:
    class Broken(MemoryStore):
        def add(self, counter: str, amount: float, limit: float | None = None) -> float:
            raise StoreError("the disk is full")

    model = Scripted(answer("a"), price=PRICE)
    result, _ = run(model, Broken(), day_usd=100)
    assert (result.state, exit_code(result), model.requests) == (RunState.FAILED, 1, [])
    assert result.error == "could not read the budgets: the disk is full"


def test_both_limits_and_budgets_count() -> None:
    store = MemoryStore()
    cut = agent(fail_safe=FailSafeConfig(max_total_cost_usd=9))
    wiring = Wiring(budgets=Budgets(day_usd=100))
    last = events_of(Scripted(answer(*PIECES), price=PRICE), cut, store=store, wiring=wiring)[-1]
    assert last.type == "completed"
    assert is_cut_by(last.result, "max_total_cost_usd")
    assert spent(store)[1] == pytest.approx(9)


def test_parallel_reservations_never_exceed_the_budget() -> None:
    """Many threads draw from one budget, each with a store thread of its own, as processes would."""
    store = MemoryStore()
    drawn: list[float] = []

    async def draw(calls: StoreWorker) -> None:
        book = Reservations(Budgets(thread_usd=5.0, day_usd=7.0), "key", lambda: store, calls)
        while True:
            reservation = book.open()
            try:
                await reservation.grow(0.07, at_least=0.03)
            except LimitReachedError:
                reservation.settle(0.0)
                return
            finally:
                await calls.call(lambda: None)
            reservation.settle(0.03)
            drawn.append(0.03)

    def work() -> None:
        calls = StoreWorker()
        asyncio.run(draw(calls))
        calls.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 4.9 < sum(drawn) <= 5.0 + 1e-9
    assert store.add("budget_thread.key", 0.0) == pytest.approx(sum(drawn))


def test_a_call_counts_for_the_day_on_which_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls = MemoryStore(), StoreWorker()
    book = Reservations(Budgets(day_usd=5.0), "key", lambda: store, calls)
    noon = time.gmtime(1_700_000_000)

    async def across_midnight() -> Reservation:
        monkeypatch.setattr(time, "gmtime", lambda *seconds: noon)
        reservation = book.open()
        monkeypatch.undo()
        await reservation.grow(2.0, at_least=1.0)
        reservation.settle(1.5)
        await calls.call(lambda: None)
        return reservation

    asyncio.run(across_midnight())
    calls.close()
    assert store.add("budget_day.2023-11-14", 0.0) == 1.5

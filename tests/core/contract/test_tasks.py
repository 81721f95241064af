"""Futures of other threads: their results arrive in the event loop, many of them by one call of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from afkcli.core.contract.tasks import Inbox, inbox, of_thread


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_comes_while_a_loop_is_being_woken_wakes_it_once() -> None:
    async def run() -> tuple[int, list[int]]:
        loop, got, wakes = asyncio.get_running_loop(), list[int](), list[object]()

        class Counting:
            def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
                wakes.append(call)
                loop.call_soon_threadsafe(call)

        counting: Any = Counting()
        box = Inbox(counting)
        in_thread(lambda: [box.put(lambda number=number: got.append(number)) for number in range(100)])
        await asyncio.sleep(0)
        in_thread(lambda: box.put(lambda: got.append(100)))
        await asyncio.sleep(0)
        return len(wakes), got

    assert asyncio.run(run()) == (2, list(range(101)))


def test_results_and_errors_of_a_thread_arrive() -> None:
    async def run() -> list[Any]:
        futures = [Future[int]() for _ in range(3)]
        arriving = [of_thread(future) for future in futures]

        def work() -> None:
            futures[0].set_result(7)
            futures[1].set_exception(ValueError("no"))
            futures[2].cancel()
            futures[2].set_running_or_notify_cancel()

        threading.Thread(target=work).start()
        return await asyncio.gather(*arriving, return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert first == 7
    assert isinstance(second, ValueError)
    assert isinstance(third, asyncio.CancelledError)


def test_a_future_that_has_ended_arrives_too() -> None:
    async def run() -> int:
        future = Future[int]()
        future.set_result(1)
        return await of_thread(future)

    assert asyncio.run(run()) == 1


def test_to_stop_waiting_does_not_cancel_the_work() -> None:
    async def run() -> Future[int]:
        future = Future[int]()
        waiting = of_thread(future)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        future.set_result(1)
        await asyncio.sleep(0.01)
        return future

    assert asyncio.run(run()).result() == 1


def test_what_comes_after_the_end_of_a_loop_is_no_error() -> None:
    future = Future[int]()

    async def run() -> None:
        of_thread(future)

    asyncio.run(run())
    in_thread(lambda: future.set_result(1))
    assert future.result() == 1


def test_an_inbox_does_not_keep_its_loop() -> None:
    async def run() -> weakref.ref[asyncio.AbstractEventLoop]:
        assert inbox() is inbox()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(run())
    gc.collect()
    assert loop() is None

"""One timer for many waits: each ends in time, and is told from a cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from afkcli.providers.deadline import Deadline


def test_a_wait_that_takes_longer_ends_and_the_next_one_begins_anew() -> None:
    async def run() -> None:
        deadline = Deadline()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await deadline.wait(asyncio.Event().wait(), 0.01)
            assert await deadline.wait(asyncio.sleep(0, "there"), 60) == "there"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(run())


def test_no_time_at_all_ends_a_wait_for_what_is_not_there() -> None:
    async def run() -> None:
        with pytest.raises(TimeoutError):
            await Deadline().wait(asyncio.Event().wait(), 0)

    asyncio.run(run())


def test_a_shorter_wait_after_a_longer_one_ends_in_its_own_time() -> None:
    async def run() -> None:
        deadline = Deadline()
        await deadline.wait(asyncio.sleep(0), 3600)
        with pytest.raises(TimeoutError):
            await deadline.wait(asyncio.Event().wait(), 0.01)

    asyncio.run(run())


def test_a_thousand_waits_set_one_timer() -> None:
    async def run() -> int:
        loop = asyncio.get_running_loop()
        made = 0
        real = loop.call_at

        def call_at(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal made
            made += 1
            return real(*arguments, **options)

        loop.call_at = call_at  # type: ignore[method-assign]
        deadline = Deadline()
        for _ in range(1000):
            await deadline.wait(asyncio.sleep(0), 3600)
        deadline.close()
        return made

    assert asyncio.run(run()) == 1


def test_a_wait_that_is_cancelled_is_cancelled_and_has_not_run_out_of_time() -> None:
    async def run() -> None:
        waiting = asyncio.ensure_future(Deadline().wait(asyncio.Event().wait(), 3600))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())


def test_time_that_passes_between_two_waits_does_not_count() -> None:
    async def run() -> str:
        deadline = Deadline()
        await deadline.wait(asyncio.sleep(0), 0.01)
        await asyncio.sleep(0.05)
        return await deadline.wait(asyncio.sleep(0.001, "there"), 60)

    assert asyncio.run(run()) == "there"

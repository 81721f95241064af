"""Opening a turn: a thread in use, and a run that is cancelled before it starts."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import ThreadBusyError
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.result import AgentResult
from afkcli.core.run.config import RunnerConfig, Wiring
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import (
    Scripted,
    agent,
    answer,
    forever,
    runner_of,
)


class TestBusy:
    def run_on_a_held_thread(self, config: RunnerConfig, notify: list[str]) -> tuple[AgentResult, Scripted]:
        async def run() -> tuple[AgentResult, Scripted]:
            reached = asyncio.Event()
            model = Scripted(answer("one"), forever(reached, "part"), answer("two"))
            async with runner_of(model, config=config, wiring=Wiring(notify=notify.append)) as runner:
                await runner.run(agent(), user_message="first", thread_id="t")
                async with await runner.run_stream(agent(), user_message="second", thread_id="t"):
                    await reached.wait()
                    return await runner.run(agent(), user_message="third", thread_id="t"), model

        return asyncio.run(run())

    def test_fail_and_timeout_name_the_holder(self) -> None:
        for config in (RunnerConfig(busy="fail"), RunnerConfig(busy_timeout_s=0)):
            with pytest.raises(ThreadBusyError, match="still in use"):
                self.run_on_a_held_thread(config, [])

    def test_fork_continues_with_the_sealed_turns(self) -> None:
        said: list[str] = []
        result, model = self.run_on_a_held_thread(RunnerConfig(busy="fork"), said)
        assert result.thread_id.startswith("t.")
        assert model.said() == [("user", "first"), ("assistant", "one"), ("user", "third")]
        assert "fork" in said[0]


def test_a_question_of_a_run_that_was_cancelled_while_it_opened_is_kept() -> None:
    store = MemoryStore()

    async def run() -> None:
        async with runner_of(Scripted(), store=store) as runner:
            opening = asyncio.ensure_future(runner.run(agent(), user_message="hi", thread_id="t"))
            while store.find("t") is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    asyncio.run(run())
    thread = store.find("t")
    if thread is not None:  # the cancellation may have come before the question was written
        assert (thread.open_turn, thread.last_state) == (None, "cancelled")
    assert store.holder("t") is None


def test_a_run_that_is_cancelled_while_the_store_is_busy_seals_its_question_before_its_lease_is_given_back() -> None:
    events: list[str] = []

    class Recording(MemoryStore):
        def append(self, thread: Any, *args: Any) -> None:
            events.append("question" if thread.open_turn else "seal")
            super().append(thread, *args)

        def release(self, lease: Any) -> None:
            events.append("release")
            super().release(lease)

    store, busy, release = Recording(), threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        release.wait()

    async def run() -> None:
        async with runner_of(Scripted(), store=store) as runner:

            def choose(thread: ThreadInfo) -> Agent:
                runner._calls.of("another thread").submit(wait)
                busy.wait()
                return agent()

            opening = asyncio.ensure_future(runner.start(choose, user_message="hi", thread_id="t"))
            while not (busy.is_set() and runner._calls._waiting):  # noqa: ASYNC110 - the question waits for its turn
                await asyncio.sleep(0)
            opening.cancel()
            for _ in range(10):  # the seal and the release are submitted
                await asyncio.sleep(0)
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await opening

    asyncio.run(run())
    thread = store.find("t")
    assert thread is not None
    assert thread.last_state == "cancelled"
    assert events == ["question", "seal", "release"]

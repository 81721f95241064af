"""Opening a turn: a thread in use, and a run that is cancelled before it starts."""

from __future__ import annotations

import asyncio

import pytest

from afkcli.core.contract.errors import (
    ThreadBusyError,
)
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

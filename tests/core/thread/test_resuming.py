"""Going on with a turn that was cut, through the Python API."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import StoreError, UnknownNameError, UsageError
from afkcli.core.contract.events import Event
from afkcli.core.contract.tools import Tool, tool
from afkcli.core.run.config import RunnerConfig
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import Scripted, agent, answer, call, calls, runner_of


def cut_tool(made: list[str], **options: Any) -> Tool:
    """Return a tool whose first call never ends."""

    @tool(name="work", **options)
    async def work(city: str = "") -> str:
        made.append(city)
        if len(made) == 1:
            await asyncio.sleep(60)
        return "done"

    return work


def resumed(
    work: Tool, *, decision: Literal["allow", "deny"] | None = None
) -> tuple[Scripted, list[Event], MemoryStore]:
    """Cancel a run in its only tool call, then resume it."""
    store, model, seen = MemoryStore(), Scripted(calls(call("work", "c1")), answer("ok"), answer("more")), []

    async def run() -> None:
        config = RunnerConfig(interaction_mode="external" if decision else "headless")
        async with runner_of(model, store=store, config=config) as runner:
            handle = await runner.run_stream(with_work(work), user_message="hi", thread_id="t")
            async for event in handle:
                if event.type == "tool_started":
                    await asyncio.sleep(0.05)
                    await handle.cancel()
            handle = await runner.resume_stream(with_work(work), thread_id="t")
            async for event in handle:
                seen.append(event)
                if event.type == "approval_requested":
                    assert decision is not None
                    handle.decide(event.approval_id, decision)
            await runner.run(agent(), user_message="next", thread_id="t")

    asyncio.run(run())
    return model, seen, store


def with_work(work: Tool) -> Agent:
    return agent(tools=[work])


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events if event.type.startswith(("tool_c", "tool_s", "approval", "warning"))]


def test_a_call_that_did_not_finish_is_not_made_again() -> None:
    made: list[str] = []
    model, events, _ = resumed(cut_tool(made))

    assert len(made) == 1
    assert types(events) == ["warning"]
    assert [role for role, _ in model.said(1)] == ["system", "user", "assistant", "tool"]
    assert "did not finish" in model.said(1)[3][1]


def test_an_idempotent_one_is() -> None:
    made: list[str] = []
    model, events, _ = resumed(cut_tool(made, idempotent=True))

    assert len(made) == 2
    assert types(events) == ["tool_started", "tool_completed"]
    assert model.said(1)[3] == ("tool", "done")
    assert [role for role, _ in model.said(2)] == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize(("decision", "times"), [("allow", 2), ("deny", 1)])
def test_the_caller_decides_where_there_is_one(decision: Literal["allow", "deny"], times: int) -> None:
    made: list[str] = []
    model, events, _ = resumed(cut_tool(made), decision=decision)

    assert len(made) == times
    assert types(events) == ["tool_started", "approval_requested", "approval_resolved", "tool_completed"]
    assert ("not approved" in model.said(1)[3][1]) == (decision == "deny")


def test_there_has_to_be_a_turn_that_was_cut() -> None:
    async def run() -> None:
        store = MemoryStore()
        async with runner_of(Scripted(answer("ok")), store=store) as runner:
            with pytest.raises(UnknownNameError):
                await runner.resume(agent(), thread_id="t")
            await runner.run(agent(), user_message="hi", thread_id="t")
            with pytest.raises(UsageError, match="nothing to resume"):
                await runner.resume(agent(), thread_id="t")
            assert store.holder("t") is None

    asyncio.run(run())


def test_a_store_that_cannot_be_read_is_named() -> None:
    class Broken(MemoryStore):
        def load(self, *arguments: Any, **options: Any) -> Any:
            raise StoreError("the disk is gone")

    async def run() -> None:
        store = Broken()
        async with runner_of(Scripted(answer("ok")), store=store) as runner:
            await runner.run(agent(), user_message="hi", thread_id="t")
            with pytest.raises((StoreError, UnknownNameError)):
                await runner.resume(agent(), thread_id="t")

    asyncio.run(run())

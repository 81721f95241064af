"""The tool calls of a step: failures, parallel calls and approvals by the caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest

from afkcli.core.contract.events import ApprovalRequested, Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import Role, ToolResultPart
from afkcli.core.contract.tools import ToolError, tool
from afkcli.core.run.config import RunnerConfig
from tests.core.scripted import (
    Scripted,
    agent,
    answer,
    call,
    calls,
    completed,
    events_of,
    run_tool,
    runner_of,
)


def _raises(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _raises_async(error: BaseException) -> Callable[[], Any]:
    async def fail() -> None:
        raise error

    return fail


class TestFailures:
    @pytest.mark.parametrize("make", [_raises, _raises_async])
    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ToolError("no such file"), "no such file"),
            (ToolError(), "the tool failed"),
            (ValueError("odd"), "ValueError: odd"),
            (TimeoutError("idle"), "TimeoutError: idle"),
            (StopIteration(), "StopIteration"),
            (SystemExit(3), "SystemExit: 3"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (asyncio.CancelledError(), "the tool cancelled itself"),
        ],
    )
    def test_are_reported_to_the_model_and_the_run_continues(self, make: Any, error: BaseException, said: str) -> None:
        if make is _raises and isinstance(error, asyncio.CancelledError):
            said = "CancelledError"
        reported = run_tool(make(error))
        assert not reported.tool_success
        assert said in (reported.tool_error or "")

    @pytest.mark.parametrize("kind", ["async", "plain", "stubborn"])
    def test_a_tool_that_takes_too_long_is_abandoned(self, kind: str) -> None:
        release = threading.Event()

        @tool(timeout_s=0.01)
        def plain() -> None:
            release.wait()

        @tool(name="plain", timeout_s=0.01)
        async def waits() -> None:
            await asyncio.Event().wait()

        @tool(name="plain", timeout_s=0.01)
        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            finally:  # it continues after the cancellation, until the event loop closes
                await asyncio.Event().wait()

        reported = run_tool({"async": waits, "plain": plain, "stubborn": stubborn}[kind])
        release.set()
        left_behind = kind != "async"
        assert reported.abandoned == left_behind
        left = "; it could not be stopped and may still be running" if left_behind else ""
        assert reported.tool_error == f"the tool took longer than 0.01 s{left}"


class TestParallel:
    @pytest.mark.parametrize("limit", [1, 2, 6, 10])
    def test_calls_of_one_step_run_at_once_up_to_the_limit(self, limit: int) -> None:
        running: list[int] = [0, 0]

        @tool
        async def work() -> None:
            running[0] += 1
            running[1] = max(running)
            for _ in range(20):
                await asyncio.sleep(0)
            running[0] -= 1

        model = Scripted(calls(*(call("work", f"c{number}") for number in range(6))), answer("ok"))
        events_of(model, agent(tools=[work], fail_safe=FailSafeConfig(max_parallel_tools=limit)))
        assert running[1] == min(limit, 6)

    def test_each_is_reported_when_it_ends_and_answered_in_the_order_of_the_calls(self) -> None:
        release = asyncio.Event()

        @tool
        async def work(first: bool) -> str:
            if first:
                await release.wait()
            else:
                release.set()
            return "first" if first else "second"

        model = Scripted(calls(call("work", "c1", first=True), call("work", "c2", first=False)), answer("ok"))
        events = events_of(model, agent(tools=[work]))
        assert [event.tool_call_id for event in completed(events)] == ["c2", "c1"]
        assert model.said()[3] == ("tool", "first|second")

    def test_calls_that_share_an_id_each_keep_their_result(self) -> None:
        @tool
        def echo(text: str) -> str:
            return text

        model = Scripted(calls(call("echo", "", text="a"), call("echo", "", text="b")), answer("ok"))
        events_of(model, agent(tools=[echo]))
        results = [part for part in model.requests[1].messages[-1].parts if isinstance(part, ToolResultPart)]
        assert model.requests[1].messages[-1].role is Role.TOOL
        assert sorted(result.parts[0].text for result in results if hasattr(result.parts[0], "text")) == ["a", "b"]


class TestApprovals:
    def ask(self, decide: str, mode: Literal["headless", "external"] = "external") -> tuple[list[Event], list[str]]:
        ran: list[str] = []

        @tool(approval="ask")
        def delete(path: str) -> str:
            ran.append(path)
            return "gone"

        async def run() -> list[Event]:
            model = Scripted(calls(call("delete", path="/x")), answer("ok"))
            async with runner_of(model, config=RunnerConfig(interaction_mode=mode)) as runner:
                handle = await runner.run_stream(agent(tools=[delete]), user_message="hi", thread_id="t")
                handle.decide("early", "allow")
                events: list[Event] = []
                async for event in handle:
                    events.append(event)
                    if isinstance(event, ApprovalRequested) and mode == "external":
                        handle.decide("wrong", "allow")
                        handle.decide(event.approval_id, decide)  # type: ignore[arg-type]
                        handle.decide(event.approval_id, "allow")
                return events

        return asyncio.run(run()), ran

    def test_the_caller_allows(self) -> None:
        events, ran = self.ask("allow")
        assert ran == ["/x"]
        assert [event.decision for event in events if event.type == "approval_resolved"] == ["allow"]
        assert events[-1].type == "completed"
        assert events[-1].result.denied == 0

    def test_the_caller_denies_and_a_second_decision_does_not_count(self) -> None:
        events, ran = self.ask("deny")
        assert ran == []
        assert completed(events)[0].tool_error == "denied: this call was not approved"
        assert events[-1].type == "completed"
        assert events[-1].result.denied == 1

    def test_unknown_ids_are_ignored_with_a_warning(self) -> None:
        events, _ = self.ask("deny")
        warned = [event.message for event in events if event.type == "warning"]
        assert len(warned) == 3
        assert "'early'" in warned[0]
        assert "'wrong'" in warned[1]

    def test_headless_denies(self) -> None:
        events, ran = self.ask("", "headless")
        assert ran == []
        assert [event.by for event in events if event.type == "approval_resolved"] == ["headless"]

    def test_ids_are_random(self) -> None:
        ids = {
            event.approval_id for _ in range(3) for event in self.ask("deny")[0] if event.type == "approval_requested"
        }
        assert len(ids) == 3
        assert min(map(len, ids)) >= 20

"""The handle: a slow reader slows the run, pausing holds it, cancelling ends it at any moment, its turn sealed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import ErrorKind, PluginError, ProviderError, UsageError
from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import TextDelta
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.tools import tool
from afkcli.core.run.handle import MAX_BUFFERED_EVENTS, RunHandle
from afkcli.core.run.runner import Runner
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import (
    Script,
    Scripted,
    agent,
    answer,
    call,
    calls,
    collect,
    forever,
    runner_of,
    streamed,
    types,
)

Use = Callable[[Runner, RunHandle], Awaitable[Any]]


def with_run(use: Use, *scripts: Script, chosen: Agent | None = None, store: MemoryStore | None = None) -> Any:
    """Start a run, hand it to `use`, and return what that returns."""

    async def run() -> Any:
        async with runner_of(Scripted(*scripts), store=store or MemoryStore()) as runner:
            handle = await runner.run_stream(chosen or agent(), user_message="hi", thread_id="t")
            return await use(runner, handle)

    return asyncio.run(run())


def states(store: MemoryStore) -> list[RunState]:
    """The states of the sealed turns of the thread `t`, which no run may hold."""
    thread = store.find("t")
    assert thread is not None
    assert thread.open_turn is None
    assert store.holder("t") is None
    return [turn.state for turn in load_history(store, thread).turns]


class TestReading:
    def test_the_result_is_available_only_after_the_last_event(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            with pytest.raises(UsageError, match="not ended"):
                _ = handle.result
            await collect(handle)
            assert handle.done
            assert handle.result.final_text == "ab"
            assert await handle.wait() == handle.result
            assert handle.exception is None

        with_run(use, answer("a", "b"))

    def test_a_slow_reader_slows_the_run_and_loses_no_event(self) -> None:
        produced = 0

        async def one() -> None:
            nonlocal produced
            produced += 1

        async def use(runner: Runner, handle: RunHandle) -> None:
            while produced < MAX_BUFFERED_EVENTS - 5:  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert produced <= MAX_BUFFERED_EVENTS
            events = await collect(handle)
            assert streamed(events) == "".join(f"{number} " for number in range(500)) + "end"
            assert [event.seq for event in events] == list(range(len(events)))

        deltas = (item for number in range(500) for item in (TextDelta(f"{number} "), one))
        with_run(use, [*deltas, *answer("end")])

    def test_a_run_that_is_not_read_to_its_end_is_sealed(self) -> None:
        store = MemoryStore()

        async def use(runner: Runner, handle: RunHandle) -> None:
            while not handle.done:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert states(store) == ["failed"]
            assert types(await collect(handle))[-2:] == ["error", "completed"]

        deltas = [TextDelta("x")] * (MAX_BUFFERED_EVENTS - 3)
        with_run(use, [*deltas, ProviderError("cut", kind=ErrorKind.TRUNCATED)], store=store)

    def test_two_readers_share_the_events(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            first, second = await asyncio.gather(collect(handle), collect(handle))
            assert sorted(event.seq for event in [*first, *second]) == list(range(len(first) + len(second)))

        with_run(use, answer("a", "b", "c"))

    def test_the_error_behind_a_failed_run_is_kept_for_a_traceback(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            await handle.wait()
            assert isinstance(handle.exception, PluginError)
            assert isinstance(handle.exception.__cause__, ZeroDivisionError)

        with_run(use, [ZeroDivisionError("odd")])


class TestPausing:
    def test_stops_the_run_until_it_is_resumed(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            while (await anext(handle)).type != "text_delta":
                continue
            handle.pause()
            assert (await anext(handle)).type == "text_delta"  # the one that it is held at
            waiting = asyncio.ensure_future(anext(handle))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
            handle.resume()
            assert (await waiting).type == "text_delta"
            assert (await handle.wait()).final_text == "abc"

        async def breathe() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        with_run(use, [item for delta in answer("a", "b", "c") for item in (breathe, delta)])

    def test_a_paused_run_can_be_cancelled(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            handle.pause()
            assert (await handle.cancel()).state is RunState.CANCELLED

        with_run(use, [asyncio.Event()])

    def test_a_paused_run_still_has_its_time_limit(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            handle.pause()
            while not handle.done:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert handle.result.reason == "max_wall_time_s"

        with_run(use, [asyncio.Event()], chosen=agent(fail_safe=FailSafeConfig(max_wall_time_s=0.01)))


class TestCancelling:
    def check(self, use: Use, *scripts: Script, chosen: Agent | None = None) -> None:
        """The run is cancelled by `use`; its turn is sealed as such and the thread is free."""
        store = MemoryStore()

        async def cancelled(runner: Runner, handle: RunHandle) -> list[Event]:
            await use(runner, handle)
            events = await collect(handle)
            assert handle.result.state is RunState.CANCELLED
            assert handle.result.saved
            assert handle.exception is None
            return events

        events = with_run(cancelled, *scripts, chosen=chosen, store=store)
        assert types(events)[-1] == "completed"
        assert types(events).count("completed") == 1
        assert "error" not in types(events)
        assert states(store) == ["cancelled"]

    def test_before_the_first_event_was_read(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            await handle.cancel()
            event = await anext(handle)
            assert (event.type, event.seq) == ("run_started", 0)

        self.check(use, [asyncio.Event()])

    def test_while_it_streams_keeps_the_partial_answer(self) -> None:
        reached = asyncio.Event()

        async def use(runner: Runner, handle: RunHandle) -> None:
            await reached.wait()
            result = await handle.cancel()
            assert result.final_text == "part of"
            assert runner._resources.providers["fake"].closed == 1  # type: ignore[attr-defined]

        self.check(use, forever(reached, "part ", "of"))

    def test_twice_concurrently_from_other_tasks_and_after_the_end(self) -> None:
        reached = asyncio.Event()

        async def use(runner: Runner, handle: RunHandle) -> None:
            await reached.wait()
            results = await asyncio.gather(*(handle.cancel() for _ in range(5)))
            assert len({id(result) for result in results}) == 1
            assert await handle.cancel() is results[0]

        self.check(use, forever(reached, "a"))

    def test_while_it_waits_for_a_retry(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> None:
            async for event in handle:
                if event.type == "retrying":
                    break
            await handle.cancel()

        self.check(use, [ProviderError("slow", kind=ErrorKind.RATE_LIMIT, retry_after=100)])

    def test_during_tools_reports_each_that_was_started(self) -> None:
        reached = asyncio.Event()

        @tool
        async def slow() -> None:
            reached.set()
            await asyncio.Event().wait()

        seen: list[Event] = []

        async def use(runner: Runner, handle: RunHandle) -> None:
            await reached.wait()
            await handle.cancel()
            seen.extend(await collect(handle))

        store = MemoryStore()
        model = Scripted(calls(call("slow", "c1"), call("slow", "c2")), answer("ok"))

        async def run() -> None:
            async with runner_of(model, store=store) as runner:
                parallel = agent(tools=[slow], fail_safe=FailSafeConfig(max_parallel_tools=1))
                handle = await runner.run_stream(parallel, user_message="hi", thread_id="t")
                await use(runner, handle)
                await runner.run(agent(), user_message="again", thread_id="t")

        asyncio.run(run())
        done = [event for event in seen if event.type == "tool_completed"]
        assert [(event.tool_call_id, event.tool_error) for event in done] == [("c1", "cancelled")]
        assert types(seen)[-1] == "completed"
        assert states(store) == ["cancelled", "completed"]
        unfinished = "The tool did not finish: the turn was cut off."
        assert model.said()[2] == ("tool", f"{unfinished}|{unfinished}")

    def test_a_provider_that_ignores_it_is_abandoned(self) -> None:
        reached, end = asyncio.Event(), asyncio.Event()

        async def stubborn() -> None:
            reached.set()
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    continue

        async def use(runner: Runner, handle: RunHandle) -> None:
            await reached.wait()
            result = await handle.cancel()
            end.set()
            for _ in range(10):
                await asyncio.sleep(0)  # its further output has no reader
            assert result.final_text == "a"

        self.check(use, [TextDelta("a"), stubborn, *answer("b")])

    def test_a_tool_that_ignores_it_is_abandoned(self) -> None:
        reached, end = asyncio.Event(), asyncio.Event()

        @tool
        async def stubborn() -> None:
            reached.set()
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    continue

        async def use(runner: Runner, handle: RunHandle) -> None:
            await reached.wait()
            await handle.cancel()
            end.set()

        self.check(use, calls(call("stubborn")), chosen=agent(tools=[stubborn]))

    def test_an_error_while_the_request_is_closed_is_not_a_failure(self) -> None:
        reached = asyncio.Event()

        async def fails() -> None:
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                raise ProviderError("closed badly", kind=ErrorKind.NETWORK)

        async def use(runner: Runner, handle: RunHandle) -> None:
            await reached.wait()
            await handle.cancel()

        self.check(use, [TextDelta("a"), fails])

    def test_of_a_run_that_has_ended_changes_nothing(self) -> None:
        async def use(runner: Runner, handle: RunHandle) -> AgentResult:
            await handle.wait()
            return await handle.cancel()

        assert with_run(use, answer("a")).state is RunState.COMPLETED

    def test_during_the_seal_changes_nothing(self) -> None:
        class SlowStore(MemoryStore):
            handle: RunHandle | None = None
            loop: asyncio.AbstractEventLoop

            def append(self, thread: ThreadInfo, records: Any, *rest: Any) -> None:
                if any(record.kind == "seal" for record in records) and self.handle is not None:
                    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result()
                    self.loop.call_soon_threadsafe(self.handle._stop)
                super().append(thread, records, *rest)

        store = SlowStore()

        async def use(runner: Runner, handle: RunHandle) -> AgentResult:
            store.loop, store.handle = asyncio.get_running_loop(), handle
            return await handle.wait()

        assert with_run(use, answer("a"), store=store).state is RunState.COMPLETED
        assert states(store) == ["completed"]


class TestLeaving:
    def test_the_block_cancels_the_run(self) -> None:
        store, reached = MemoryStore(), asyncio.Event()

        async def use(runner: Runner, handle: RunHandle) -> None:
            async with handle:
                await reached.wait()
            assert handle.result.state is RunState.CANCELLED

        with_run(use, forever(reached, "a"), store=store)
        assert states(store) == ["cancelled"]

    def test_the_block_by_an_error_cancels_the_run_and_raises_the_error(self) -> None:
        store, reached = MemoryStore(), asyncio.Event()

        async def use(runner: Runner, handle: RunHandle) -> None:
            with pytest.raises(ZeroDivisionError):
                async with handle:
                    await reached.wait()
                    raise ZeroDivisionError

        with_run(use, forever(reached, "a"), store=store)
        assert states(store) == ["cancelled"]

    def test_a_handle_that_is_dropped_cancels_its_run(self) -> None:
        store, reached = MemoryStore(), asyncio.Event()

        async def run() -> None:
            async with runner_of(Scripted(forever(reached, "a")), store=store) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                await reached.wait()
                del handle
                gc.collect()
                while runner._runs:  # noqa: ASYNC110
                    await asyncio.sleep(0)

        asyncio.run(run())
        assert states(store) == ["cancelled"]

    def test_a_run_whose_task_is_cancelled_is_sealed_first(self) -> None:
        store, reached = MemoryStore(), asyncio.Event()

        async def run() -> None:
            async with runner_of(Scripted(forever(reached, "a")), store=store) as runner:
                running = asyncio.ensure_future(runner.run(agent(), user_message="hi", thread_id="t"))
                await reached.wait()
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
                assert states(store) == ["cancelled"]

        asyncio.run(run())

    @pytest.mark.parametrize("started", [True, False])
    def test_an_event_loop_that_closes_seals_its_runs(self, started: bool) -> None:
        store, reached, sink = MemoryStore(), asyncio.Event(), ListSink()
        runner = runner_of(Scripted(forever(reached, "a")), store=store, sinks=[sink])
        kept: list[RunHandle] = []

        async def run() -> None:
            kept.append(await runner.run_stream(agent(), user_message="hi", thread_id="t"))
            if started:
                await reached.wait()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(run())
        runner.close()
        assert states(store) == ["cancelled"]
        assert types(sink.events)[0] == "run_started"
        assert types(sink.events)[-1] == "completed"

    def test_two_event_loops_one_after_another_share_a_runner(self) -> None:
        store = MemoryStore()
        model = Scripted(answer("one"), answer("two"))
        runner = runner_of(model, store=store)
        for text in ("first", "second"):
            assert runner.run_sync(agent(), user_message=text, thread_id="t").saved
        runner.close()
        assert model.said() == [("user", "first"), ("assistant", "one"), ("user", "second")]


class ListSink:
    name = "list"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None: ...

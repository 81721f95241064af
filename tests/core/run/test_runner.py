"""A run from the message to `completed`: the order of its events, what is remembered, how each failure ends."""

from __future__ import annotations

import asyncio

import pytest

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import (
    ErrorKind,
    UnknownNameError,
    UsageError,
)
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import (
    ModelWarning,
    ReasoningDelta,
    TextDelta,
)
from afkcli.core.contract.protocols import Price, ThreadInfo
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.run.runner import Runner
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import (
    Scripted,
    add,
    agent,
    answer,
    call,
    calls,
    events_of,
    failure,
    one_turn,
    response,
    result_of,
    runner_of,
    types,
)


class TestEvents:
    def test_come_in_the_documented_order(self) -> None:
        model = Scripted(
            [ReasoningDelta("hm"), *calls(call("add", a=1, b=2), text="wait")],
            answer("thr", "ee"),
        )
        events = events_of(model, agent(tools=[add]))
        assert types(events) == [
            "run_started",
            "step_started",
            "reasoning_delta",
            "text_delta",
            "step_completed",
            "tool_started",
            "tool_completed",
            "step_started",
            "text_delta",
            "text_delta",
            "step_completed",
            "completed",
        ]
        assert [event.seq for event in events] == list(range(len(events)))
        assert [event.step for event in events] == [0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
        assert len({(event.run_id, event.thread_id, event.thread_key, event.turn) for event in events}) == 1
        assert (events[0].thread_id, events[0].turn) == ("t", 1)
        assert [event.ts for event in events] == sorted(event.ts for event in events)

    def test_an_earlier_warning_comes_after_run_started(self) -> None:
        limited = agent(fail_safe=FailSafeConfig(max_total_cost_usd=1))
        events = events_of(Scripted(answer("a")), limited)
        assert types(events)[:3] == ["run_started", "warning", "step_started"]
        assert [event.seq for event in events] == list(range(len(events)))

    def test_an_error_comes_once_and_completed_last(self) -> None:
        events = events_of(Scripted([failure(ErrorKind.AUTH)]))
        assert types(events) == ["run_started", "step_started", "error", "completed"]

    def test_completed_comes_after_the_seal(self) -> None:
        store, states = MemoryStore(), []

        async def run() -> None:
            async with runner_of(Scripted(answer("a")), store=store) as runner:
                async for event in await runner.run_stream(agent(), user_message="hi", thread_id="t"):
                    thread = store.find("t")
                    states.append((event.type, thread is not None and thread.open_turn is None))

        asyncio.run(run())
        assert [sealed for type_, sealed in states if type_ == "completed"] == [True]

    def test_empty_deltas_are_not_emitted(self) -> None:
        events = events_of(Scripted([ReasoningDelta(""), TextDelta(""), *answer("a")]))
        assert types(events) == ["run_started", "step_started", "text_delta", "step_completed", "completed"]

    def test_warnings_of_the_provider_are_events(self) -> None:
        events = events_of(Scripted([ModelWarning("odd", "an odd thing"), *answer("a")]))
        assert [(event.code, event.message) for event in events if event.type == "warning"] == [("odd", "an odd thing")]

    def test_lone_surrogates_never_leave_the_run(self) -> None:
        events = events_of(Scripted([TextDelta("a\ud800"), response("a\ud800")]))
        assert [event.text_delta for event in events if event.type == "text_delta"] == ["a\ufffd"]
        assert result_of(events).final_text == "a\ufffd"


class TestMemory:
    def test_the_next_turn_sends_the_turns_before_it(self) -> None:
        model = Scripted(answer("one"), answer("two"), answer("three"))

        async def run() -> None:
            async with runner_of(model) as runner:
                for text in ("first", "second", "third"):
                    await runner.run(agent(instructions="Be brief."), user_message=text, thread_id="t")

        asyncio.run(run())
        assert model.said() == [
            ("system", "Be brief."),
            ("user", "first"),
            ("assistant", "one"),
            ("user", "second"),
            ("assistant", "two"),
            ("user", "third"),
        ]

    def test_a_run_without_a_thread_names_one_by_its_id(self) -> None:
        async def run() -> tuple[AgentResult, ThreadInfo | None]:
            store = MemoryStore()
            async with runner_of(Scripted(answer("a")), store=store) as runner:
                result = await runner.run(agent(), user_message="hi")
                return result, store.find(result.thread_id)

        result, thread = asyncio.run(run())
        assert result.thread_id == result.run_id
        assert thread is not None
        assert (thread.turns, thread.last_state, thread.agent, thread.model) == (1, "completed", "tester", "fake/small")

    def test_the_question_is_durable_before_the_provider_is_asked(self) -> None:
        store, seen = MemoryStore(), []

        async def look() -> None:
            thread = store.find("t")
            assert thread is not None
            seen.append(thread.open_turn is not None)

        events_of(Scripted([look, *answer("a")]), store=store)
        assert seen == [True]

    def test_tool_calls_are_sent_back_in_pairs(self) -> None:
        model = Scripted(calls(call("add", a=1, b=2)), answer("3"), answer("ok"))

        async def run() -> None:
            async with runner_of(model) as runner:
                await runner.run(agent(tools=[add]), user_message="1+2?", thread_id="t")
                await runner.run(agent(), user_message="sure?", thread_id="t")

        asyncio.run(run())
        assert model.said() == [
            ("user", "1+2?"),
            ("assistant", ""),
            ("tool", "3"),
            ("assistant", "3"),
            ("user", "sure?"),
        ]

    def test_many_runs_on_one_thread_take_turns_and_lose_nothing(self) -> None:
        model = Scripted(*([answer("a")] * 12))

        async def run() -> list[AgentResult]:
            async with runner_of(model) as one:
                two = Runner(providers={"fake": model}, store=one.store())
                runs = (
                    runner.run(agent(), user_message=f"m{number}", thread_id="t")
                    for number in range(6)
                    for runner in (one, two)
                )
                return await asyncio.gather(*runs)

        results = asyncio.run(run())
        assert all(result.saved and result.state is RunState.COMPLETED for result in results)
        lengths = [len(request.messages) for request in model.requests]
        assert lengths == [2 * number + 1 for number in range(12)]

    def test_runs_on_other_threads_run_at_the_same_time(self) -> None:
        async def run() -> list[RunState]:
            first, second = asyncio.Event(), asyncio.Event()

            async def wait_for_each_other() -> None:
                mine, other = (second, first) if first.is_set() else (first, second)
                mine.set()
                await other.wait()

            script = [wait_for_each_other, *answer("a")]
            async with runner_of(Scripted(script, script)) as runner:
                runs = (runner.run(agent(), user_message="hi", thread_id=name) for name in "ab")
                return [result.state for result in await asyncio.gather(*runs)]

        assert asyncio.run(run()) == ["completed", "completed"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("chosen", "message", "thread", "said"),
        [
            (agent(), " \n", "t", "message is empty"),
            (agent(), "hi", "", "name is empty"),
            (agent(), "hi", "-t", "starts with '-'"),
            (agent(model=None), "hi", "t", "has no model"),
            (agent(model="small"), "hi", "t", "has no provider"),
            (agent(model="nope/x"), "hi", "t", "no provider 'nope'"),
            (agent(tools=[add, add]), "hi", "t", "two tools"),
            (agent(fail_safe=FailSafeConfig(max_total_cost_usd=1, on_unknown_price="refuse")), "hi", "t", "unknown"),
        ],
    )
    def test_leave_nothing_behind(self, chosen: Agent, message: str, thread: str, said: str) -> None:
        store = MemoryStore()

        async def run() -> None:
            async with runner_of(Scripted(), store=store) as runner:
                await runner.run(chosen, user_message=message, thread_id=thread)

        with pytest.raises(UsageError, match=said):
            asyncio.run(run())
        assert store.list() == []
        assert store.holder(thread) is None

    def test_a_tool_without_a_schema_is_refused_before_the_run(self) -> None:
        def broken(x: Nope) -> None:  # type: ignore[name-defined]  # noqa: F821
            ...

        with pytest.raises(UsageError, match="broken"):
            one_turn(Scripted(), agent(tools=[broken]))

    def test_a_fallback_of_unknown_price_is_refused_as_the_first_model_is(self) -> None:
        fail_safe = FailSafeConfig(max_total_cost_usd=1, on_unknown_price="refuse", fallback_models=("other/x",))
        priced = Scripted(price=Price(input=1, output=1))

        async def run() -> None:
            async with runner_of(priced, Scripted(name="other")) as runner:
                await runner.run(agent(fail_safe=fail_safe), user_message="hi")

        with pytest.raises(UsageError, match="other/x"):
            asyncio.run(run())

    def test_run_sync_inside_a_loop_says_what_to_do(self) -> None:
        async def run() -> None:
            runner_of(Scripted()).run_sync(agent(), user_message="hi")

        with pytest.raises(UsageError, match="inside an event loop"):
            asyncio.run(run())

    def test_a_thread_that_must_exist(self) -> None:
        async def run() -> None:
            async with runner_of(Scripted()) as runner:
                await runner.start(lambda thread: agent(), user_message="hi", thread_id="nope", create=False)

        with pytest.raises(UnknownNameError):
            asyncio.run(run())

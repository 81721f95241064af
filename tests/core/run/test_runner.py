"""A run from the message to `completed`: the order of its events, what is remembered, how each failure ends."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import (
    ConfigError,
    ErrorKind,
    HeadMismatchError,
    LeaseLostError,
    ProviderError,
    StoreError,
    ThreadBusyError,
    UnknownNameError,
    UsageError,
)
from afkcli.core.contract.events import Completed, Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import (
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelWarning,
    ReasoningDelta,
    TextDelta,
)
from afkcli.core.contract.protocols import Capabilities, Lease, Owner, Price, ThreadInfo
from afkcli.core.contract.result import AgentResult, RunState, Usage, exit_code
from afkcli.core.contract.tools import tool
from afkcli.core.run.config import RunnerConfig, Wiring, unknown_owner
from afkcli.core.run.retries import retry_delay
from afkcli.core.run.runner import Runner
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.operations import seal_interrupted
from afkcli.core.thread.turns import SealedTurn
from tests.core.scripted import (
    Scripted,
    agent,
    answer,
    call,
    calls,
    collect,
    events_of,
    forever,
    response,
    runner_of,
    types,
)


def failure(kind: ErrorKind, **fields: Any) -> ProviderError:
    return ProviderError(f"it failed ({kind})", kind=kind, **fields)


def result_of(events: list[Event]) -> AgentResult:
    last = events[-1]
    assert isinstance(last, Completed)
    return last.result


def one_turn(provider: Scripted, chosen: Agent | None = None, **options: Any) -> AgentResult:
    return result_of(events_of(provider, chosen, **options))


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


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


QUESTION = [("user", "hi")]
LEFT_OUT: list[tuple[str, str]] = []


def cut(text: str) -> list[tuple[str, str]]:
    return [*QUESTION, ("assistant", f"{text}[This answer was cut off here: ...]")]


def without_reasons(said: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(role, re.sub(r"(cut off here: ).*\]$", r"\1...]", text)) for role, text in said]


class TestTableOfStates:
    """What happened -> state, exit code and what the next turn sends, as design.md has it."""

    @pytest.mark.parametrize(
        ("script", "state", "code", "sent"),
        [
            (answer("a"), "completed", 0, [("user", "hi"), ("assistant", "a")]),
            (answer("a", finish=FinishReason.LENGTH), "degraded", 3, cut("a")),
            ([failure(ErrorKind.AUTH)], "failed", 4, QUESTION),
            ([failure(ErrorKind.NOT_FOUND)], "failed", 4, QUESTION),
            ([failure(ErrorKind.RATE_LIMIT)], "failed", 4, QUESTION),
            ([failure(ErrorKind.OVERLOADED)], "failed", 4, QUESTION),
            ([failure(ErrorKind.NETWORK)], "failed", 4, QUESTION),
            ([failure(ErrorKind.TIMEOUT)], "failed", 4, QUESTION),
            ([failure(ErrorKind.BAD_REQUEST)], "failed", 4, LEFT_OUT),
            ([failure(ErrorKind.CONTEXT_LENGTH)], "failed", 4, LEFT_OUT),
            ([failure(ErrorKind.CONTENT_FILTER)], "failed", 4, LEFT_OUT),
            (answer("a", finish=FinishReason.CONTENT_FILTER), "failed", 4, LEFT_OUT),
            ([TextDelta("a"), failure(ErrorKind.TRUNCATED)], "failed", 4, cut("a")),
            ([TextDelta("a"), failure(ErrorKind.NETWORK)], "failed", 4, cut("a")),
            ([TextDelta("a"), failure(ErrorKind.TIMEOUT)], "failed", 4, cut("a")),
            ([TextDelta("a")], "failed", 4, cut("a")),
            ([], "failed", 4, cut("")),
            ([ValueError("a bug")], "failed", 1, QUESTION),
            ([TextDelta("a"), ValueError("a bug")], "failed", 1, QUESTION),
        ],
    )
    def test_row(self, script: Any, state: str, code: int, sent: list[tuple[str, str]]) -> None:
        model = Scripted(script, answer("ok"))

        async def run() -> tuple[AgentResult, list[Event]]:
            async with runner_of(model, config=RunnerConfig(max_retries=0)) as runner:
                first = await runner.run(agent(), user_message="hi", thread_id="t")
                again = await runner.run_stream(agent(), user_message="again", thread_id="t")
                return first, await collect(again)

        result, events = asyncio.run(run())
        assert (result.state, exit_code(result), result.saved) == (state, code, True)
        assert without_reasons(model.said()) == [*sent, ("user", "again")]
        warned = [event.code for event in events if event.type == "warning"]
        assert warned == (["question_left_out"] if sent == [] else [])
        assert result_of(events).state is RunState.COMPLETED

    def test_a_failure_after_tool_calls_still_sends_them(self) -> None:
        model = Scripted(calls(call("add", a=1, b=2)), [failure(ErrorKind.AUTH)], answer("ok"))

        async def run() -> None:
            async with runner_of(model) as runner:
                await runner.run(agent(tools=[add]), user_message="hi", thread_id="t")
                await runner.run(agent(), user_message="again", thread_id="t")

        asyncio.run(run())
        assert [role for role, _ in model.said()] == ["user", "assistant", "tool", "assistant", "user"]
        assert "cut off" in model.said()[3][1]

    def test_a_timeout_error_of_a_provider_is_internal(self) -> None:
        assert one_turn(Scripted([TimeoutError("idle")])).error_kind is ErrorKind.INTERNAL

    def test_a_provider_that_cancels_its_own_call_is_internal(self) -> None:
        result = one_turn(Scripted([asyncio.CancelledError()]))
        assert (result.state, result.error_kind) == (RunState.FAILED, ErrorKind.INTERNAL)

    def test_an_answer_that_cannot_be_stored_fails_without_its_event(self) -> None:
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        events = events_of(Scripted([TextDelta("a"), response("a", call("f", x=deep))]))
        assert "step_completed" not in types(events)
        assert (result_of(events).error_kind, result_of(events).saved) == (ErrorKind.INTERNAL, True)

    def test_a_usage_that_cannot_be_stored_fails_without_its_event(self) -> None:
        usage = Usage(input_tokens=math.nan, output_tokens=1, total_tokens=1)  # type: ignore[arg-type]
        events = events_of(Scripted(answer("a", usage=usage)))
        assert "step_completed" not in types(events)
        assert (result_of(events).error_kind, result_of(events).saved) == (ErrorKind.INTERNAL, True)

    @pytest.mark.parametrize("finds", ["a usage of no numbers", "a broken list of prices"])
    def test_a_turn_of_unknown_cost_is_sealed(self, finds: str) -> None:
        def broken(full_name: str, capabilities: Capabilities) -> Price | None:
            raise RuntimeError("no list")

        store = MemoryStore()
        if finds == "a broken list of prices":
            model, wiring, state = Scripted(answer("a")), Wiring(look_up_price=broken), RunState.COMPLETED
        else:
            usage = Usage(input_tokens=None, output_tokens=1, total_tokens=1)  # type: ignore[arg-type]
            price = Price(input=1, output=1)
            model, wiring, state = Scripted(answer("a", usage=usage), price=price), Wiring(), RunState.FAILED
        events = events_of(model, store=store, wiring=wiring)
        result = result_of(events)
        assert (result.state, result.final_text, result.saved, result.total_cost_usd) == (state, "a", True, None)
        assert "cost_unknown" in [event.code for event in events if event.type == "warning"]
        assert store.holder(result.thread_id) is None

    def test_final_text_is_the_last_steps(self) -> None:
        model = Scripted(calls(call("add", a=1, b=2), text="let me see"), [response("", reasoning="done")])
        assert one_turn(model, agent(tools=[add])).final_text == ""


class TestRetries:
    def test_are_made_while_nothing_was_shown_and_announced(self) -> None:
        scripts = [[failure(ErrorKind.OVERLOADED, retry_after=0)]] * 4
        events = events_of(Scripted(*scripts, answer("a")))
        assert [event.attempt for event in events if event.type == "retrying"] == [2, 3, 4, 5]
        assert [event.attempt for event in events if event.type == "step_started"] == [1, 2, 3, 4, 5]
        assert {event.step for event in events if event.type == "step_started"} == {1}
        assert result_of(events).state is RunState.COMPLETED

    def test_are_at_most_four(self) -> None:
        model = Scripted(*[[failure(ErrorKind.RATE_LIMIT, retry_after=0)]] * 6)
        assert one_turn(model).error_kind is ErrorKind.RATE_LIMIT
        assert len(model.requests) == 5

    @pytest.mark.parametrize("kind", [ErrorKind.AUTH, ErrorKind.BAD_REQUEST, ErrorKind.TRUNCATED, ErrorKind.INTERNAL])
    def test_are_not_made_for_other_kinds(self, kind: ErrorKind) -> None:
        model = Scripted([failure(kind)])
        assert one_turn(model).error_kind is kind

    @pytest.mark.parametrize("shown", [TextDelta("a"), ReasoningDelta("a")])
    def test_are_not_made_once_something_was_shown(self, shown: Any) -> None:
        model = Scripted([shown, failure(ErrorKind.NETWORK)])
        assert one_turn(model).error_kind is ErrorKind.TRUNCATED

    def test_a_retry_after_of_an_hour_is_not_waited_for(self) -> None:
        model = Scripted([failure(ErrorKind.RATE_LIMIT, retry_after=3600)])
        assert one_turn(model).error_kind is ErrorKind.RATE_LIMIT
        assert len(model.requests) == 1

        assert "asks to wait 3600 s" in str(one_turn(Scripted([failure(ErrorKind.OVERLOADED, retry_after=3600)])).error)

    def test_a_wait_beyond_the_time_limit_is_not_started(self) -> None:
        model = Scripted([failure(ErrorKind.RATE_LIMIT, retry_after=60)])
        events = events_of(model, agent(fail_safe=FailSafeConfig(max_wall_time_s=30)))
        result = result_of(events)
        assert (result.state, result.error_kind) == (RunState.FAILED, ErrorKind.RATE_LIMIT)
        assert "max_wall_time_s=30" in str(result.error)
        assert "retrying" not in types(events)
        assert len(model.requests) == 1

    def test_a_wait_is_not_started_if_the_call_limit_is_reached(self) -> None:
        model = Scripted(*[[failure(ErrorKind.RATE_LIMIT, retry_after=0)]] * 3)
        events = events_of(model, agent(fail_safe=FailSafeConfig(max_llm_calls=2)))
        assert (result_of(events).state, result_of(events).reason) == (RunState.DEGRADED, "max_llm_calls")
        assert len(model.requests) == types(events).count("retrying") + 1 == 2
        assert [event.code for event in events if event.type == "warning"] == ["not_retried"]

    def test_the_number_of_attempts_is_in_the_error(self) -> None:
        model = Scripted(*[[failure(ErrorKind.RATE_LIMIT, retry_after=0)]] * 6)
        assert str(one_turn(model).error).endswith("(tried 5 times)")

    @pytest.mark.parametrize("number", [-1, 5])
    def test_more_than_four_are_refused(self, number: int) -> None:
        with pytest.raises(ConfigError, match="max_retries"):
            RunnerConfig(max_retries=number)
        with pytest.raises(ConfigError, match="retry_delay_s"):
            RunnerConfig(retry_delay_s=number * math.inf)

    def test_an_option_that_a_provider_refuses_in_its_call_is_a_bad_request(self) -> None:
        assert one_turn(Scripted([UsageError("takes no seed")])).error_kind is ErrorKind.BAD_REQUEST

    @pytest.mark.parametrize("kind", [ErrorKind.AUTH, ErrorKind.BAD_REQUEST, ErrorKind.NOT_FOUND])
    def test_an_error_after_a_part_of_the_answer_keeps_that_part(self, kind: ErrorKind) -> None:
        result = one_turn(Scripted([TextDelta("a"), failure(kind)]))
        assert (result.error_kind, result.final_text) == (ErrorKind.TRUNCATED, "a")

    def test_wait_as_the_server_asks_or_longer_each_time(self) -> None:
        for attempt in range(1, 5):
            assert retry_delay(attempt, None, 0.01) <= 0.01 * 2 ** (attempt - 1)
        assert retry_delay(3, 7.5) == 7.5
        assert retry_delay(1, -1) == 0
        for attempt, ceiling in ((1, 0.5), (2, 1), (3, 2), (4, 4), (20, 30)):
            assert ceiling / 2 <= retry_delay(attempt, None) <= ceiling


class TestEmptyAnswers:
    def test_are_a_warning_if_the_run_did_nothing_else(self) -> None:
        silent = events_of(Scripted([response(" ")]))
        assert [event.code for event in silent if event.type == "warning"] == ["empty_answer"]
        assert result_of(silent).state is RunState.COMPLETED
        acted = events_of(Scripted(calls(call("add", a=1, b=2)), [response("")]), agent(tools=[add]))
        assert "warning" not in types(acted)


class TestFallbacks:
    def test_take_over_while_nothing_was_shown(self) -> None:
        first, second = Scripted([failure(ErrorKind.AUTH)]), Scripted(answer("a"), name="other")

        async def run() -> list[Event]:
            chosen = agent(fail_safe=FailSafeConfig(fallback_models=("other/large",)))
            async with runner_of(first, second) as runner:
                return await collect(await runner.run_stream(chosen, user_message="hi", thread_id="t"))

        events = asyncio.run(run())
        assert [event.code for event in events if event.type == "warning"] == ["fallback"]
        assert (result_of(events).model, result_of(events).final_text) == ("other/large", "a")

    def test_take_over_if_only_reasoning_was_shown(self) -> None:
        first = Scripted([ReasoningDelta("hm"), failure(ErrorKind.NETWORK)])
        second = Scripted(answer("a"), name="other")

        async def run() -> list[Event]:
            chosen = agent(fail_safe=FailSafeConfig(fallback_models=("other/large",)))
            async with runner_of(first, second) as runner:
                return await collect(await runner.run_stream(chosen, user_message="hi", thread_id="t"))

        events = asyncio.run(run())
        assert (result_of(events).model, result_of(events).final_text) == ("other/large", "a")
        assert len(first.requests) == 1

    def test_never_repeat_an_answer_that_was_shown(self) -> None:
        first, second = Scripted([TextDelta("a"), failure(ErrorKind.NETWORK)]), Scripted(name="other")

        async def run() -> AgentResult:
            chosen = agent(fail_safe=FailSafeConfig(fallback_models=("other/large",)))
            async with runner_of(first, second) as runner:
                return await runner.run(chosen, user_message="hi", thread_id="t")

        result = asyncio.run(run())
        assert (result.model, result.final_text, second.requests) == ("fake/small", "a", [])


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


class BrokenStore(MemoryStore):
    """A store that fails where it is told to."""

    def __init__(self, *methods: str, error: Exception | None = None) -> None:
        super().__init__()
        self.broken = set(methods)
        self.error = error or StoreError("the disk is full")

    def _fail(self, method: str) -> None:
        if method in self.broken:
            raise self.error

    def acquire(self, name: str, owner: Owner, *, create: bool = True) -> Lease | None:
        self._fail("acquire")
        return super().acquire(name, owner, create=create)

    def find(self, name: str) -> ThreadInfo | None:
        self._fail("find")
        return super().find(name)

    def load(self, key: str, **options: Any) -> Any:
        self._fail("load")
        return super().load(key, **options)

    def renew(self, lease: Lease) -> Lease:
        self._fail("renew")
        return super().renew(lease)

    def append(self, thread: ThreadInfo, records: Any, *rest: Any) -> None:
        for record in records:
            self._fail(str(record.kind))
        super().append(thread, records, *rest)


class TestAnswersThatCannotBeSaved:
    @pytest.mark.parametrize("error", [StoreError("the disk is full"), OSError(28, "the disk is full")])
    @pytest.mark.parametrize("methods", [("acquire",), ("acquire", "find"), ("load",), ("question",), ("seal",)])
    def test_the_answer_is_returned_and_the_turn_rescued(self, methods: tuple[str, ...], error: Exception) -> None:
        rescued: list[SealedTurn] = []

        def rescue(thread_id: str, turn: SealedTurn, contents: dict[str, bytes]) -> str:
            rescued.append(turn)
            return "/rescue/file"

        events = events_of(
            Scripted(answer("a")), store=BrokenStore(*methods, error=error), wiring=Wiring(rescue=rescue)
        )
        result = result_of(events)
        assert (result.state, result.final_text, result.saved, exit_code(result)) == ("completed", "a", False, 1)
        said = [event.message for event in events if event.type == "warning"]
        *before, after = rescued
        assert len(said) == len(rescued) == (1 if "seal" in methods else 2)
        assert all("the disk is full" in line and "/rescue/file" in line for line in said)
        assert [[message.text for message in turn.messages] for turn in before] == [["hi"]] * len(before)
        assert [message.text for message in after.messages] == ["hi", "a"]

    def test_the_question_is_kept_before_the_model_is_asked_and_the_answer_as_it_comes(self) -> None:
        kept: list[str] = []
        journaled = threading.Event()

        def rescue(thread_id: str, turn: SealedTurn, contents: dict[str, bytes]) -> str:
            kept.append(turn.state)
            return "/rescue/file"

        def more(where: str, body: dict[str, Any]) -> None:
            kept.append(f"{where}: {body['text']}")
            journaled.set()

        class Slow(Scripted):
            async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                assert kept == ["interrupted"]
                async for event in super().stream(request):
                    yield event
                    if isinstance(event, TextDelta):
                        await asyncio.to_thread(journaled.wait)

        wiring = Wiring(rescue=rescue, rescue_more=more)
        events_of(Slow(answer("a")), store=BrokenStore("acquire"), wiring=wiring)
        assert kept == ["interrupted", "/rescue/file: a", "completed"]

    @pytest.mark.parametrize("rescue", [lambda *turn: None, lambda *turn: 1 / 0])
    def test_a_rescue_that_fails_is_reported(self, rescue: Any) -> None:
        events = events_of(Scripted(answer("a")), store=BrokenStore("seal"), wiring=Wiring(rescue=rescue))
        assert "could not be kept anywhere" in next(event.message for event in events if event.type == "warning")
        assert result_of(events).saved is False

    def test_a_readable_thread_is_still_sent(self) -> None:
        store = BrokenStore()
        model = Scripted(answer("one"), answer("two"))

        async def run() -> AgentResult:
            async with runner_of(model, store=store) as runner:
                await runner.run(agent(), user_message="first", thread_id="t")
                store.broken = {"acquire"}
                return await runner.run(agent(), user_message="second", thread_id="t")

        assert asyncio.run(run()).saved is False
        assert model.said() == [("user", "first"), ("assistant", "one"), ("user", "second")]


class TestLostLease:
    def test_found_at_the_seal_interrupts_and_writes_nothing_more(self) -> None:
        store = MemoryStore()

        async def take_over() -> None:
            thread = store.find("t")
            assert thread is not None
            kept = store._threads[thread.key]
            kept.expires = 0.0
            lease = store.acquire("t", unknown_owner("other"))
            assert lease is not None
            seal_interrupted(store, lease, load_history(store, lease.thread))

        result = one_turn(Scripted([TextDelta("a"), take_over, *answer("b")]), store=store)
        assert (result.state, result.saved, exit_code(result)) == (RunState.INTERRUPTED, False, 5)
        thread = store.find("t")
        assert thread is not None
        assert [turn.state for turn in load_history(store, thread).turns] == [RunState.INTERRUPTED]

    def test_found_while_it_streams_ends_the_run(self) -> None:
        events = events_of(
            Scripted([TextDelta("a"), asyncio.Event()]),
            store=BrokenStore("journal", error=LeaseLostError("another run took over the thread 't'")),
        )
        result = result_of(events)
        assert (result.state, result.final_text, exit_code(result)) == (RunState.INTERRUPTED, "a", 5)
        assert "took over" in (result.reason or "")

    def test_a_journal_that_fails_is_reported_once_and_retried(self) -> None:
        store = BrokenStore("journal", error=HeadMismatchError("odd"))
        journaled = asyncio.Event()

        async def run() -> list[Event]:
            async with runner_of(Scripted([TextDelta("a"), journaled, *answer("b")]), store=store) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                run = next(iter(runner._runs))
                while not run.outlet.pending_warnings:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                store.broken = set()
                while not any(record.kind == "journal" for record in store.load(run.spec.thread_key)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                journaled.set()
                return await collect(handle)

        events = asyncio.run(run())
        assert [event.code for event in events if event.type == "warning"] == ["journal"]
        assert result_of(events).saved is True


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

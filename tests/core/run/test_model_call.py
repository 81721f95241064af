"""Model calls: retries, fallback models and empty answers."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from afkcli.core.contract.errors import (
    ConfigError,
    ErrorKind,
    UsageError,
)
from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import (
    ReasoningDelta,
    TextDelta,
)
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.run.config import RunnerConfig
from afkcli.core.run.retries import retry_delay
from tests.core.scripted import (
    Scripted,
    add,
    agent,
    answer,
    call,
    calls,
    collect,
    events_of,
    failure,
    one_turn,
    response,
    result_of,
    runner_of,
    types,
)


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

"""A turn that grows beyond its limit: the run ends, what fits is kept, and the thread continues."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.events import Completed, ErrorEvent, Event, StepCompleted, TextDeltaEvent, message_to_json
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import (
    Message,
    OpaqueDelta,
    ProviderData,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolResultPart,
)
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.text import MAX_LINE_CHARS
from afkcli.core.contract.tools import tool
from afkcli.core.run.config import RunnerConfig
from afkcli.core.run.runner import Runner
from afkcli.core.run.turn_size import NOT_KEPT, TurnSize
from afkcli.core.thread.history import load_history
from afkcli.core.thread.turns import SealedTurn
from tests.core.scripted import Scripted, agent, answer, call, calls, collect, response, runner_of

LIMIT_MB = 0.01
LIMIT = int(LIMIT_MB * 2**20)
SMALL = FailSafeConfig(max_turn_mb=LIMIT_MB)


@tool(changes=False)
def big(characters: int = 3000) -> str:
    """Return a large text."""
    return "t" * characters


def run(*scripts: Any, limits: FailSafeConfig = SMALL) -> tuple[AgentResult, list[Event], tuple[SealedTurn, ...]]:
    """Run a turn, then another one; return the result and the events of the first, and the turns of the thread."""

    async def both() -> tuple[AgentResult, list[Event], tuple[SealedTurn, ...]]:
        model = Scripted(*scripts, answer("fine"))
        runner = runner_of(model)
        chosen = agent(fail_safe=limits, tools=[big])
        events = await collect(await runner.run_stream(chosen, user_message="q", thread_id="t"))
        model.scripts[:] = [answer("fine")]  # those that were not asked for
        later = await runner.run(chosen, user_message="again", thread_id="t")
        assert later.state is RunState.COMPLETED
        assert isinstance(events[-1], Completed)
        return events[-1].result, events, await turns_of(runner, "t")

    return asyncio.run(both())


async def turns_of(runner: Runner, name: str) -> tuple[SealedTurn, ...]:
    def load() -> tuple[SealedTurn, ...]:
        thread = runner.store().find(name)
        assert thread is not None
        history = load_history(runner.store(), thread)
        assert history.damage == ()
        return history.turns

    return await runner._calls.call(load)


def stored(turn: SealedTurn) -> int:
    return sum(len(dumps(message_to_json(message)).encode()) for message in turn.messages)


ANSWERS = {
    "a million characters in small pieces": answer(*["x" * 100] * 10_000),
    "one piece": answer("x" * 1_000_000),
    "reasoning": [*[ReasoningDelta("r" * 100)] * 10_000, response("", reasoning="r" * 1_000_000)],
    "text and reasoning in turn": [
        *[TextDelta("x"), ReasoningDelta("r")] * 10_000,
        response("x" * 10_000, reasoning="r" * 10_000),
    ],
    "the arguments of one call": [
        TextDelta("before"),
        *[ToolCallDelta("c1", "big", "1" * 100)] * 1_000,
        response("before", call("big", text="1" * 100_000)),
    ],
    "many calls": [
        TextDelta("before"),
        *[ToolCallDelta(f"c{n}", "big", "{}") for n in range(10_000)],
        response("before", *(call("big", f"c{n}") for n in range(10_000))),
    ],
    "opaque data that was counted": [
        TextDelta("before"),
        *[OpaqueDelta(1_000)] * 100,
        response("before"),
    ],
    "opaque data that was not": [
        TextDelta("before"),
        response("before").__class__(
            message=Message(
                role=Role.ASSISTANT,
                parts=(
                    ReasoningPart(
                        text="", provider_data=ProviderData(provider="fake", api="a", model="m", payload="s" * 100_000)
                    ),
                    TextPart(text="before"),
                ),
            ),
            finish_reason=response("x").finish_reason,
        ),
    ],
    "a whole answer without pieces": [response("x" * 1_000_000)],
    "wide characters": answer(*["\U0001f600" * 50] * 1_000),
    "text that JSON makes longer": answer(*["\x01" * 50] * 1_000),
    "lone surrogates": answer(*["\ud800" * 50] * 1_000),
}


@pytest.mark.parametrize("script", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_outgrows_the_turn_ends_the_run_and_what_fits_is_kept(script: Any) -> None:
    result, events, turns = run(script)

    assert (result.state, result.reason, result.saved) == (RunState.DEGRADED, "max_turn_mb", True)
    assert [turn.state for turn in turns] == [RunState.DEGRADED, RunState.COMPLETED]
    assert stored(turns[0]) <= LIMIT
    assert turns[0].reason == "max_turn_mb"
    said = "".join(event.text_delta for event in events if isinstance(event, TextDeltaEvent))
    assert result.final_text.startswith(said)
    kept = "".join(part.text for message in turns[0].messages[1:] for part in message.parts if hasattr(part, "text"))
    assert kept, "what came before the limit is there"
    assert not turns[0].messages[-1].tool_calls, "a call of a cut answer was never made"


def test_an_answer_that_fits_exactly_is_whole() -> None:
    fits = LIMIT - 2 * 1_000 - len("q")

    for size, state in ((fits, RunState.COMPLETED), (fits + 1, RunState.DEGRADED)):
        result, _, turns = run(answer("x" * (size - 1), "y"))
        assert result.state is state
        assert turns[0].messages[-1].text == ("x" * (size - 1) + "y")[:fits]


class TestToolResults:
    def test_that_outgrow_the_turn_end_the_run_with_those_that_fit(self) -> None:
        result, events, turns = run(calls(*(call("big", f"c{n}") for n in range(4))), answer("never asked for"))

        assert (result.state, result.reason) == (RunState.DEGRADED, "max_turn_mb")
        assert stored(turns[0]) <= LIMIT + 1_000
        assert "t" * 3000 in dumps(message_to_json(turns[0].messages[-1]))
        assert [event.type for event in events].count("tool_completed") == 4, "they ran at the same time"

    def test_that_outgrow_the_turn_keep_the_other_calls_from_being_made(self) -> None:
        one_by_one = FailSafeConfig(max_turn_mb=LIMIT_MB, max_parallel_tools=1)
        result, events, _ = run(calls(*(call("big", f"c{n}") for n in range(4))), limits=one_by_one)

        assert (result.state, result.reason) == (RunState.DEGRADED, "max_turn_mb")
        assert [event.type for event in events].count("tool_completed") == 2

    def test_of_several_steps_count_together(self) -> None:
        steps = [calls(call("big", "c", characters=1500)) for _ in range(10)]
        result, _, turns = run(*steps)

        assert (result.state, result.reason) == (RunState.DEGRADED, "max_turn_mb")
        assert 2 <= result.steps < 10
        assert stored(turns[0]) <= LIMIT + 1_000

    def test_of_which_nothing_fits_are_left_out_with_a_note(self) -> None:
        size = TurnSize(LIMIT_MB)
        size.begin((Message(role=Role.USER, parts=(TextPart(text="x" * LIMIT),)),))
        kept = size.take_result(ToolResultPart(id="c", name="big", parts=(TextPart(text="y" * 100),)))

        assert size.is_full
        assert kept.parts == (TextPart(text=NOT_KEPT),)

    def test_ten_thousand_calls_of_one_step_are_made_a_few_at_a_time(self) -> None:
        tasks: list[int] = []

        async def work() -> str:
            tasks.append(len(asyncio.all_tasks()))
            await asyncio.sleep(0)
            return ""

        async def main() -> AgentResult:
            model = Scripted(calls(*(call("work", f"c{n}") for n in range(10_000))), answer("done"))
            return await runner_of(model).run(agent(tools=[work]), user_message="q")

        result = asyncio.run(main())

        assert (result.state, len(result.tool_executions)) == (RunState.DEGRADED, len(tasks))
        assert len(tasks) > 3_000, "each call and each result counts about 1,000 bytes"
        assert max(tasks) < 40


class TestQuestions:
    def test_that_leave_no_room_end_the_run_before_a_call_and_are_kept(self) -> None:
        async def main() -> tuple[AgentResult, int, tuple[SealedTurn, ...]]:
            model = Scripted(answer("never asked for"))
            runner = runner_of(model)
            result = await runner.run(agent(fail_safe=SMALL), user_message="q" * LIMIT, thread_id="t")
            return result, len(model.requests), await turns_of(runner, "t")

        result, requests, turns = asyncio.run(main())

        assert (result.state, result.reason, requests) == (RunState.DEGRADED, "max_turn_mb", 0)
        assert turns[0].messages[0].text == "q" * LIMIT

    @pytest.mark.parametrize("character", ["x", "\x01", "\U0001f600"])
    def test_that_no_turn_can_hold_are_refused_before_anything_is_written(self, character: str) -> None:
        async def main() -> None:
            runner = runner_of(Scripted())
            with pytest.raises(UsageError, match=r"the message is .* MB as it is stored, and a turn takes 30 MB"):
                await runner.run(agent(), user_message=character * (31 << 20), thread_id="t")
            assert runner.store().find("t") is None

        asyncio.run(main())


@pytest.mark.parametrize("value", [31, float("inf"), -1, float("nan")])
def test_a_limit_that_is_not_safe_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="max_turn_mb must be"):
        FailSafeConfig(max_turn_mb=value)


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            ProviderError("no: " + "e" * 5_000_000, kind=ErrorKind.BAD_REQUEST),
            ProviderError("no: " + "e" * 5_000_000, kind=ErrorKind.OVERLOADED),
            RuntimeError("e" * 5_000_000),
        ],
        ids=["refused", "retried", "of a plugin"],
    )
    def test_of_megabytes_are_a_line_of_a_few_thousand_characters(self, error: Exception) -> None:
        async def main() -> list[Event]:
            model = Scripted(*[[error]] * 5)
            runner = runner_of(model, config=RunnerConfig(retry_delay_s=0.0))
            return await collect(await runner.run_stream(agent(), user_message="q", thread_id="t"))

        events = asyncio.run(main())

        assert [event.type for event in events][-2:] == ["error", "completed"]
        for event in events:
            for text in (getattr(event, "error", ""), getattr(event, "message", "")):
                assert len(text) <= MAX_LINE_CHARS + 3
        assert isinstance(events[-2], ErrorEvent)

    def test_of_a_tool_are_cut_before_they_are_copied(self) -> None:
        def fail() -> None:
            """Fail."""
            raise ValueError("e" * 5_000_000)

        async def main() -> list[Event]:
            model = Scripted(calls(call("fail")), answer("done"))
            return await collect(await runner_of(model).run_stream(agent(tools=[fail]), user_message="q"))

        [done] = [event for event in asyncio.run(main()) if event.type == "tool_completed"]

        assert len(done.tool_error or "") < 101_000


def test_the_event_of_a_cut_step_holds_what_is_kept() -> None:
    _, events, turns = run([response("x" * 1_000_000)])

    [step] = [event for event in events if isinstance(event, StepCompleted)]
    assert json.loads(dumps(step.message)) == json.loads(dumps(turns[0].messages[-1]))

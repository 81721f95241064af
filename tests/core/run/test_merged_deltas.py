"""Pieces of an answer as events: a slow stream piece by piece, a fast one merged, the order of kinds and calls kept."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import Event
from afkcli.core.contract.messages import ModelEvent, ModelWarning, ReasoningDelta, TextDelta, ToolCallDelta
from afkcli.core.contract.result import RunState
from afkcli.core.run import delta_merger
from afkcli.core.run.handle import RunHandle
from afkcli.core.run.runner import Runner
from tests.core.scripted import (
    Action,
    Script,
    Scripted,
    add,
    agent,
    answer,
    call,
    calls,
    collect,
    events_of,
    response,
    runner_of,
    streamed,
    types,
)

HOUR = 3600.0
DELTAS = ("text_delta", "reasoning_delta", "tool_call_delta")


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a piece wait for the next one for as long as the test lasts."""
    monkeypatch.setattr(delta_merger, "MERGE_SECONDS", HOUR)


def shape(event: Event) -> tuple[str, str, str]:
    """What kind of piece an event holds, of which call, and its text."""
    if event.type == "text_delta":
        return event.type, "", event.text_delta
    if event.type == "reasoning_delta":
        return event.type, "", event.reasoning_delta
    assert event.type == "tool_call_delta"
    return event.type, f"{event.tool_call_id} {event.tool_name}", event.arguments_delta


def merged(pieces: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Pieces with neighbours of one kind and call as one."""
    groups = itertools.groupby(pieces, key=lambda piece: piece[:2])
    return [(*key, "".join(text for _, _, text in group)) for key, group in groups]


class TestSlow:
    def test_each_piece_is_an_event_before_the_next_one_comes(self) -> None:
        pieces = [f"piece {number} " for number in range(5)]
        seen: list[asyncio.Event] = []

        async def run() -> list[Event]:
            seen.extend(asyncio.Event() for _ in pieces)
            script: list[Action] = []
            for piece, shown in zip(pieces, seen, strict=True):
                script += [TextDelta(piece), shown]  # the model goes on when the piece is shown
            events = []
            async with runner_of(Scripted([*script, response("".join(pieces))])) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                async for event in handle:
                    events.append(event)
                    if event.type == "text_delta":
                        seen[pieces.index(event.text_delta)].set()
            return events

        assert [event.text_delta for event in asyncio.run(run()) if event.type == "text_delta"] == pieces

    @pytest.mark.usefixtures("holding")
    def test_the_first_piece_of_each_step_is_not_held(self) -> None:
        async def run() -> None:
            shown = [asyncio.Event(), asyncio.Event()]
            first = [TextDelta("one"), shown[0], response("one", call("add", a=1, b=2))]
            second = [TextDelta("two"), shown[1], response("two")]
            waiting = iter(shown)
            async with runner_of(Scripted(first, second)) as runner:
                handle = await runner.run_stream(agent(tools=[add]), user_message="hi", thread_id="t")
                async for event in handle:
                    if event.type == "text_delta":
                        next(waiting).set()
            assert handle.result.state is RunState.COMPLETED

        asyncio.run(run())


class TestFast:
    def test_many_pieces_become_few_events_with_the_same_text(self) -> None:
        pieces = [f"{number} " for number in range(2000)]
        events = events_of(Scripted(answer(*pieces)))
        assert streamed(events) == "".join(pieces)
        assert types(events).count("text_delta") < len(pieces) / 10
        assert [event.seq for event in events] == list(range(len(events)))

    @pytest.mark.usefixtures("holding")
    def test_a_run_that_gets_ahead_of_its_reader_sends_what_it_holds(self) -> None:
        pieces = [f"{number} " for number in range(500)]

        async def run() -> list[Event]:
            async with runner_of(Scripted([TextDelta(piece) for piece in pieces])) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                return await collect(handle)

        assert streamed(asyncio.run(run())) == "".join(pieces)

    @given(
        st.lists(
            st.one_of(
                st.builds(TextDelta, st.sampled_from(["a", "b "])),
                st.builds(ReasoningDelta, st.sampled_from(["c", "d "])),
                st.builds(
                    ToolCallDelta,
                    id=st.sampled_from(["c1", "c2"]),
                    name=st.just("add"),
                    arguments=st.sampled_from(["", "{", "}"]),
                ),
            ),
            max_size=30,
        )
    )
    def test_pieces_of_different_kinds_and_calls_stay_apart_and_in_order(self, deltas: list[ModelEvent]) -> None:
        sent = [
            ("text_delta", "", delta.text)
            if isinstance(delta, TextDelta)
            else ("reasoning_delta", "", delta.text)
            if isinstance(delta, ReasoningDelta)
            else ("tool_call_delta", f"{delta.id} {delta.name}", delta.arguments)
            for delta in deltas
            if isinstance(delta, (TextDelta, ReasoningDelta, ToolCallDelta))
        ]
        events = events_of(Scripted([*deltas, response("end")]))
        assert merged([shape(event) for event in events if event.type in DELTAS]) == merged(sent)
        assert [event.seq for event in events] == list(range(len(events)))

    @pytest.mark.usefixtures("holding")
    def test_pieces_come_before_the_tools_of_their_step(self) -> None:
        deltas = [ToolCallDelta(id="c1", name="add", arguments=part) for part in ("", '{"a": 1', ', "b": 2}')]
        step = [TextDelta("let me "), TextDelta("add"), *deltas, response("let me add", call("add", a=1, b=2))]
        events = events_of(Scripted(step, answer("3")), agent(tools=[add]))
        assert types(events)[2:9] == [
            "text_delta",
            "text_delta",
            "tool_call_delta",
            "tool_call_delta",
            "step_completed",
            "tool_started",
            "tool_completed",
        ]
        assert shape(events[5]) == ("tool_call_delta", "c1 add", '{"a": 1, "b": 2}')

    @pytest.mark.usefixtures("holding")
    def test_the_first_piece_of_another_kind_is_not_held(self) -> None:
        deltas = [ReasoningDelta("hm "), ReasoningDelta("hm"), TextDelta("a"), TextDelta("b"), TextDelta("c")]
        events = events_of(Scripted([*deltas, response("abc")]))
        assert [shape(event)[2] for event in events if event.type in DELTAS] == ["hm ", "hm", "a", "bc"]

    @pytest.mark.usefixtures("holding")
    def test_a_warning_comes_after_the_text_before_it(self) -> None:
        script: list[Action] = [TextDelta("a"), TextDelta("b"), ModelWarning("answer_differs", "odd"), TextDelta("c")]
        events = events_of(Scripted([*script, response("abc")]))
        shown = [event.text_delta if event.type == "text_delta" else event.type for event in events[2:6]]
        assert shown == ["a", "b", "warning", "c"]

    @pytest.mark.usefixtures("holding")
    def test_text_that_is_held_comes_before_the_error_that_ends_the_run(self) -> None:
        cut = ProviderError("cut", kind=ErrorKind.TRUNCATED)
        events = events_of(Scripted([TextDelta("a"), TextDelta("b"), TextDelta("c"), cut]))
        assert types(events)[2:] == ["text_delta", "text_delta", "error", "completed"]
        assert streamed(events) == "abc"

    @pytest.mark.usefixtures("holding")
    def test_text_that_is_held_is_shown_of_a_run_that_is_cancelled(self) -> None:
        async def run() -> list[Event]:
            reached = asyncio.Event()

            async def hang() -> None:
                reached.set()
                await asyncio.Event().wait()

            async with runner_of(Scripted([TextDelta("a"), TextDelta("b"), hang])) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                await reached.wait()
                await handle.cancel()
                return await collect(handle)

        events = asyncio.run(run())
        assert streamed(events) == "ab"
        assert types(events)[-1] == "completed"


class TestNobodyReads:
    def test_no_event_is_made_of_a_run_whose_events_are_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []
        monkeypatch.setattr("afkcli.core.run.model_call.TextDeltaEvent", lambda **fields: made.append("delta"))
        monkeypatch.setattr("afkcli.core.run.model_call.StepCompleted", lambda **fields: made.append("step"))

        async def run() -> str:
            started = asyncio.Event()
            script: Script = [started, *answer("a", "b", "c")]
            async with runner_of(Scripted(script)) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                waiting = asyncio.ensure_future(handle.wait())
                await asyncio.sleep(0)
                started.set()
                return (await waiting).final_text

        assert asyncio.run(run()) == "abc"
        assert made == []

    def test_a_wait_that_is_cancelled_leaves_the_events_that_follow(self) -> None:
        async def use(runner: Runner, handle: RunHandle, go_on: asyncio.Event) -> list[Event]:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle.wait(), 0.01)
            go_on.set()
            return await collect(handle)

        async def run() -> list[Event]:
            go_on = asyncio.Event()
            async with runner_of(Scripted([go_on, *answer("a")])) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                return await use(runner, handle, go_on)

        assert types(asyncio.run(run())) == ["text_delta", "step_completed", "completed"]

    def test_events_are_counted_whether_or_not_they_are_read(self) -> None:

        async def run() -> list[Event]:
            go_on = asyncio.Event()
            async with runner_of(Scripted(calls(call("add", a=1, b=2)), [go_on, *answer("3")])) as runner:
                handle = await runner.run_stream(agent(tools=[add]), user_message="hi", thread_id="t")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(handle.wait(), 0.05)
                go_on.set()
                return await collect(handle)

        events = asyncio.run(run())
        assert [event.seq for event in events] == list(range(events[0].seq, events[0].seq + len(events)))
        assert events[0].seq > 0

"""Sinks take every event in order on a thread of their own; one that fails, stalls or overflows is left out, once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from afkcli.core.contract.events import Event, event_to_json
from afkcli.core.contract.messages import (
    FinishReason,
    Message,
    ModelResponse,
    ProviderData,
    Role,
    TextDelta,
    TextPart,
    ToolCallPart,
)
from afkcli.core.contract.protocols import Fork, Sink
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.tools import Tool
from afkcli.core.run import sink_worker
from afkcli.core.run.config import RunnerConfig, Wiring
from afkcli.core.run.copies import own_copy
from afkcli.core.run.sink_worker import SinkWorker
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import USAGE, Scripted, agent, answer, collect, runner_of, types
from tests.telemetry import wait_until


class ListSink:
    """Keeps what it is given; raises at event number `fails_at`, blocks at event number `stalls_at`."""

    def __init__(self, name: str = "list", *, fails_at: int | None = None, stalls_at: int | None = None) -> None:
        self.name = name
        self.fails_at = fails_at
        self.stalls_at = stalls_at
        self.release = threading.Event()
        self.failed = threading.Event()
        self.events: list[Event] = []
        self.threads: set[str] = set()
        self.closed = 0

    def emit(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        if len(self.events) == self.fails_at:
            self.failed.set()
            raise OSError("the pipe is full")
        if len(self.events) == self.stalls_at:
            self.release.wait()
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


def run_with(*sinks: Sink, turns: int = 1, pieces: Sequence[str] = ("a", "b")) -> tuple[list[Event], list[str]]:
    """Run turns with `sinks` and return their events and what was said beside them."""
    said: list[str] = []

    async def run() -> list[Event]:
        model = Scripted(*([answer(*pieces)] * turns))
        events: list[Event] = []
        async with runner_of(model, sinks=sinks, wiring=Wiring(notify=said.append)) as runner:
            for _ in range(turns):
                events += await collect(await runner.run_stream(agent(), user_message="hi", thread_id="t"))
        return events

    return asyncio.run(run()), said


def reports(events: list[Event], said: list[str]) -> list[str]:
    return [event.message for event in events if event.type == "warning"] + said


def test_every_sink_gets_every_event_in_order() -> None:
    first, second = ListSink("first"), ListSink("second")
    events, said = run_with(first, second, turns=2)
    assert first.events == events
    assert second.events == events
    assert said == []
    assert first.threads == {"afk-sink-first"}
    assert (first.closed, second.closed) == (1, 1)


@pytest.mark.parametrize("number", range(5))
def test_a_sink_that_raises_is_reported_once_and_left_out(number: int) -> None:
    broken, good = ListSink("broken", fails_at=number), ListSink("good")
    events, said = run_with(broken, good, turns=2)
    assert types(events).count("completed") == 2
    assert [event for event in events if event.type == "completed"][-1].result.saved
    told = reports(events, said)
    assert len(told) == 1
    assert "'broken' is left out from now on: the pipe is full" in told[0]
    assert broken.events == good.events[:number]
    assert good.events == events


def test_a_sink_whose_thread_cannot_be_started_is_reported_once_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the limit of processes is reached: the runs go on, and end."""
    start = threading.Thread.start

    def no_thread_for_sinks(thread: threading.Thread) -> None:
        if thread.name == "afk-sink-alone":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_thread_for_sinks)
    alone, good = ListSink("alone"), ListSink("good")

    events, said = run_with(alone, good, turns=2)

    assert types(events).count("completed") == 2
    [told] = reports(events, said)
    assert "'alone' is left out from now on: can't start new thread" in told
    assert (alone.events, good.events) == ([], events)


class BatchedSink(ListSink):
    """Takes several events at once, and notes how many."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sizes: list[int] = []

    def emit_all(self, events: Sequence[Event]) -> None:
        self.sizes.append(len(events))
        for event in events:
            self.emit(event)


def test_a_sink_that_takes_several_events_at_once_gets_those_of_a_moment_together() -> None:
    alone, together = ListSink(), BatchedSink()
    events, said = run_with(alone, together)
    assert alone.events == together.events == events
    assert max(together.sizes) > 1
    assert said == []


def test_events_are_given_together_as_far_as_they_are_not_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_worker, "MAX_BATCH_BYTES", 0)
    sink = BatchedSink()
    events, _ = run_with(sink)
    assert sink.sizes == [1] * len(events)
    assert sink.events == events


def test_a_sink_that_raises_while_it_takes_several_events_is_reported_once_and_left_out() -> None:
    broken = BatchedSink(fails_at=1)
    events, said = run_with(broken, turns=2)
    assert types(events).count("completed") == 2
    assert len(reports(events, said)) == 1
    wait_until(lambda: broken.closed == 1)  # the end does not wait for a sink that is left out


def test_an_event_is_logged_before_the_next_one_comes() -> None:
    sink = BatchedSink()

    async def logged() -> None:
        while not any(event.type == "text_delta" for event in sink.events):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def run() -> None:
        async with runner_of(Scripted([TextDelta("a"), logged, *answer("a")[1:]]), sinks=[sink]) as runner:
            await collect(await runner.run_stream(agent(), user_message="hi", thread_id="t"))

    asyncio.run(run())


def test_a_sink_that_stalls_blocks_nothing_and_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_worker, "FLUSH_SECONDS", 0.05)
    stalled = ListSink("stalled", stalls_at=1)
    events, said = run_with(stalled, turns=2)
    stalled.release.set()
    assert types(events).count("completed") == 2
    told = reports(events, said)
    assert len(told) == 1
    assert "'stalled' is left out" in told[0]


@pytest.mark.parametrize(("limit", "value"), [("MAX_QUEUED_EVENTS", 2), ("MAX_QUEUED_BYTES", 2_000)])
def test_a_sink_that_does_not_keep_up_is_left_out(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(sink_worker, limit, value)
    stalled = ListSink("stalled", stalls_at=0)
    events, said = run_with(stalled, pieces=["x" * 100] * 100)
    stalled.release.set()
    assert events[-1].type == "completed"
    told = reports(events, said)
    assert len(told) == 1
    assert "does not keep up" in told[0]
    assert [event.code for event in events if event.type == "warning"] == ["sink_left_out"]


def test_runs_that_end_while_a_sink_is_busy_wait_for_it_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("FLUSH_SECONDS", "MAX_FLUSH_SECONDS"):  # on a busy machine the 20 runs need more than a second
        monkeypatch.setattr(sink_worker, limit, 60.0)
    sink = ListSink(stalls_at=0)

    async def run() -> list[Event]:
        models = Scripted(*[answer("a")] * 20)
        async with runner_of(models, sinks=[sink]) as runner:
            handles = [await runner.run_stream(agent(), user_message="hi", thread_id=f"t{n}") for n in range(20)]
            collecting = asyncio.ensure_future(asyncio.gather(*map(collect, handles)))
            await asyncio.sleep(0.05)
            assert not collecting.done(), "their last events are not written yet"
            sink.release.set()
            return [event for events in await collecting for event in events]

    events = asyncio.run(run())
    assert len([event for event in sink.events if event.type == "completed"]) == 20
    assert sorted(map(event_to_json, sink.events)) == sorted(map(event_to_json, events))


def test_a_run_of_another_event_loop_waits_for_no_barrier_of_the_first() -> None:
    sink, said = ListSink(stalls_at=0), list[str]()
    worker = SinkWorker(sink, said.append)
    (event, *_), _ = run_with(ListSink())

    async def leave_early() -> None:
        worker.put(event)
        flushing = asyncio.ensure_future(worker.flush())
        await asyncio.sleep(0.01)
        flushing.cancel()

    async def wait() -> None:
        worker.put(event)
        flushing = asyncio.ensure_future(worker.flush())
        await asyncio.sleep(0.01)
        assert not flushing.done()
        sink.release.set()
        await flushing

    asyncio.run(leave_early())
    asyncio.run(wait())
    worker.close()
    assert (len(sink.events), said) == (2, [])


class Slow(ListSink):
    """Takes a while for each event, or for those that hold a long text."""

    def __init__(self, seconds: float, of_long_ones: float = 0.0) -> None:
        super().__init__("slow")
        self.seconds, self.of_long_ones = seconds, of_long_ones

    def emit(self, event: Event) -> None:
        time.sleep(self.of_long_ones if len(event_to_json(event)) > 10_000 else self.seconds)
        super().emit(event)


def test_a_slow_sink_gets_its_last_events_as_long_as_it_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_worker, "FLUSH_SECONDS", 2.0)
    monkeypatch.setattr(sink_worker, "MAX_FLUSH_SECONDS", 60.0)
    slow = Slow(0.4)
    events, said = run_with(slow, pieces=["a", "b", "c", "d", "e"])
    assert len(events) * 0.4 > 2.0 + 0.4, "it would have been left out after the time for one event"
    assert (slow.events, said) == (events, [])


def test_a_sink_has_more_time_for_a_large_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_worker, "FLUSH_SECONDS", 0.5)
    monkeypatch.setattr(sink_worker, "BYTES_PER_SECOND", 20_000)
    slow = Slow(0.0, of_long_ones=0.8)
    events, said = run_with(slow, pieces=["x" * 100_000])
    assert (slow.events, said) == (events, [])


def test_a_sink_that_is_slow_for_ever_is_left_out_although_it_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_worker, "MAX_FLUSH_SECONDS", 0.5)
    slow = Slow(0.4)
    events, said = run_with(slow, pieces=["a", "b", "c", "d", "e"])
    told = reports(events, said)
    assert len(told) == 1
    assert "to write its last events" in told[0]
    assert len(slow.events) < len(events)


def test_an_unused_sink_is_closed() -> None:
    sink = ListSink()
    SinkWorker(sink, lambda line: None).close()
    assert sink.closed == 1


class Unclosable(ListSink):
    """Raises when it is closed."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("unclosable")
        self.error = error

    def close(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError(), "ValueError()"),
        (SystemExit(3), "SystemExit(3)"),
        (KeyboardInterrupt(), "KeyboardInterrupt()"),
    ],
)
def test_what_close_raises_is_said_once_with_the_name_of_the_sink(error: BaseException, text: str) -> None:
    other = ListSink()
    events, said = run_with(Unclosable(error), other)
    assert events[-1].type == "completed"
    assert said == [f"the sink 'unclosable' could not be closed: {text}; its last events may be missing"]
    assert other.closed == 1


def test_what_close_raises_is_said_of_an_unused_sink_too() -> None:
    said: list[str] = []
    SinkWorker(Unclosable(OSError("gone")), said.append).close()
    assert said == ["the sink 'unclosable' could not be closed: gone; its last events may be missing"]


def test_a_close_that_does_not_end_is_said_of_an_unused_sink_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_worker, "FLUSH_SECONDS", 0.05)
    release = threading.Event()

    class Stuck(ListSink):
        def close(self) -> None:
            release.wait()

    said: list[str] = []
    SinkWorker(Stuck("stuck"), said.append).close()
    release.set()
    assert said == ["the sink 'stuck' did not close within 0.05 s; its last events may be missing"]


def test_a_close_that_does_not_end_is_said_and_ends_nothing() -> None:
    release = threading.Event()

    class Stuck(ListSink):
        def close(self) -> None:
            release.wait()

    events, said = run_with(Stuck("stuck"))
    release.set()
    assert events[-1].type == "completed"
    assert said == ["the sink 'stuck' did not close within 1 s; its last events may be missing"]


def test_a_sink_that_was_left_out_and_cannot_be_closed_is_reported_once() -> None:
    broken = Unclosable(OSError("gone"))
    broken.fails_at = 0
    events, said = run_with(broken)
    assert len(reports(events, said)) == 1


def test_what_cannot_change_in_an_event_is_shared_and_not_copied() -> None:
    first, second = ListSink("first"), ListSink("second")
    events, _ = run_with(first, second)
    assert {"text_delta", "step_completed", "completed"} <= set(types(events))
    for seen in (first.events, second.events):
        assert all(event is shared for event, shared in zip(events, seen, strict=True))


class Vandal(ListSink):
    """Keeps what it saw, then changes in place what can be changed, and tries to change what is frozen."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.seen: list[str] = []

    def emit(self, event: Event) -> None:
        self.seen.append(event_to_json(event))
        if event.type in ("tool_started", "approval_requested"):
            event.arguments["to"]["names"].append(self.name)
            event.arguments["path"] = self.name
        elif event.type == "step_completed":
            for part in event.message.parts:
                if isinstance(part, ToolCallPart):
                    part.arguments["to"]["names"].append(self.name)
                if part.provider_data is not None:
                    part.provider_data.payload["signature"] = self.name
                if isinstance(part, TextPart):
                    self.assign(part, "text")
            self.assign(event.message, "parts")
        elif event.type == "text_delta":
            self.assign(event, "text_delta")
        elif event.type == "completed":
            self.assign(event.result, "final_text")
            event.result.output["names"] = self.name
        self.assign(event, "run_id")

    def assign(self, record: object, name: str) -> None:
        with pytest.raises(AttributeError):
            setattr(record, name, self.name)


class Send:
    """A run that calls a tool that has to be approved, streams, and answers by a schema."""

    def __init__(self) -> None:
        self.called_with: list[dict[str, Any]] = []
        self.store = MemoryStore()
        arguments = {"path": "a.txt", "to": {"names": ["Ada"]}}
        signed = ProviderData(provider="fake", api="chat", model="small", payload={"signature": "s"})
        wanted = Message(
            role=Role.ASSISTANT,
            parts=(
                TextPart(text="Sending.", provider_data=signed),
                ToolCallPart(id="c1", name="send", arguments=arguments, provider_data=signed),
            ),
        )
        self.model = Scripted(
            [TextDelta("Sending."), ModelResponse(message=wanted, finish_reason=FinishReason.TOOL_CALLS, usage=USAGE)],
            answer('{"names": ', '"Ada"}'),
        )

    def send(self, arguments: dict[str, Any]) -> str:
        self.called_with.append(arguments)
        return "sent"

    def run(self, *sinks: Sink, edit: Callable[[Event], None] = lambda event: None) -> list[str]:
        """Return the events as the reader gets them; `edit` is what the reader does with each."""
        schema = {"type": "object", "properties": {"path": {}, "to": {}}}
        send = Tool(name="send", description="Sends.", function=self.send, parameters=schema, approval="ask")
        chosen = agent(tools=[send], output_type={"type": "object"})

        async def run() -> list[str]:
            lines = []
            config = RunnerConfig(interaction_mode="external")
            async with runner_of(self.model, sinks=sinks, config=config, store=self.store) as runner:
                handle = await runner.run_stream(chosen, user_message="hi", thread_id="t")
                async for event in handle:
                    lines.append(event_to_json(event))
                    if event.type == "approval_requested":
                        await asyncio.gather(*(worker.flush() for worker in runner._sinks))
                        handle.decide(event.approval_id, "allow")
                    edit(event)
                assert handle.result.final_text == '{"names": "Ada"}'
                assert handle.result.output == {"names": "Ada"}
            return lines

        return asyncio.run(run())

    def check(self) -> None:
        """The tool, the model and the thread have what was sent and approved."""
        given = {"path": "a.txt", "to": {"names": ["Ada"]}}
        assert self.called_with == [given]
        thread = self.store.find("t")
        assert thread is not None
        sent = next(item for item in self.model.requests[1].messages if item.role is Role.ASSISTANT)
        saved = load_history(self.store, thread).turns[0].messages
        for message in (sent, saved[1]):
            assert message.text == "Sending."
            assert message.tool_calls[0].arguments == given
            payloads = [part.provider_data.payload for part in message.parts if part.provider_data]
            assert payloads == [{"signature": "s"}] * 2
        assert saved[-1].text == '{"names": "Ada"}'


def test_sinks_that_edit_events_change_neither_the_run_nor_what_others_see() -> None:
    sent, first, second = Send(), Vandal("first"), Vandal("second")
    lines = sent.run(first, second)
    sent.check()
    assert first.seen == second.seen == lines
    assert not any("first" in line or "second" in line for line in lines)


def test_a_reader_that_edits_events_changes_neither_the_run_nor_what_sinks_see() -> None:
    sent, sink = Send(), ListSink()
    lines = sent.run(sink, edit=Vandal("reader").emit)
    sent.check()
    assert [event_to_json(event) for event in sink.events] == lines


def test_a_tool_that_edits_its_arguments_changes_no_event_and_no_record() -> None:
    class Greedy(Send):
        def send(self, arguments: dict[str, Any]) -> str:
            super().send(own_copy(arguments))
            arguments["to"]["names"].clear()
            return "sent"

    sent, sink = Greedy(), ListSink()
    lines = sent.run(sink)
    sent.check()
    assert [event_to_json(event) for event in sink.events] == lines


@pytest.mark.parametrize(
    "value",
    [
        {"a": [{"b": ("c", [1])}]},
        Fork(key="k", name="n", turn=1),
        AgentResult(
            final_text="a",
            state=RunState.COMPLETED,
            reason=None,
            run_id="r",
            thread_id="t",
            usage=USAGE,
            total_cost_usd=0.5,
            steps=1,
            tool_executions=(),
            denied=0,
            model="m",
            output={"a": [1]},
        ),
    ],
)
def test_a_copy_is_equal_and_shares_no_container(value: Any) -> None:
    copied = own_copy(value)
    assert copied == value
    assert type(copied) is type(value)
    assert not _containers(copied) & _containers(value)


def _containers(value: Any) -> set[int]:
    """The identities of the dicts and lists in `value`, itself included; nothing else can be changed in place."""
    if is_dataclass(value):
        inner = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, (dict, list, tuple)):
        inner = list(value.values() if isinstance(value, dict) else value)
    else:
        return set()
    own = {id(value)} if isinstance(value, (dict, list)) else set()
    return own.union(*(_containers(item) for item in inner))

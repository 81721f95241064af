"""Sinks take every event in order on a thread of their own; one that fails, stalls or overflows is left out, once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from afkcli.core.contract.events import Event
from afkcli.core.contract.protocols import Sink
from afkcli.core.run import sink_worker as sink_thread
from afkcli.core.run.config import Wiring
from afkcli.core.run.sink_worker import SinkThread
from tests.core.scripted import Scripted, agent, answer, collect, runner_of, types


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


def test_every_sink_takes_every_event_in_order() -> None:
    first, second = ListSink("first"), ListSink("second")
    events, said = run_with(first, second, turns=2)
    assert first.events == events
    assert second.events == events
    assert said == []
    assert first.threads == {"afk-sink-first"}
    assert (first.closed, second.closed) == (1, 1)


@pytest.mark.parametrize("number", range(5))
def test_a_sink_that_raises_is_said_once_and_left_out(number: int) -> None:
    broken, good = ListSink("broken", fails_at=number), ListSink("good")
    events, said = run_with(broken, good, turns=2)
    assert types(events).count("completed") == 2
    assert [event for event in events if event.type == "completed"][-1].result.saved
    told = reports(events, said)
    assert len(told) == 1
    assert "'broken' is left out from here on: the pipe is full" in told[0]
    assert broken.events == good.events[:number]
    assert good.events == events


def test_a_sink_that_stalls_holds_nothing_up_and_is_left_out_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_thread, "FLUSH_SECONDS", 0.05)
    stalled = ListSink("stalled", stalls_at=1)
    events, said = run_with(stalled, turns=2)
    stalled.release.set()
    assert types(events).count("completed") == 2
    told = reports(events, said)
    assert len(told) == 1
    assert "'stalled' is left out" in told[0]


@pytest.mark.parametrize(("limit", "value"), [("MAX_QUEUED_EVENTS", 20), ("MAX_QUEUED_BYTES", 20_000)])
def test_a_sink_that_does_not_keep_up_is_left_out(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(sink_thread, limit, value)
    stalled = ListSink("stalled", stalls_at=0)
    events, said = run_with(stalled, pieces=["x" * 100] * 100)
    stalled.release.set()
    assert events[-1].type == "completed"
    told = reports(events, said)
    assert len(told) == 1
    assert "does not keep up" in told[0]
    assert [event.code for event in events if event.type == "warning"] == ["sink_left_out"]


def test_a_sink_of_no_run_is_closed_too() -> None:
    sink = ListSink()
    SinkThread(sink, lambda line: None).close()
    assert sink.closed == 1


def test_a_sink_that_fails_to_close_is_no_error() -> None:
    class Broken(ListSink):
        def close(self) -> None:
            raise OSError("gone")

    events, said = run_with(Broken())
    assert events[-1].type == "completed"
    assert said == []

"""What tools report while they run: progress and warnings become events, bounded, and only until the call has ended."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.events import Event, event_to_json
from afkcli.core.contract.tools import FoundTools, Tool, ToolContext, ToolError, as_tools, tool, tool_context
from afkcli.core.run import tool_reports
from afkcli.core.run.config import Wiring
from tests.core.scripted import Scripted, agent, answer, call, calls, events_of, types


def run(function: Any, **arguments: Any) -> list[Event]:
    """The events of a run that calls one tool once."""
    name = getattr(function, "name", None) or function.__name__
    model = Scripted(calls(call(name, **arguments)), answer("done"))
    return events_of(model, agent(tools=[function]))


def progress(events: Sequence[Event]) -> list[str]:
    return [event.message for event in events if event.type == "tool_progress"]


def warnings(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.code, event.message) for event in events if event.type == "warning"]


async def copy_files(files: int, context: ToolContext) -> str:
    """Copies files."""
    for number in range(files):
        context.progress(f"{number + 1} of {files}")
    context.warn("slow_disk", "the disk is slow")
    return f"{context.run_id} {context.thread_id} {context.tool_call_id}"


def copy_on_a_thread(files: int, context: ToolContext | None = None) -> str:
    assert context is not None
    for number in range(files):
        context.progress(f"{number + 1} of {files}")
    tool_context().warn("slow_disk", "the disk is slow")
    return f"{context.run_id} {context.thread_id} {context.tool_call_id}"


async def copy_by_the_current_context(files: int) -> str:
    return await copy_files(files, tool_context())


@pytest.mark.parametrize("function", [copy_files, copy_on_a_thread, copy_by_the_current_context])
def test_progress_and_warnings_are_events_between_start_and_end_of_the_call(function: Any) -> None:
    events = run(function, files=2)
    assert progress(events) == ["1 of 2", "2 of 2"]
    assert warnings(events) == [("slow_disk", "the disk is slow")]
    during = types(events)[types(events).index("tool_started") : types(events).index("tool_completed") + 1]
    assert during == ["tool_started", "tool_progress", "tool_progress", "warning", "tool_completed"]
    said = next(event for event in events if event.type == "tool_progress")
    assert (said.tool_name, said.tool_call_id) == (function.__name__, "c1")
    ended = next(event for event in events if event.type == "tool_completed")
    assert ended.tool_output == f"{said.run_id} t c1"
    assert [event.seq for event in events] == list(range(len(events)))


def test_the_line_of_json_of_progress() -> None:
    events = run(copy_files, files=1)
    form = json.loads(event_to_json(next(event for event in events if event.type == "tool_progress")))
    assert form["v"] == 1
    assert (form["type"], form["tool_name"], form["message"]) == ("tool_progress", "copy_files", "1 of 1")


def test_the_model_neither_sees_nor_sets_the_context() -> None:
    assert list(as_tools([copy_files])["copy_files"].spec.parameters["properties"]) == ["files"]
    events = run(copy_files, files=1, context={"run_id": "mine"})
    ended = next(event for event in events if event.type == "tool_completed")
    assert not ended.tool_success
    assert "context" in (ended.tool_error or "")


def test_a_tool_with_a_schema_of_its_own_gets_the_context_too() -> None:
    def function(arguments: dict[str, Any], context: ToolContext) -> str:
        context.progress(arguments["a"])
        return "done"

    made = Tool(name="f", description="", function=function, parameters={"type": "object"})
    assert progress(run(made, a="half")) == ["half"]


def test_a_list_of_contexts_is_not_a_context() -> None:
    def strange(contexts: list[ToolContext]) -> str:
        return ""

    with pytest.raises(UsageError, match="have no schema"):
        as_tools([strange])


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_flood_of_progress_is_cut_with_one_warning(asynchronous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_reports, "PROGRESS_PER_SECOND", 0)

    def flood(context: ToolContext) -> str:
        for number in range(20_000):
            context.progress(str(number))
        return "done"

    async def flood_in_the_loop(context: ToolContext) -> str:
        return flood(context)

    events = run(flood_in_the_loop if asynchronous else flood)
    assert progress(events) == [str(number) for number in range(tool_reports.PROGRESS_AT_ONCE)]
    assert [code for code, _ in warnings(events)] == ["progress_cut"]
    assert events[-1].type == "completed"


def test_a_flood_of_warnings_is_cut() -> None:
    def flood(context: ToolContext) -> str:
        for _ in range(20_000):
            context.warn("odd", "x" * 10_000)
        return "done"

    said = warnings(run(flood))
    assert len(said) == tool_reports.MAX_WARNINGS
    assert {len(message) for _, message in said} == {tool_reports.MAX_CHARS + 3}


def test_a_secret_is_not_in_progress() -> None:
    def leak(context: ToolContext) -> str:
        context.progress("the key is sk-1")
        context.warn("odd", "the key is sk-1")
        return "done"

    model = Scripted(calls(call("leak")), answer("done"))
    wiring = Wiring(redact=lambda text: text.replace("sk-1", "***"))
    events = events_of(model, agent(tools=[leak]), wiring=wiring)
    assert progress(events) == ["the key is ***"]
    assert warnings(events) == [("odd", "the key is ***")]


def test_after_the_call_has_ended_reports_do_nothing() -> None:
    kept: list[ToolContext] = []
    ended = threading.Event()

    def late(context: ToolContext) -> str:
        ended.wait()  # it cannot be stopped, and reports when its call has timed out
        for _ in range(100):
            context.progress("too late")
            context.warn("late", "too late")
        return "late"

    async def keep(context: ToolContext) -> str:
        kept.append(context)
        return "kept"

    async def report(context: ToolContext) -> str:
        ended.set()
        kept[0].progress("not mine")
        kept[0].warn("late", "not mine")
        await asyncio.sleep(0.05)
        context.progress("mine")
        return "done"

    model = Scripted(calls(call("late", "1"), call("keep", "2")), calls(call("report", "3")), answer("done"))
    tools = [tool(timeout_s=0.01)(late), keep, report]
    events = events_of(model, agent(tools=tools))
    assert progress(events) == ["mine"]
    assert warnings(events) == []
    kept[0].progress("after the run and its event loop")
    kept[0].warn("late", "after the run and its event loop")


def test_parallel_calls_report_under_their_own_ids() -> None:
    async def work(item: str) -> str:
        tool_context().progress(item)
        await asyncio.sleep(0)
        tool_context().progress(item)
        return item

    model = Scripted(calls(*(call("work", id_, item=id_) for id_ in "abc")), answer("done"))
    events = events_of(model, agent(tools=[work]))
    said = [(event.tool_call_id, event.message) for event in events if event.type == "tool_progress"]
    assert sorted(said) == [("a", "a"), ("a", "a"), ("b", "b"), ("b", "b"), ("c", "c"), ("c", "c")]


def test_outside_a_run_the_context_does_nothing() -> None:
    context = tool_context()
    assert (context.run_id, context.thread_id, context.tool_call_id) == ("", "", "")
    context.progress("half")
    context.warn("odd", "a warning")
    assert asyncio.run(as_tools([copy_files])["copy_files"].call({"files": 3})) == "  "


def test_a_toolset_can_warn_while_it_lists_its_tools() -> None:
    kept: list[ToolContext] = []

    async def find(names: Sequence[str]) -> FoundTools:
        context = tool_context()
        kept.append(context)
        assert context.thread_id == "t"
        assert context.tool_call_id == ""
        context.progress("listing")
        for _ in range(500):
            context.warn("server_odd", "the server is odd")
        return [Tool(name="x.f", description="", function=late)], []

    def late() -> str:
        kept[0].warn("server_odd", "the lookup is over")
        raise ToolError("no")

    model = Scripted(calls(call("x.f")), answer("done"))
    events = events_of(model, agent(tools=["x.f"]), wiring=Wiring(find_tools=find))
    assert types(events)[:2] == ["run_started", "warning"]
    assert warnings(events) == [("server_odd", "the server is odd")] * tool_reports.MAX_WARNINGS
    assert progress(events) == []

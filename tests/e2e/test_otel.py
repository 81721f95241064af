"""The sink for OpenTelemetry by the installed `afk`: what a receiver gets, and what a run without one costs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Finished, Shell, kill
from tests.telemetry import Span, Tap, receiving, tapped, wait_until

PLUGIN = '''
"""Tools that wait for the sink, and say on which thread its SDK was imported."""
import sys
import threading
import time

from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "garden"
importers = []


class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "opentelemetry.sdk":
            importers.append(threading.current_thread().name)
        return None


sys.meta_path.insert(0, Watch())


@tool(name="garden.wait", changes=False)
def wait() -> str:
    deadline = time.monotonic() + 100
    while "OtelPeriodicExportingMetricReader" not in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return "canary-result " + ",".join(importers)


@tool(name="garden.loaded", changes=False)
def loaded() -> str:
    return "imported: " + ",".join(name for name in sys.modules if name in ("opentelemetry.sdk", "afk_sink_otel"))


@tool(name="garden.write")
def write() -> str:
    return "written"


@hookimpl
def afk_tools(settings):
    return [wait, loaded, write]
'''


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[Tap]:
    with tapped(tmp_path / "received") as tap:
        yield tap


@pytest.fixture
def garden(keyed: Shell) -> Shell:
    (keyed.folder / "garden.py").write_text(PLUGIN)
    return keyed


def config(shell: Shell, url: str, more: str = "") -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[sinks.otel]\nendpoint = "{url}"\n{more}')


def calls(name: str = "wait", id_: str = "c1") -> Step:
    return Step(tool_calls=[ScriptedCall(name=f"garden__{name}", id=id_)])


def ask(shell: Shell, *arguments: str, **env: str) -> Finished:
    done = shell.afk("run", "--plugin", "garden.py", "--tool", "garden.*", *arguments, "canary-question", **env)
    assert done.code == 0, done.err
    return done


def trees(spans: list[Span]) -> dict[str, list[str]]:
    """Return the names of the spans below each run, by the id of the run's span."""
    runs = [span for span in spans if span.name.startswith("invoke_agent")]
    return {run.id: [span.name for span in spans if span.parent == run.id and span.trace == run.trace] for run in runs}


def test_a_run_that_uses_a_tool_is_sent(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    server.script(calls(), Step(text="canary-answer"))
    done = ask(garden, "-t", "canary-thread")

    assert (done.out, done.err.replace("\r", "")) == ("canary-answer\n", done.err)
    assert "otel" not in done.err
    model = "chat gpt-5.2-mini"
    assert list(trees(tap.wait_for("invoke_agent afk")).values()) == [[model, "execute_tool garden.wait", model]]
    assert tap.metrics("gen_ai.invoke_agent.duration")["gen_ai.invoke_agent.duration"][0]["count"] == 1
    assert "canary" not in tap.output.read_text()


def test_the_sdk_is_imported_on_the_thread_of_the_sink(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    server.script(calls(), Step(text="done"))
    ask(garden, "-n")

    assert server.bodies[-1]["messages"][-1]["content"] == "canary-result afk-sink-otel"


@pytest.mark.parametrize("table", ["", "[sinks.otel]\nenabled = false\n"])
def test_nothing_of_it_is_imported_unless_it_is_switched_on(garden: Shell, server: ModelServer, table: str) -> None:
    garden.cold = True
    config(garden, "http://127.0.0.1:1")
    (garden.home / "afk" / "config" / "config.toml").write_text(table)
    server.script(calls("loaded"), Step(text="done"))
    ask(garden, "-n")

    assert server.bodies[-1]["messages"][-1]["content"] == "imported: "


def test_the_sdk_is_not_imported_when_it_is_disabled(garden: Shell, server: ModelServer) -> None:
    garden.cold = True
    config(garden, "http://127.0.0.1:1")
    server.script(calls("loaded"), Step(text="done"))
    done = ask(garden, "-n", OTEL_SDK_DISABLED="true")

    assert server.bodies[-1]["messages"][-1]["content"] == "imported: afk_sink_otel"
    assert "otel" not in done.err


@pytest.mark.parametrize("failure", ["down", "500", "slow"])
def test_a_receiver_that_fails_costs_one_line(garden: Shell, server: ModelServer, failure: str) -> None:
    server.script(calls(), Step(text="done"))
    with receiving(status=500 if failure == "500" else 200, hangs=failure == "slow") as receiver:
        config(garden, "http://127.0.0.1:1" if failure == "down" else receiver.url)
        done = ask(garden, "-n")

    assert done.out == "done\n"
    of_every_run = ("afk: thread ", "afk: tool ")
    lines = [line for line in done.err.splitlines() if not line.startswith(of_every_run)]
    assert [line.startswith("afk: the sink 'otel' ") for line in lines] == [True], done.err


def test_settings_of_the_environment_come_first(garden: Shell, server: ModelServer) -> None:
    server.script(calls(), Step(text="done"))
    config(garden, "http://127.0.0.1:1", 'headers = "x-key=theirs"\nservice_name = "theirs"\n')
    with receiving() as receiver:
        ask(
            garden,
            "-n",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-key=canary-header",
            OTEL_SERVICE_NAME="garden",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=shed",
        )

    for resource in receiver.resources():
        assert (resource["service.name"], resource["deployment.environment.name"]) == ("garden", "shed")
    assert {headers["x-key"] for headers in receiver.headers} == {"canary-header"}


def test_headers_are_masked_in_the_config(garden: Shell) -> None:
    config(garden, "http://127.0.0.1:1", 'headers = "x-key=canary-header"\n')
    shown = garden.afk("config", "show")

    assert "sinks.otel.headers" in shown.out
    assert "canary-header" not in shown.out


def test_a_wrong_endpoint_is_named_before_anything_is_sent(garden: Shell, server: ModelServer) -> None:
    config(garden, "localhost:4318")
    done = garden.afk("run", "-n", "hi")

    assert done.code == 2
    assert "[sinks.otel] endpoint is not a URL that begins with http:// or https://" in done.err
    assert server.requests == []


def test_a_run_of_a_traced_script_is_a_child_of_its_span(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    server.script(calls(), Step(text="done"))
    ask(garden, "-n", TRACEPARENT=f"00-{'a' * 32}-{'b' * 16}-01")

    [run] = [span for span in tap.wait_for("invoke_agent afk") if span.name == "invoke_agent afk"]
    assert (run.trace, run.parent) == ("a" * 32, "b" * 16)


def test_two_processes_at_once_have_traces_of_their_own(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    server.script(calls(), calls(), Step(text="done"))
    run = ("run", "--plugin", "garden.py", "--tool", "garden.*", "-n", "canary-question")
    processes = [garden.start(*run) for _ in range(2)]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err

    found = trees(tap.spans())
    assert len(found) == 2
    assert all("execute_tool garden.wait" in names for names in found.values())
    assert len({span.trace for span in tap.spans()}) == 2


def test_decisions_on_calls_are_events_of_the_run(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    server.script(calls(), calls("write", "c2"), Step(text="done"))
    done = ask(garden, "-n")

    assert "denied" in done.err
    [run] = [span for span in tap.wait_for("invoke_agent afk") if span.name == "invoke_agent afk"]
    decisions = [event for name, event in run.events if name == "afk.approval.resolved"]
    assert [(event["afk.approval.decision"], event["afk.approval.by"]) for event in decisions] == [("deny", "headless")]
    [denied] = [span for span in tap.spans() if span.name == "execute_tool garden.write"]
    assert denied.attributes["error.type"] == "tool_error"


def test_a_killed_run_leaves_the_spans_that_had_ended(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    garden.env["OTEL_BSP_SCHEDULE_DELAY"] = "20"
    server.script(calls(), Step(fault=Fault.HANG, text="a"), Step(text="done"))
    run = ("run", "--plugin", "garden.py", "--tool", "garden.*", "-t", "t", "canary-question")
    process = garden.start(*run)
    chat, *_ = tap.wait_for("execute_tool garden.wait")
    kill(process)
    assert trees(tap.spans()) == {}

    server.script(calls(), Step(text="done"))
    ask(garden, "-t", "t")
    [second] = [span for span in tap.wait_for("invoke_agent afk") if span.name == "invoke_agent afk"]
    assert second.trace != chat.trace
    assert second.attributes["gen_ai.conversation.id"] == chat.attributes["gen_ai.conversation.id"]


def test_a_cancelled_run_ends_its_spans(garden: Shell, server: ModelServer, tap: Tap) -> None:
    config(garden, tap.url)
    server.script(calls(), Step(fault=Fault.HANG_BEFORE_HEADERS))
    run = ("run", "--plugin", "garden.py", "--tool", "garden.*", "-n", "canary-question")
    process = garden.start(*run)
    wait_until(lambda: len(server.requests) == 2)
    kill(process, signal.SIGINT)

    spans = tap.wait_for("invoke_agent afk")
    errors = [span.attributes.get("error.type") for span in spans]
    assert errors == ["cancelled", None, None, "cancelled"]

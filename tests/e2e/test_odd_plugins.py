"""Plugins that exit, print or break in the middle of a run: the answer, stdout and the exit code stay afk's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell

PROVIDER = """
import sys
from afkcli import hookimpl
from afkcli.plugin import BaseProvider, FinishReason, ModelResponse, Role, TextDelta, text_message

AFK_HOOKS = 1

class Provider(BaseProvider):
    name, default_model = "odd", "m"
    async def prepare(self):
        {prepare}
    async def stream(self, request):
        {stream}
        print("printed by the plugin")
        yield TextDelta("fine")
        yield ModelResponse(text_message(Role.ASSISTANT, "fine"), FinishReason.STOP)

@hookimpl
def afk_provider(): return Provider()
"""
STORE = """
from afkcli import MemoryStore
from afkcli.hookspecs import hookimpl

AFK_HOOKS = 1

class Store(MemoryStore):
    def append(self, thread, records, *rest):
        if records[0].kind == "{kind}":
            raise SystemExit(9)
        super().append(thread, records, *rest)

@hookimpl
def afk_store(): return Store()
"""
SINK = """
from afkcli.hookspecs import hookimpl

AFK_HOOKS = 1

class Sink:
    name = "odd"
    def emit(self, event):
        print("printed by the sink")
        raise SystemExit(0)
    def close(self): pass

@hookimpl
def afk_sink(): return Sink()
"""

TOOL = """
import os
from afkcli import hookimpl, tool

AFK_HOOKS = 1

@tool(name="odd.noise", changes=False)
def noise() -> str:
    {does}
    return "quiet"

@hookimpl
def afk_tools(): return [noise]
"""


def plugin(shell: Shell, text: str, name: str = "odd") -> str:
    path = shell.folder.parent / f"{name}.py"
    path.write_text(text)
    return str(path)


def provider(shell: Shell, *, prepare: str = "pass", stream: str = "pass") -> str:
    return plugin(shell, PROVIDER.format(prepare=prepare, stream=stream))


def test_what_a_provider_prints_is_not_on_stdout(shell: Shell) -> None:
    done = shell.afk("run", "--json", "-t", "t", "-m", "odd/m", "--plugin", provider(shell), "hi")

    assert done.code == 0
    assert done.types()[-1] == "completed"
    assert "printed by the plugin" in done.err


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("sys.exit(0)", "the provider 'odd' failed: SystemExit: 0"),
        ("raise KeyError('choices')", "the provider 'odd' failed: KeyError: 'choices'"),
    ],
)
def test_a_provider_that_breaks_is_named_and_the_code_is_1(shell: Shell, stream: str, said: str) -> None:
    done = shell.afk("run", "-t", "t", "-m", "odd/m", "--plugin", provider(shell, stream=stream), "hi")

    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert json.loads(shell.afk("threads", "show", "--json", "t").out)["state"] == "failed"


def test_a_provider_that_cannot_be_prepared_is_still_asked(shell: Shell) -> None:
    done = shell.afk("run", "-t", "t", "-m", "odd/m", "--plugin", provider(shell, prepare="sys.exit(3)"), "hi")

    assert (done.code, done.out) == (0, "fine\n")


@pytest.mark.parametrize(("kind", "code"), [("question", 1), ("journal", 0), ("seal", 1)])
def test_a_store_that_exits_does_not_cost_the_answer(keyed: Shell, kind: str, code: int) -> None:
    store = plugin(keyed, STORE.format(kind=kind), "exits")

    done = keyed.afk("run", "-t", "t", "--plugin", store, "hi", AFK_STORE="exits")

    assert (done.code, done.out) == (code, "reply 1: hi\n")
    if code:
        assert "not saved" in done.err
        rescued = next((keyed.home / "afk" / "state" / "rescue").iterdir())
        assert str(rescued) in done.err


def test_a_sink_that_exits_and_prints_is_left_out(keyed: Shell) -> None:
    done = keyed.afk("run", "-t", "t", "--plugin", plugin(keyed, SINK), "hi")

    assert (done.code, done.out) == (0, "reply 1: hi\n")
    assert "the sink 'odd' is left out from now on: SystemExit(0)" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-cost", "nan"], "--max-cost"),
        (["--timeout", "nan"], "--timeout"),
        (["--busy-timeout", "-1"], "--busy-timeout"),
        (["--json", "--final"], "--json and --final"),
    ],
)
def test_limits_that_are_none_are_refused(keyed: Shell, arguments: list[str], said: str) -> None:
    done = keyed.afk("run", "-t", "t", *arguments, "hi")

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[options]\ntemperature = nan", "line 2: 'options.temperature' must be a number from 0 to 2"),
        ("[extra]\nday = 1979-01-01", "line 2: 'extra.day' cannot be sent"),
        ("[extra]\nmessages = []", "line 2: 'extra.messages' cannot be set here"),
        ("busy_timeout = nan", "busy_timeout in the config must be 0 or more seconds (got nan)"),
    ],
)
def test_a_config_that_cannot_be_sent_is_named(keyed: Shell, config: str, said: str) -> None:
    path: Path = keyed.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(config)

    done = keyed.afk("run", "-t", "t", "hi")

    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("does", ["os.system('echo by a program')", "os.write(1, b'to descriptor 1')", "os.close(1)"])
def test_what_a_tool_does_with_stdout_does_not_touch_the_answer(keyed: Shell, server: ModelServer, does: str) -> None:
    server.script(Step(tool_calls=[ScriptedCall(name="odd__noise")]), Step(text="Done."))
    done = keyed.afk("run", "--plugin", plugin(keyed, TOOL.format(does=does)), "--tool", "odd.noise", "hi")
    assert (done.code, done.out) == (0, "Done.\n")


CLOSING = """
from afkcli import MemoryStore
from afkcli.hookspecs import hookimpl
from afkcli.plugin import BaseProvider, FinishReason, ModelResponse, Role, TextDelta, text_message

AFK_HOOKS = 1

class Sink:
    name = "closing"
    def emit(self, event): pass
    def close(self): {sink}

class Provider(BaseProvider):
    name, default_model = "closing", "m"
    async def stream(self, request):
        yield TextDelta("fine")
        yield ModelResponse(text_message(Role.ASSISTANT, "fine"), FinishReason.STOP)
    async def aclose(self): {provider}

class Store(MemoryStore):
    def close(self): {store}

@hookimpl
def afk_sink(): return Sink()

@hookimpl
def afk_provider(): return Provider()

@hookimpl
def afk_store(): return Store()
"""


@pytest.mark.parametrize("error", ['OSError("gone")', "SystemExit(9)"])
@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("sink", "the sink 'closing' could not be closed: {}; its last events may be missing"),
        ("provider", "the provider 'closing' could not be closed: {}"),
        ("store", "the store could not be closed: {}"),
    ],
)
def test_a_plugin_that_cannot_be_closed_is_named_and_the_answer_counts(
    shell: Shell, part: str, line: str, error: str
) -> None:
    (shell.folder / "closing.py").write_text(
        CLOSING.format(**{**dict.fromkeys(("sink", "provider", "store"), "pass"), part: f"raise {error}"})
    )
    done = shell.afk("run", "--plugin", "closing.py", "-m", "closing/m", "hi", AFK_STORE="closing")
    assert (done.code, done.out) == (0, "fine\n"), done.err
    assert done.err.count(line.format("gone" if "gone" in error else error)) == 1
    assert "something went wrong" not in done.err

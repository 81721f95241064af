"""Runs of the installed `afk` with the tools of an MCP server: a real process, scripted to misbehave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Finished, Shell

SCRIPT = Path(__file__).parents[2] / "plugins" / "tools_mcp" / "tests" / "scripted_server.py"


class Garden(Shell):
    """A shell whose config has the scripted server as `s`."""

    def configure(self, *, at_start: str = "well", lists: str = "usual", more: str = "", extra: str = "") -> None:
        args = ["-u", str(SCRIPT), "--at-start", at_start, "--list", lists, "--note", str(self.home / "notes")]
        table = f"[tools.mcp.servers.s]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps(args)}\n{more}\n"
        path = self.home / "afk" / "config" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table + extra)

    @property
    def notes(self) -> list[str]:
        file = self.home / "notes"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def pids(self) -> list[int]:
        file = self.home / "notes.pids"
        return sorted(set(map(int, file.read_text().split()))) if file.exists() else []

    def tools(self, *arguments: str) -> Finished:
        done = self.afk("run", "-t", "t", "--tool", "s.*", *arguments, "Go")
        assert not self.left(), f"left: {self.left()}"
        return done

    def left(self) -> list[int]:
        """Return the server's processes that run."""
        return [pid for pid in self.pids if _runs(pid)]


@pytest.fixture
def garden(keyed: Shell) -> Garden:
    made = Garden(home=keyed.home, folder=keyed.folder, env=keyed.env)
    made.configure()
    return made


def calls(*names: str, **arguments: Any) -> Step:
    return Step(tool_calls=[ScriptedCall(name=f"s__{name}", arguments=arguments, id=name) for name in names])


def completed(done: Finished) -> dict[str, str]:
    """Return what the calls brought, by their ids: the output or the error."""
    events = [event for event in done.events if event["type"] == "tool_completed"]
    return {event["tool_call_id"]: event["tool_output"] or event["tool_error"] for event in events}


def test_a_read_only_tool_is_called_and_another_one_denied(garden: Garden, server: ModelServer) -> None:
    garden.configure(more='read_only = ["slow"]')
    server.script(calls("slow", "spawn"), Step(text=["done"]))

    done = garden.tools()

    assert (done.code, done.out) == (0, "done\n")
    assert "afk: tool s.slow ok" in done.err
    assert "afk: s.spawn was denied: no one can be asked here, and no rule allows it" in done.err
    assert "call spawn" not in garden.notes
    result = server.requests[1].body["messages"][-2]
    assert result["role"] == "tool"
    assert "slow " in json.dumps(result["content"])


def test_a_pinned_rule_allows_a_tool_until_the_server_changes_it(garden: Garden, server: ModelServer) -> None:
    garden.configure(lists="changing")
    shown = garden.afk("tools", "show", "s.echo", "--json")
    pin = json.loads(shown.out)["fingerprint"]
    rule = f'[[approvals.rules]]\ntool = "s.*"\ndecision = "allow"\npin = "{pin}"\n'
    garden.configure(lists="changing", extra=rule)
    call = calls("echo", text="hello")
    server.script(call, Step(text=["done"]), call, Step(text=["done"]))

    second = garden.tools("--json")  # the server changes with this start: the rule fits, the call is refused
    third = garden.tools("--json")  # the list is the new one: the rule does not fit

    assert "changed the tool 'echo' since its list was read" in completed(second)["echo"]
    (denied,) = completed(third).values()  # by an id of its own: the server gave that of the turn before again
    assert denied.startswith("denied: ")
    warnings = [event["message"] for event in third.events if event["type"] == "warning"]
    assert any("it has changed since a rule allowed it" in line for line in warnings)
    assert "call echo" not in garden.notes


def test_a_pinned_rule_allows_a_tool_that_is_as_it_was(garden: Garden, server: ModelServer) -> None:
    pin = json.loads(garden.afk("tools", "show", "s.echo", "--json").out)["fingerprint"]
    garden.configure(extra=f'[[approvals.rules]]\ntool = "s.echo"\ndecision = "allow"\npin = "{pin}"\n')
    server.script(calls("echo", text="hello"), Step(text=["done"]))

    assert completed(garden.tools("--json")) == {"echo": "you said hello"}


def test_a_run_that_calls_no_tool_starts_no_server_once_the_list_is_kept(garden: Garden, server: ModelServer) -> None:
    garden.tools()
    garden.tools()

    assert garden.notes == ["start", "list"]
    assert len(server.requests[1].body["tools"]) > 10


def test_the_turns_of_a_chat_share_one_server(garden: Garden, server: ModelServer) -> None:
    garden.configure(more='read_only = ["slow"]')
    server.script(calls("slow"), Step(text="one"), calls("slow"), Step(text="two"))
    done = garden.afk("chat", "-t", "t", "--tool", "s.*", stdin=b"first\nsecond\n")

    assert (done.code, done.out) == (0, "one\ntwo\n")
    assert garden.notes.count("start") == 1
    assert garden.notes.count("call slow") == 2
    assert not garden.left()


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"at_start": "die"}, "the MCP server 's' ended (exit code 7); its stderr ends with: the database is locked"),
        (
            {"at_start": "hang", "more": "start_timeout = 1"},
            "the MCP server 's' did not start and list its tools",
        ),
        ({"lists": "huge"}, "the MCP server 's' lists more tools than afk takes"),
        ({"lists": "endless"}, "the MCP server 's' lists no tools, and its list of tools does not come to an end"),
    ],
)
def test_a_server_that_cannot_be_listed_does_not_take_the_run_down(
    garden: Garden, server: ModelServer, kinds: dict[str, str], said: str
) -> None:
    garden.configure(**kinds)
    server.script(Step(text=["on I go"]))

    done = garden.tools()

    assert (done.code, done.out) == (0, "on I go\n")
    (line,) = [line for line in done.err.splitlines() if "MCP" in line]
    assert line.startswith(f"afk: {said}")
    assert line.endswith("; the run continues without the tools of s")


def test_servers_that_die_and_flood_in_calls_do_not_take_the_run_down(garden: Garden, server: ModelServer) -> None:
    names = ["big", "endless_stderr", "endless_notifications", "die", "malformed", "error", "notify"]
    garden.configure(more=f"read_only = {json.dumps(names)}")
    server.script(*(calls(name) for name in names), Step(text=["done"]))

    done = garden.tools("--json")

    assert done.code == 0
    said = completed(done)
    assert said["notify"] == "done"
    assert said["endless_stderr"] == "said a lot"
    for name in ("big", "endless_notifications", "die", "malformed", "error"):
        assert "the MCP server 's'" in said[name]
        assert "\n" not in said[name]
    assert done.events[-1]["result"]["final_text"] == "done"
    assert len(done.err) < 2000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_a_call_leaves_no_process(garden: Garden, server: ModelServer, number: signal.Signals) -> None:
    garden.configure(at_start="ignoring_sigterm", more='read_only = ["spawn_and_hang"]')
    server.script(calls("spawn_and_hang"))
    process = garden.start("run", "-t", "t", "--tool", "s.*", "Go")
    deadline = time.monotonic() + LIMIT
    while len(garden.pids) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)

    process.send_signal(number)
    process.communicate(timeout=LIMIT)

    assert process.returncode == -number
    assert len(garden.pids) == 2
    assert not garden.left()


def test_a_time_limit_in_a_call_leaves_no_process(garden: Garden, server: ModelServer) -> None:
    garden.configure(more='read_only = ["spawn_and_hang"]')
    garden.tools()  # so that the limit meets the call
    server.script(calls("spawn_and_hang"))

    assert garden.tools("--timeout", "8").code == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            'url = "http://127.0.0.1:1/mcp"',
            "it needs `command` (a program) or `url` (an HTTP server), and not both",
        ),
        ("comand = 1", "[tools.mcp.servers.s] has the unknown key 'comand'; did you mean 'command'?"),
        ("timeout = -1", "[tools.mcp.servers.s] is not usable: `timeout` is -1"),
        ('env = { API_KEY = "canary-0123456789", PORT = 80 }', "`env` PORT must be a text; put its value into quotes"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_2(garden: Garden, server: ModelServer, more: str, said: str) -> None:
    garden.configure(more=more)

    done = garden.tools()

    assert done.code == 2
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("afk: ")
    assert said in line
    assert "canary" not in line
    assert not server.requests


def test_a_server_with_the_name_of_a_tool_plugin_is_refused(garden: Garden, server: ModelServer) -> None:
    garden.configure(extra='[tools.mcp.servers.shell]\ncommand = "shell-mcp"\n')

    done = garden.tools()

    assert done.code == 2
    assert done.err == "afk: 'shell' is the name of a tool plugin; rename the server\n"


def test_names_that_no_server_has_are_said(garden: Garden, server: ModelServer) -> None:
    unknown = garden.afk("run", "--tool", "plants.*", "Go")
    plugin = garden.afk("run", "-t", "t", "--tool", "mcp.echo", "Go")
    tool = garden.afk("run", "-t", "t", "--tool", "s.nope", "Go")

    assert unknown.code == 2
    assert "no plugin and no server has tools named 'plants.*'" in unknown.err
    assert plugin.code == 0
    assert "no MCP server is named 'mcp' in [tools.mcp.servers] (servers: s)" in plugin.err
    assert tool.code == 0
    assert "there is no tool 's.nope'; the run continues without it" in tool.err


def test_tools_that_are_left_out_are_said_in_one_line_each(garden: Garden) -> None:
    garden.configure(lists="odd")

    first, second = garden.afk("tools"), garden.afk("tools")

    assert "s.good" in first.out
    lines = first.err.splitlines()
    assert len([line for line in lines if line.startswith("afk: the MCP server 's': the tool ")]) == 5
    assert "\x1b" not in first.err
    assert "left out: its" not in second.err  # they were said when the list was read


def test_a_fault_of_a_server_is_a_warning_event_of_the_run(garden: Garden, server: ModelServer) -> None:
    garden.configure(more='read_only = ["nope"]')
    server.script(Step(tool_calls=[ScriptedCall(name="s__echo", arguments={"text": "a"})]), Step(text="Done."))

    done = garden.afk("run", "--json", "-t", "t", "--tool", "s.echo", "Go")

    warnings = [event for event in done.events if event["type"] == "warning" and event["code"] == "mcp_server"]
    line = "the MCP server 's': `read_only` names the tool 'nope', which the server does not have"
    assert [event["message"] for event in warnings] == [line]
    assert done.types()[-1] == "completed"


def test_the_server_of_a_project_counts_only_after_trust(garden: Garden, server: ModelServer) -> None:
    config = garden.home / "afk" / "config" / "config.toml"
    project = garden.folder / "afk.toml"
    project.write_text(config.read_text())
    project.chmod(0o644)
    config.write_text("")

    before = garden.afk("run", "--tool", "s.*", "Go")
    assert before.code == 2
    assert "no plugin and no server has tools named 's.*'" in before.err
    assert garden.notes == []

    assert garden.afk("trust").code == 0
    assert garden.tools().code == 0
    assert garden.notes == ["start", "list"]


def test_a_key_is_shown_nowhere(garden: Garden, server: ModelServer) -> None:
    env = 'env = { SERVICE_TOKEN = "canary-0123456789", LEVEL = "${MY_KEY}" }'
    garden.configure(more=f'{env}\nread_only = ["die"]')
    server.script(calls("die"), Step(text=["done"]))
    garden.env["MY_KEY"] = "canary-9876543210"

    shown = garden.afk("config", "show")
    done = garden.tools("--json")

    for text in (shown.out, shown.err, done.out, done.err):
        assert "canary" not in text
    assert "SERVICE_TOKEN" in shown.out


def test_a_key_in_the_address_of_a_server_is_shown_nowhere(shell: Shell, server: ModelServer) -> None:
    url = "http://127.0.0.1:9/mcp?api_key=canary-01%2B23&region=europe"  # the port of a service that is not running
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[providers.openai]\nbase_url = "{server.base_url}"\n[tools.mcp.servers.web]\nurl = "{url}"\n')
    server.script(Step(text=["done"]))

    shown = shell.afk("config", "show")
    done = shell.afk("run", "-m", "openai/m", "--tool", "web.*", "go")

    assert "http://127.0.0.1:9/mcp?api_key=***&region=europe" in shown.out
    assert "the connection to the MCP server 'web' at http://127.0.0.1:9/mcp?api_key=***&region=europe" in done.err
    for text in (shown.out, shown.err, done.out, done.err, *map(str, shell.log())):
        assert "canary" not in text


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:
        return not Path("/proc/self").exists()
    return state != b"Z"

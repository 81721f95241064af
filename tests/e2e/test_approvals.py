"""Tool calls of a command-line run, and who decides on them: rules, a person at a terminal, or a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import Fault, ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import AFK, LIMIT, Finished, Shell, kill

PLUGIN = '''
"""Tools that write down that they ran."""
from pathlib import Path

from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "pen"


@tool(name="pen.write", description="Writes a line.")
def write(text: str) -> str:
    with Path("written.txt").open("a") as file:
        file.write(text + "\\n")
    return f"wrote {text}"


@tool(name="pen.read", changes=False)
def read() -> str:
    return Path("written.txt").read_text()


@hookimpl
def afk_tools(settings):
    return [write, read]
'''

ASKED = "afk: run pen.write: [y]es, [n]o, [a]lways here, [p]attern, [v]iew, [?] "


@pytest.fixture
def pen(keyed: Shell) -> Shell:
    (keyed.folder / "pen.py").write_text(PLUGIN)
    return keyed


def config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def wants(*texts: str, name: str = "pen.write") -> Step:
    """A step that asks to write each of `texts`; on the wire a tool's name has no point."""
    calls = [ScriptedCall(name=name.replace(".", "__"), arguments={"text": text}, id=f"c{text}") for text in texts]
    return Step(tool_calls=calls)


def written(shell: Shell) -> list[str]:
    path = shell.folder / "written.txt"
    return path.read_text().split() if path.exists() else []


RUN = ("run", "--plugin", "pen.py", "--tool", "pen.*", "-t", "t")


def run(shell: Shell, *arguments: str, stdin: bytes | None = None) -> Finished:
    return shell.afk(*RUN, *arguments, "Write", stdin=stdin)


class TestWithoutAPerson:
    def test_a_tool_that_may_change_something_is_denied_and_stderr_names_the_options(
        self, pen: Shell, server: ModelServer
    ) -> None:
        server.script(wants("a"), Step(text="Sorry."))
        done = run(pen)
        assert (done.code, done.out, written(pen)) == (0, "Sorry.\n", [])
        assert "pen.write was denied: no one can be asked here, and no rule allows it; see `afk tools show" in done.err
        assert "denied: this call was not approved" in json.dumps(server.bodies[1])

    def test_fail_on_denied_exits_with_code_6(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), Step(text="Sorry."), Step(text="Hello."))
        assert run(pen, "--fail-on-denied").code == 6
        assert run(pen, "--fail-on-denied").code == 0

    def test_a_read_only_tool_runs_without_approval(self, pen: Shell, server: ModelServer) -> None:
        (pen.folder / "written.txt").write_text("seen")
        server.script(Step(tool_calls=[ScriptedCall(name="pen__read")]), Step(text="Read."))
        assert run(pen).code == 0
        assert '"seen"' in json.dumps(server.bodies[1])

    def test_an_agent_has_only_the_tools_that_it_names(self, pen: Shell, server: ModelServer) -> None:
        pen.afk("run", "--plugin", "pen.py", "Hello")
        assert "tools" not in server.bodies[0]
        config(pen, '[agents.writer]\ntools = ["pen.read"]\n')
        pen.afk("run", "--plugin", "pen.py", "-a", "writer", "Hello")
        assert [tool["function"]["name"] for tool in server.bodies[1]["tools"]] == ["pen__read"]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("pen.wirte", "there is no tool 'pen.wirte' (tools of pen: pen.write, pen.read)"),
            ("pencil.write", "no plugin and no server has tools named 'pencil.*'"),
            ("write", "invalid tool name"),
        ],
    )
    def test_an_unknown_or_invalid_tool_is_refused_before_the_run(
        self, pen: Shell, server: ModelServer, name: str, said: str
    ) -> None:
        done = pen.in_process("run", "--plugin", "pen.py", "--tool", name, "Hello")
        assert (done.code, done.out, server.requests) == (2, "", [])
        assert said in done.err


def test_a_configured_but_missing_tool_plugin_is_named(pen: Shell, server: ModelServer) -> None:
    config(pen, '[tools.pencils.servers.one]\ncommand = "pencils"\n')
    done = pen.in_process("run", "--tool", "one.draw", "Hello")
    assert (done.code, server.requests) == (2, [])
    assert "there is no tool plugin 'pencils'" in done.err


class TestRules:
    def test_the_first_that_fits_decides(self, pen: Shell, server: ModelServer) -> None:
        config(
            pen,
            '[[approvals.rules]]\ntool = "pen.*"\narguments = { text = "secret*" }\ndecision = "deny"\n'
            '[[approvals.rules]]\ntool = "pen.write"\ndecision = "allow"\n',
        )
        server.script(wants("secrets", "plain"), Step(text="Done."))
        done = run(pen)
        assert (done.code, written(pen)) == (0, ["plain"])
        assert "denied by an approval rule of the config" in done.err

    def test_those_of_a_project_count_only_after_trust_and_never_before_the_users(
        self, pen: Shell, server: ModelServer
    ) -> None:
        rule = '[[approvals.rules]]\ntool = "pen.write"\ndecision = "{}"\n[agents.writer]\ntools = ["pen.write"]\n'
        (pen.folder / "afk.toml").write_text(rule.format("allow"))
        server.script(wants("a"), Step(text="1"), wants("b"), Step(text="2"), wants("c"), Step(text="3"))
        done = run(pen)
        assert written(pen) == []
        assert "agents.writer.tools" in done.err
        assert "approvals" in done.err
        assert pen.afk("trust").code == 0
        run(pen)
        assert written(pen) == ["b"]
        config(pen, rule.format("deny"))
        run(pen)
        assert written(pen) == ["b"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[[approvals.rules]]\ntool = "a.b"\ndecision = "yes"\n', "a decision: allow, ask or deny"),
            ('[[approvals.rules]]\ndecision = "deny"\n', "needs a tool"),
            ('[[approvals.rules]]\ntool = "a.b"\ndecision = "deny"\nargument = {}\n', "did you mean 'arguments'?"),
            ('[approvals]\nmode = "stdin"\n', "must be one of ask, deny"),
            ("[approvals]\ntimeout = 0\n", "must be greater than 0"),
            ("[agents.x]\ntools = [1]\n", "array of strings"),
        ],
    )
    def test_one_that_cannot_be_is_refused(self, pen: Shell, server: ModelServer, text: str, said: str) -> None:
        config(pen, text)
        done = run(pen)
        assert (done.code, server.requests) == (2, [])
        assert said in done.err


class TestSomebodyIsThere:
    def answer(self, shell: Shell, *lines: str, ahead: str = "", **env: str) -> tuple[int, str]:
        """Run on a terminal, answer each question with the next line, and return the exit code and what was seen."""
        with attended_terminal() as terminal:
            terminal.type(ahead)
            process = terminal.start(shell, *RUN, "Write", **env)
            position = 0
            for line in lines:
                position = terminal.wait_for(ASKED, position)
                terminal.type(line)
            terminal.wait_for("Done.", position)
            return process.wait(LIMIT), terminal.seen

    @pytest.mark.parametrize(("line", "expected"), [("y\n", ["a"]), ("n\n", []), ("\n", []), ("\x04", [])])
    def test_decides(self, pen: Shell, server: ModelServer, line: str, expected: list[str]) -> None:
        server.script(wants("a"), Step(text="Done."))
        code, seen = self.answer(pen, line)
        assert (code, written(pen)) == (0, expected)
        assert "afk: pen.write asks to be called with:\x1b[0m\r\n  text  a\r\n" in seen
        assert seen.count("pen.write asks") == 1
        assert "tool pen.write {" not in seen  # the question shows the call already
        assert f"approval: {'allow' if expected else 'deny'} (user)" in seen

    def test_is_asked_again_after_an_invalid_answer(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), Step(text="Done."))
        self.answer(pen, "perhaps\n", "yes\n")
        assert written(pen) == ["a"]

    def test_says_always_once(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), wants("a"), wants("b"), Step(text="Done."), wants("a"), Step(text="Done."))
        self.answer(pen, "a\n", "n\n")
        assert written(pen) == ["a", "a"]
        self.answer(pen)
        assert written(pen) == ["a", "a", "a"]

    def test_is_not_believed_to_have_answered_before_the_question(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), Step(text="Done."))
        self.answer(pen, "n\n", ahead="y\ny\ny\n")
        assert written(pen) == []

    def test_sees_every_character_and_no_control_of_the_terminal(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a\x1b[2J\u202eb\u200b\u0301"), Step(text="Done."))
        _, seen = self.answer(pen, "n\n")
        assert "text  a\\u001b[2J\\u202eb\\u200b\\u0301\r\n" in seen
        assert "  ! invisible characters: shown as escapes" in seen
        assert "\x1b[2J" not in seen

    def test_decides_on_parallel_calls_one_after_the_other(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a", "b", "c"), Step(text="Done."))
        _, seen = self.answer(pen, "y\n", "n\n", "y\n")
        assert written(pen) == ["a", "c"]
        assert seen.count("asks to be called with") == 3

    def test_reads_the_question_undisturbed_by_other_calls(self, pen: Shell, server: ModelServer) -> None:
        (pen.folder / "written.txt").write_text("seen")
        write = ScriptedCall(name="pen__write", arguments={"text": "a"}, id="c1")
        server.script(Step(tool_calls=[write, ScriptedCall(name="pen__read", id="c2")]), Step(text="Done."))
        with attended_terminal() as terminal:
            process = terminal.start(pen, *RUN, "Write")
            position = terminal.wait_for(ASKED)
            while "tool_completed" not in [event["type"] for event in pen.log()]:
                assert process.poll() is None
            terminal.type("y\n")
            terminal.wait_for("Done.")
            assert process.wait(LIMIT) == 0
        assert terminal.seen[position:].startswith("y\r\n")
        assert "tool pen.read ok" in terminal.seen  # before the question, where the read was faster than it

    def test_presses_ctrl_c_instead(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"))
        with attended_terminal() as terminal:
            process = terminal.start(pen, *RUN, "Write")
            terminal.wait_for(ASKED)
            terminal.type("\x03")
            terminal.wait_for("\n\x1b[2mafk: approval: cancelled (run)")
            assert process.wait(LIMIT) == -signal.SIGINT
        assert written(pen) == []
        assert [event["decision"] for event in pen.log() if event["type"] == "approval_resolved"] == ["cancelled"]

    def test_is_asked_by_one_process_at_a_time(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), wants("a"), Step(text="Done."), Step(text="Done."))
        both = f'"{AFK}" "$@" -t one & "{AFK}" "$@" -t two; wait'
        with attended_terminal() as terminal:
            process = terminal.start(pen, *RUN[:5], "Write", program=["sh", "-c", both, "sh"])
            position = terminal.wait_for(ASKED)
            terminal.wait_for("waiting for another afk that is asking on this terminal")
            assert terminal.seen.count("asks to be called with") == 1
            terminal.type("y\n")
            terminal.wait_for(ASKED, position)
            terminal.type("n\n")
            assert process.wait(LIMIT) == 0
        assert written(pen) == ["a"]

    def test_too_late_is_distinguished_from_denied(self, pen: Shell, server: ModelServer) -> None:
        config(pen, "[approvals]\ntimeout = 0.3\n")
        server.script(wants("a"), Step(text="Done."))
        with attended_terminal() as terminal:
            process = terminal.start(pen, *RUN, "Write")
            terminal.wait_for("approval: timeout (time limit)")
            terminal.wait_for("Done.")
            assert process.wait(LIMIT) == 0
        assert written(pen) == []

    def test_is_not_asked_with_approvals_deny(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), Step(text="Done."))
        _, seen = self.answer(pen, AFK_APPROVALS="deny")
        assert ASKED not in seen
        assert written(pen) == []

    def test_cannot_be_asked_without_a_terminal(self, pen: Shell, server: ModelServer) -> None:
        process = pen.start(*RUN, "--approvals", "ask", "Write", start_new_session=True)
        _, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, server.requests) == (2, [])
        assert b"needs a terminal; use --approvals deny or --approvals stdin" in err


class Program:
    """A program that drives `afk run --json --approvals stdin`."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        command = (*RUN, "--json", "--approvals", "stdin", *arguments, "Write")
        self.process = shell.start(*command, stdin=subprocess.PIPE)
        self.events: list[dict[str, Any]] = []

    def until(self, type_: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["type"] == type_:
                return self.events[-1]
        raise AssertionError(f"no {type_} in {self.events}")

    def say(self, line: str | dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=LIMIT)
        self.events += map(json.loads, out.splitlines())
        return self.process.returncode, err.decode()


class TestAProgramDecides:
    def test_by_one_line_of_json_for_each_request(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), wants("b"), Step(text="Done."))
        program = Program(pen)
        for decision in ("allow", "deny"):
            asked = program.until("approval_requested")
            assert (asked["tool_name"], len(asked["approval_id"]) >= 20) == ("pen.write", True)
            program.say({"approval_id": asked["approval_id"], "decision": decision})
        code, _ = program.end()
        assert (code, written(pen)) == (0, ["a"])
        resolved = [
            (event["decision"], event["by"]) for event in program.events if event["type"] == "approval_resolved"
        ]
        assert resolved == [("allow", "caller"), ("deny", "caller")]

    def test_a_line_that_is_not_a_decision_is_ignored_with_a_warning(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), Step(text="Done."))
        program = Program(pen)
        program.say({"approval_id": "early", "decision": "allow"})
        asked = program.until("approval_requested")["approval_id"]
        lines: list[Any] = ["allow", "[]", {"decision": "allow"}, {"approval_id": asked, "decision": "yes"}, ""]
        for line in [
            *lines,
            {"approval_id": "unknown", "decision": "allow"},
            {"approval_id": asked, "decision": "deny"},
        ]:
            program.say(line)
        code, err = program.end()
        assert (code, written(pen)) == (0, [])
        assert err.count("ignored a line of stdin that is not a decision") == 4
        codes = [event["code"] for event in program.events if event["type"] == "warning"]
        assert codes == ["unknown_approval"] * 2

    def test_a_flood_of_decisions_is_reported_a_hundred_times(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), Step(text="Done."))
        flood = b'{"approval_id":"unknown","decision":"allow"}\n' * 20_000
        done = run(pen, "--json", "--approvals", "stdin", stdin=flood)
        assert (done.code, written(pen)) == (0, [])
        assert [event["code"] for event in done.events if event["type"] == "warning"] == ["unknown_approval"] * 100

    def test_the_end_of_stdin_denies_waiting_and_later_calls(self, pen: Shell, server: ModelServer) -> None:
        server.script(wants("a"), wants("b"), Step(text="Done."))
        done = run(pen, "--json", "--approvals", "stdin", stdin=b"")
        assert (done.code, written(pen)) == (0, [])
        assert done.types().count("approval_requested") == 2
        assert done.events[-1]["result"]["denied"] == 2

    def test_without_json_is_refused(self, pen: Shell, server: ModelServer) -> None:
        done = run(pen, "--approvals", "stdin", stdin=b"")
        assert (done.code, server.requests) == (2, [])
        assert "--approvals stdin needs --json" in done.err

    def test_the_message_comes_from_the_arguments(self, pen: Shell, server: ModelServer) -> None:
        done = pen.in_process("run", "--json", "--approvals", "stdin", stdin=b"a message")
        assert (done.code, server.requests) == (2, [])
        assert "no message was given" in done.err


class TestAlways:
    def test_is_not_exported_and_not_forked(self, pen: Shell, server: ModelServer, tmp_path: Path) -> None:
        server.script(wants("a"), Step(text="1"))
        program = Program(pen)
        program.say({"approval_id": program.until("approval_requested")["approval_id"], "decision": "always"})
        assert program.end()[0] == 0
        assert written(pen) == ["a"]
        exported = pen.afk("threads", "export", "t")
        assert exported.code == 0, exported.err
        other = Shell(home=tmp_path / "other", folder=pen.folder, env=pen.env)
        other.home.mkdir()
        (tmp_path / "t.jsonl").write_text(exported.out)
        assert other.afk("threads", "import", str(tmp_path / "t.jsonl")).code == 0
        server.script(wants("a"), Step(text="2"))
        assert run(other).code == 0
        assert written(pen) == ["a"]
        server.script(wants("a"), Step(text="3"))
        assert run(pen).code == 0
        assert written(pen) == ["a", "a"]

        count = len(server.requests)
        server.script(Step(text="4", fault=Fault.HANG), wants("a"), Step(text="5"))
        holding = pen.start(*RUN, "Write")
        server.wait_for_requests(count + 1, LIMIT)
        assert run(pen, "--busy", "fork").code == 0
        assert written(pen) == ["a", "a"]
        kill(holding)


def test_the_list_shows_the_decisions(pen: Shell) -> None:
    config(pen, '[[approvals.rules]]\ntool = "pen.write"\ndecision = "deny"\n')
    done = pen.afk("tools", "--plugin", "pen.py", "--json")
    calls = {event["tool_name"]: event["calls"] for event in done.events}
    assert (calls["pen.write"], calls["pen.read"]) == ("deny", "allow")


def test_the_rule_that_a_tools_page_shows_allows_it(pen: Shell, server: ModelServer) -> None:
    shown = pen.in_process("tools", "show", "pen.write", "--plugin", "pen.py")
    assert shown.code == 0
    assert "asked about unless a rule" in shown.out
    config(pen, shown.out.partition("add to the config:\n")[2])
    server.script(wants("a"), Step(text="Done."))
    assert run(pen).code == 0
    assert written(pen) == ["a"]


def test_memory_is_hidden_before_a_plugins_tool_runs(pen: Shell, server: ModelServer) -> None:
    if not os.path.exists("/proc/self/status"):  # noqa: PTH110
        pytest.skip("no Linux: there is no such protection to ask for")
    reader = PLUGIN.replace('return Path("written.txt").read_text()', DUMPABLE)
    (pen.folder / "pen.py").write_text(reader)
    server.script(Step(tool_calls=[ScriptedCall(name="pen__read")]), Step(text="Done."))
    assert run(pen).code == 0
    assert "dumpable 0" in json.dumps(server.bodies[1])


DUMPABLE = "import ctypes; return f'dumpable {ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)}'"

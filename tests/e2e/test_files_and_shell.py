"""The tool plugins `files` and `shell` by the installed `afk`: what a model reaches, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import LIMIT, Finished, Shell, kill, wait_for_output

pytestmark = pytest.mark.skipif(os.name == "nt", reason="both plugins are refused on Windows")

KEY = "sk-canary-0123456789"
ALLOWED = '[tools.shell]\nsandbox = "off"\n[[approvals.rules]]\ntool = "*"\ndecision = "allow"\n'
"""Without the sandbox, so that the tests see the processes of the commands: tests/sandbox has the sandbox."""


def config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def calls(*named: tuple[str, str, dict[str, Any]]) -> Step:
    """A step that makes calls, each (id, tool, arguments); on the wire a tool's name has no point."""
    made = [ScriptedCall(id=id_, name=name.replace(".", "__"), arguments=given) for id_, name, given in named]
    return Step(tool_calls=made)


def results(body: dict[str, Any]) -> dict[str, str]:
    """Return what a request says of each tool call, by the call's id."""
    return {item["tool_call_id"]: item["content"] for item in body["messages"] if item["role"] == "tool"}


def run_one(shell: Shell, server: ModelServer, name: str, arguments: dict[str, Any]) -> tuple[Finished, str]:
    """Have a model make one call; return how the run ended and what the model got."""
    server.script(calls(("c1", name, arguments)), Step(text="done"))
    done = shell.afk("run", "-n", "--tool", name, "go")
    return done, results(server.bodies[-1]).get("c1", "") if len(server.bodies) > 1 else ""


class TestFiles:
    @pytest.fixture
    def notes(self, keyed: Shell) -> Path:
        notes = keyed.home / "notes"
        notes.mkdir()
        (notes / "beans.md").write_text("Beans need sun.\n")
        config(keyed, '[tools.files]\nroots = ["~/notes"]\n')
        return notes

    def test_a_model_reads_without_a_question(self, keyed: Shell, server: ModelServer, notes: Path) -> None:
        done, told = run_one(keyed, server, "files.read", {"path": "beans.md"})

        assert (done.code, done.out) == (0, "done\n"), done.err
        assert told == "beans.md: line 1 of 1\nBeans need sun.\n"

    def test_what_is_outside_is_refused(self, keyed: Shell, server: ModelServer, notes: Path) -> None:
        _, told = run_one(keyed, server, "files.read", {"path": "../afk/config/config.toml"})

        assert "'../afk/config/config.toml' has .. in it; name a file or folder inside: ~/notes" in told

    def test_there_is_nothing_that_writes_unless_it_is_granted(
        self, keyed: Shell, server: ModelServer, notes: Path
    ) -> None:
        done = keyed.afk("run", "-n", "--tool", "files.write", "go")

        assert done.code == 2
        assert "there is no tool 'files.write' (tools of files: files.list, files.read, files.search)" in done.err
        assert server.requests == []

    def test_a_tool_that_writes_is_denied_without_a_terminal(
        self, keyed: Shell, server: ModelServer, notes: Path
    ) -> None:
        granted = '[tools.files]\nroots = ["~/notes"]\nwrite = true\n'
        new = {"path": "new.md", "text": "x"}
        config(keyed, granted)
        assert "denied" in run_one(keyed, server, "files.write", new)[1]
        assert not (notes / "new.md").exists()

        config(keyed, granted + ALLOWED)
        assert run_one(keyed, server, "files.write", new)[1] == "new.md: 1 bytes written, a new file"
        assert (notes / "new.md").read_text() == "x"

    def test_without_roots_one_line_says_what_to_set(self, keyed: Shell, server: ModelServer) -> None:
        done = keyed.afk("run", "-n", "--tool", "files.*", "go")

        assert (done.code, done.out) == (2, "")
        assert done.err.strip().splitlines()[-1] == (
            'afk: tools.files has no folder that it may use; name some in the config: [tools.files] roots = ["~/notes"]'
        )

    def test_the_roots_of_a_project_file_count_only_when_it_is_trusted(self, keyed: Shell, server: ModelServer) -> None:
        (keyed.folder / "afk.toml").write_text('[tools.files]\nroots = ["."]\n')
        (keyed.folder / "a.txt").write_text("here")
        assert "no folder that it may use" in keyed.afk("run", "-n", "--tool", "files.*", "go").err

        assert keyed.afk("trust", stdin=b"y\n").code == 0
        assert run_one(keyed, server, "files.read", {"path": "a.txt"})[1] == "a.txt: line 1 of 1\nhere"


class TestShell:
    def test_a_command_is_denied_without_a_terminal(self, keyed: Shell, server: ModelServer) -> None:
        done, told = run_one(keyed, server, "shell.run", {"argv": ["touch", "made"]})

        assert done.code == 0
        assert "denied" in told
        assert not (keyed.folder / "made").exists()

    def test_a_rule_allows_it(self, keyed: Shell, server: ModelServer) -> None:
        rule = '[[approvals.rules]]\ntool = "shell.run"\narguments = { argv = ["echo", "..."] }\ndecision = "allow"\n'
        config(keyed, rule)

        assert run_one(keyed, server, "shell.run", {"argv": ["echo", "$HOME;", "ls"]})[1] == (
            "exit status: 0\nstdout:\n$HOME; ls"
        )
        assert "denied" in run_one(keyed, server, "shell.run", {"argv": ["sh", "-c", "echo"]})[1]

    def test_the_model_gets_the_way_it_ended(self, keyed: Shell, server: ModelServer) -> None:
        config(keyed, ALLOWED)
        _, told = run_one(keyed, server, "shell.run", {"argv": ["sh", "-c", "echo out; echo err >&2; exit 3"]})
        assert told == "exit status: 3\nstdout:\nout\nstderr:\nerr"

    def test_no_key_is_in_its_environment_or_anywhere_that_it_can_look(self, keyed: Shell, server: ModelServer) -> None:
        """Its own environment, those of its parents (its supervisor, afk), and the memory of afk."""
        if sys.platform != "linux":
            pytest.skip("only Linux hides it")
        keyed.cold = True
        config(keyed, ALLOWED)
        look = """
            env; supervisor=$PPID; afk=$(sed 's/.*) //' /proc/$supervisor/stat | cut -d' ' -f2)
            tr '\\0' ' ' < /proc/$afk/cmdline; echo
            cat /proc/$supervisor/environ /proc/$afk/environ; head -c 1 /proc/$afk/mem
        """

        _, told = run_one(keyed, server, "shell.run", {"argv": ["sh", "-c", look]})

        assert "bin/afk run -n --tool shell.run go" in told  # it is afk that was looked at
        assert "TERM=dumb" in told
        assert re.search("/proc/([0-9]+)/environ: Permission denied\n.*/proc/\\1/mem.*Permission denied", told)
        assert KEY not in told
        assert "API_KEY" not in told


def process_runs(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(listed) and not listed.startswith("Z")


def wait_until_gone(pids: list[int]) -> None:
    until = time.monotonic() + LIMIT
    while any(process_runs(pid) for pid in pids):
        assert time.monotonic() < until, f"still there: {[pid for pid in pids if process_runs(pid)]}"
        time.sleep(0.02)


def waits_for(before: str, name: str) -> dict[str, Any]:
    """The arguments of a command that ends half a second after the one named `before`."""
    code = f"while [ ! -e {before} ]; do sleep 0.05; done; sleep 0.5; echo {name}; touch {name}"
    return {"argv": ["sh", "-c", code]}


class TestThreeAtATime:
    """Three commands of one step, of different speed; real `sleep` processes."""

    def test_each_ending_is_reported_and_a_second_process_reloads_the_pairs(
        self, keyed: Shell, server: ModelServer
    ) -> None:
        config(keyed, ALLOWED)
        server.script(
            calls(
                ("slow", "shell.run", waits_for("middle", "slow")),
                ("fast", "shell.run", {"argv": ["sh", "-c", "sleep 0.1; echo fast; touch fast"]}),
                ("middle", "shell.run", waits_for("fast", "middle")),
            ),
            Step(text="all done"),
        )

        done = keyed.afk("run", "-t", "t", "--json", "--tool", "shell.run", "go")

        assert done.code == 0, done.err
        started = [event["tool_call_id"] for event in done.events if event["type"] == "tool_started"]
        ended = [event for event in done.events if event["type"] == "tool_completed"]
        assert started == ["slow", "fast", "middle"]
        assert [event["tool_call_id"] for event in ended] == ["fast", "middle", "slow"]
        assert [event["tool_output"] for event in ended] == [
            f"exit status: 0\nstdout:\n{name}" for name in ("fast", "middle", "slow")
        ]
        positions = [done.types().index("tool_completed"), len(done.types()) - done.types()[::-1].index("tool_started")]
        assert positions[1] <= positions[0]  # all three ran before the first had ended

        keyed.afk("run", "-t", "t", "--tool", "shell.run", "and now?")

        messages = server.bodies[-1]["messages"]
        roles = ["system", "user", "assistant", "tool", "tool", "tool", "assistant", "user"]
        assert [message["role"] for message in messages] == roles
        assert [call["id"] for call in messages[2]["tool_calls"]] == ["slow", "fast", "middle"]
        assert results(server.bodies[-1]) == {
            name: f"exit status: 0\nstdout:\n{name}" for name in ("slow", "fast", "middle")
        }

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_cancelled_in_the_middle_nothing_is_orphaned(
        self, keyed: Shell, server: ModelServer, number: signal.Signals
    ) -> None:
        """Neither a process nor a call without its result."""
        config(keyed, ALLOWED)
        child = {"argv": ["sh", "-c", "sleep 600 & echo $! > a.pid; echo $$ > b.pid; touch ready.1; wait"]}
        daemon = "setsid env -i sh -c 'trap \"\" TERM; echo $$ > c.pid; touch ready.2; while :; do sleep 600; done' &"
        server.script(
            calls(
                ("child", "shell.run", child),
                ("daemon", "shell.run", {"argv": ["sh", "-c", f"{daemon} sleep 600"]}),
                ("fast", "shell.run", waits_for("ready.1", "fast")),
            ),
            Step(text="well"),
        )
        process = keyed.start("run", "-t", "t", "--json", "--tool", "shell.run", "go")
        written = wait_for_output(process, b'"type":"tool_completed"')
        until = time.monotonic() + LIMIT
        while not (keyed.folder / "ready.2").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        pids = [int((keyed.folder / f"{name}.pid").read_text()) for name in "abc"]
        assert all(process_runs(pid) for pid in pids)

        out, _ = kill(process, number)

        assert process.returncode == -number
        wait_until_gone(pids)
        if number != signal.SIGKILL:
            events = [json.loads(line) for line in (written + out).splitlines()]
            begun = [event["tool_call_id"] for event in events if event["type"] == "tool_started"]
            ended = {event["tool_call_id"]: event for event in events if event["type"] == "tool_completed"}
            assert sorted(begun) == sorted(ended) == ["child", "daemon", "fast"]
            assert [name for name, event in ended.items() if event["tool_success"]] == ["fast"]
            assert events[-1]["type"] == "completed"
            assert events[-1]["result"]["state"] == "cancelled"

        keyed.afk("run", "-t", "t", "--tool", "shell.run", "and now?")

        told = results(server.bodies[-1])
        assert sorted(told) == ["child", "daemon", "fast"]
        if number != signal.SIGKILL:  # by which what was not in the journal yet is lost
            assert told["fast"] == "exit status: 0\nstdout:\nfast"
        assert "exit status" not in told["child"] + told["daemon"]


def test_at_a_terminal_the_command_is_shown_and_ctrl_c_ends_all_of_it(keyed: Shell, server: ModelServer) -> None:
    """The command has no terminal, so Ctrl-C does not reach it but through afk; nor can it read what is typed."""
    code = "sleep 600 & echo $! > a.pid; echo $$ > b.pid; (read -r x < /dev/tty && touch read) 2>/dev/null; sleep 600"
    config(keyed, '[tools.shell]\nsandbox = "off"\n')  # the process numbers are those of the machine
    server.script(calls(("c1", "shell.run", {"argv": ["sh", "-c", code]})), Step(text="well"))
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "run", "-t", "t", "--tool", "shell.run", "go")
        terminal.wait_for("afk: run shell.run: [y]es, [n]o")
        assert "sleep 600 & echo $! > a.pid; echo $$ > b.pid" in terminal.seen  # exactly what would run
        terminal.type("y\n")
        until = time.monotonic() + LIMIT
        while not (keyed.folder / "b.pid").exists() or not (keyed.folder / "b.pid").read_text().strip():
            assert time.monotonic() < until, terminal.seen
            time.sleep(0.02)
        pids = [int((keyed.folder / f"{name}.pid").read_text()) for name in "ab"]

        terminal.type("typed\n")
        terminal.type("\x03")

        assert process.wait(LIMIT) == -signal.SIGINT
        wait_until_gone(pids)
    assert not (keyed.folder / "read").exists()

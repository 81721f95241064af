"""What a person sees while afk waits: a line with the seconds, which leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import AFK, LIMIT, Shell, kill, wait_for_output
from tests.e2e.workers import runs_in
from tests.terminal import Terminal

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FIRST = Step(text=["Hello ", "world"], fault=Fault.HANG, fault_after=0)
"""It says nothing until the server is told to."""
MIDDLE = Step(text=["Hello ", "world"], fault=Fault.HANG, fault_after=1)


PLUGIN = """
import getpass
import sys
import time
from pathlib import Path

from afkcli import hookimpl, tool
from afkcli.plugin import waiting_for

AFK_HOOKS = 1


def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.02)


@tool(name="pen.wait", changes=False)
def wait() -> str:
    wait_for("go")
    return "waited"


@tool(name="pen.block", changes=False)
async def block() -> str:
    wait_for("go")  # and holds up the event loop
    return "waited"


@tool(name="pen.say", changes=False)
def say() -> str:
    wait_for("say")
    print("the tool prints this")
    wait_for("go")
    sys.stderr.write("and this\\n")
    return "said"


@tool(name="pen.lock", changes=False)
def lock() -> str:
    with waiting_for("\x1b[2J庭の門 gate\\nto be opened"):
        wait_for("go")
    return "opened"


@tool(name="pen.unlock", changes=False)
def unlock() -> str:
    wait_for("go")
    return getpass.getpass("Passphrase: ")


@tool(name="pen.change")
def change() -> str:
    return "changed"


@hookimpl
def afk_tools():
    return [wait, block, say, lock, unlock, change]
"""


@pytest.fixture
def pen(keyed: Shell) -> Shell:
    (keyed.folder / "pen.py").write_text(PLUGIN)
    return keyed


WITH_PEN = ("run", "--plugin", "pen.py", "--tool", "pen.*", "hi")


def go(shell: Shell, name: str = "go") -> None:
    """Let what waits continue."""
    (shell.folder / name).touch()


def calls(*names: str) -> tuple[Step, Step]:
    """Return steps that call tools of the plugin, and then answer."""
    calls = [ScriptedCall(name=f"pen__{name}", arguments={}, id=name) for name in names]
    return Step(text=["I look."], tool_calls=calls), Step(text=["done"])


def with_config(shell: Shell, text: str) -> None:
    file = shell.home / "afk" / "config" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@contextmanager
def terminal(shell: Shell, *arguments: str, columns: int = 80, lines: int = 24, **env: str) -> Iterator[Terminal]:
    """Run `afk` on a terminal of its own."""
    environment = shell.environment(LANG="C.UTF-8", **env)
    with Terminal([AFK, *arguments], columns=columns, lines=lines, environment=environment, folder=shell.folder) as own:
        yield own


def final_text(own: Terminal) -> str:
    """Wait for the end of the command, and return all that is left on the terminal, without what differs by run."""
    assert own.wait_for_end() == 0, own.text()
    return re.sub(r"[0-9a-f]{8}-[-0-9a-f]+|[\d.,]+ m?s\b", "-", own.text())


def waiting_line(own: Terminal) -> str:
    """Return the line that is drawn, "" if there is none."""
    return next(iter(traces(own.screen())), "")


def traces(text: str) -> list[str]:
    """Return the lines of `text` that were drawn for a moment."""
    return [line for line in text.splitlines() if line and line[0] in FRAMES]


@pytest.mark.parametrize(
    ("step", "words"),
    [(FIRST, "waiting for the first token ("), (MIDDLE, "waiting for more of the answer (")],
    ids=["first", "more"],
)
@pytest.mark.parametrize("lines", [24, 4], ids=["empty", "full"])
def test_a_wait_for_the_model_is_shown_and_leaves_nothing_behind(
    keyed: Shell, server: ModelServer, step: Step, words: str, lines: int
) -> None:
    server.script(Step(text=["Hello ", "world"]))
    with terminal(keyed, "run", "hi", lines=lines) as own:
        without = final_text(own)

    server.script(step)
    with terminal(keyed, "run", "hi", lines=lines) as own:
        own.wait_for(words)
        assert waiting_line(own)
        server.release()
        assert final_text(own) == without


def test_reasoning_that_is_not_shown_is_a_wait(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(reasoning=["Let me ", "think"], text=["Hello"], fault=Fault.HANG, fault_after=1))
    with terminal(keyed, "run", "hi", OPENAI_API="chat") as own:
        own.wait_for("the model is reasoning (")
        server.release()
        assert "Hello" in final_text(own)
        assert not waiting_line(own)


@pytest.mark.parametrize("option", ["--final", "file"])
def test_an_answer_that_is_not_shown_as_it_comes_is_a_wait(keyed: Shell, server: ModelServer, option: str) -> None:
    server.script(MIDDLE)
    command = [AFK, "run", "hi"] if option == "file" else [AFK, "run", option, "hi"]
    if option == "file":
        command = ["sh", "-c", '"$0" "$@" >answer', *map(str, command)]
    with Terminal(command, environment=keyed.environment(LANG="C.UTF-8"), folder=keyed.folder) as own:
        own.wait_for("the model is writing its answer (")
        server.release()
        assert own.wait_for_end() == 0
        assert not waiting_line(own)
        assert "the model is writing" not in own.text()


@pytest.mark.parametrize("names", [("wait",), ("block",), ("wait", "lock")], ids=" ".join)
def test_a_tool_is_named_while_it_works_even_if_it_holds_up_the_event_loop(
    pen: Shell, server: ModelServer, names: Sequence[str]
) -> None:
    words = {
        ("wait",): "waiting for the tool pen.wait (",
        ("block",): "waiting for the tool pen.block (",
        ("wait", "lock"): "waiting for \u241b[2J庭の門 gate to be opened (",
    }[tuple(names)]
    go(pen)
    server.script(*calls(*names))
    with terminal(pen, *WITH_PEN) as own:
        without = final_text(own)
    (pen.folder / "go").unlink()

    server.script(*calls(*names))
    with terminal(pen, *WITH_PEN) as own:
        own.wait_for(words)
        first = waiting_line(own)
        own.wait_until(lambda: waiting_line(own)[:1] != first[:1], "another frame")
        go(pen)
        assert sorted(final_text(own)) == sorted(without)  # two tools may end in another order


def test_what_a_tool_prints_takes_the_place_of_the_line(pen: Shell, server: ModelServer) -> None:
    server.script(*calls("say"))
    with terminal(pen, *WITH_PEN) as own:
        own.wait_for("waiting for the tool pen.say (")
        go(pen, "say")
        own.wait_for("the tool prints this\n")
        own.wait_until(lambda: waiting_line(own), "line after what was printed")
        go(pen)
        lines = final_text(own).splitlines()
    assert lines[lines.index("the tool prints this") + 1] == "and this"
    assert not traces("\n".join(lines))


def test_a_program_that_asks_for_a_password_has_the_terminal(pen: Shell, server: ModelServer) -> None:
    server.script(*calls("unlock"))
    with terminal(pen, *WITH_PEN) as own:
        own.wait_for("waiting for the tool pen.unlock (")
        go(pen)
        own.wait_for("Passphrase:")
        own.wait_until(lambda: not waiting_line(own), "end of the line")
        own.type("open sesame\n")
        text = final_text(own)
    assert "done" in text
    assert "sesame" not in text
    assert not traces(text)


def test_an_mcp_server_is_named_while_it_starts(keyed: Shell, server: ModelServer) -> None:
    script = Path(__file__).parents[2] / "plugins" / "tools_mcp" / "tests" / "scripted_server.py"
    slow = 'while ! test -e "$0"; do sleep 0.05; done; exec "$@"'
    arguments = [str(keyed.folder / "go"), sys.executable, "-u", str(script), "--note", str(keyed.home / "notes")]
    table = "[tools.mcp.servers.garden-of-the-whole-neighbourhood]"
    with_config(keyed, f'{table}\ncommand = "sh"\nargs = {json.dumps(["-c", slow, *arguments])}\n')
    with terminal(keyed, "tools", columns=40) as own:
        own.wait_for("waiting for the MCP server")
        assert waiting_line(own).endswith(" s)")
        go(keyed)
        assert "echo" in final_text(own)
        assert not waiting_line(own)


def test_a_thread_that_another_process_holds_is_named(keyed: Shell, server: ModelServer) -> None:
    server.script(MIDDLE)
    holder = keyed.start("run", "-t", "t", "hi")
    wait_for_output(holder, b"Hello")
    with terminal(keyed, "run", "-t", "t", "again", columns=100) as own:
        said = [f"the thread 't', which is in use by process {pid} on " for pid in runs_in(holder.pid)]
        own.wait_until(lambda: any(line in own.text() for line in said), f"one of {said}")
        assert waiting_line(own)
        server.release()
        text = final_text(own)
    assert holder.wait(LIMIT) == 0
    kill(holder)
    assert "Hello world" in text
    assert not traces(text)


def test_the_seconds_until_a_retry_count_down(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(status=503, body={"error": {"message": "busy"}}, headers={"Retry-After": "4"}), FIRST)
    with terminal(keyed, "run", "hi") as own:
        own.wait_for("trying again in 2 s\n")
        own.wait_for("trying again in 1 s\n")
        own.wait_for("waiting for the first token (")
        server.release()
        text = final_text(own)
    assert "trying again in - (attempt 2)" in text
    assert "waiting" not in text


def test_a_summary_is_named_while_it_is_made(keyed: Shell, server: ModelServer) -> None:
    with_config(keyed, '[windows]\n"openai/gpt-5.2-mini" = 1000\n[context]\npolicy = "compact"\n')
    for number in range(5):
        assert keyed.in_process("run", "-t", "t", f"{number} {'word ' * 100}").code == 0
    server.script(Step(text=["A summary"], fault=Fault.HANG, fault_after=0), Step(text=["done"]))
    with terminal(keyed, "run", "-t", "t", "again " * 50) as own:
        own.wait_for("waiting for a summary of ")
        server.release()
        assert "done" in final_text(own)
        assert not waiting_line(own)


def test_a_summary_that_is_asked_for_is_named_while_it_is_made(keyed: Shell, server: ModelServer) -> None:
    for number in range(3):
        assert keyed.in_process("run", "-t", "t", f"{number}").code == 0
    server.script(Step(text=["A summary"], fault=Fault.HANG, fault_after=0))
    with terminal(keyed, "threads", "compact", "t") as own:
        own.wait_for("waiting for a summary of 2 earlier turns by openai/gpt-5.2-mini (")
        server.release()
        assert "A summary" in final_text(own)
        assert not waiting_line(own)


def test_a_question_on_the_terminal_hides_the_line(pen: Shell, server: ModelServer) -> None:
    server.script(*calls("change"))
    with terminal(pen, *WITH_PEN) as own:
        own.wait_for("[y]es, [n]o")
        asked = own.text()
        for _ in range(2):  # as long as the line would take to come
            subprocess.run(["sleep", "0.7"], check=True)
        assert own.text() == asked
        own.type("y\n")
        assert "done" in final_text(own)


def test_an_approval_that_another_afk_asks_for_is_waited_for(pen: Shell, server: ModelServer) -> None:
    server.script(*calls("change"))
    with attended_terminal(columns=80) as own:
        with os.fdopen(os.open(os.ttyname(own.side), os.O_RDWR | os.O_NOCTTY), "rb+", buffering=0) as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            process = own.start(pen, *WITH_PEN, LANG="C.UTF-8")
            own.wait_for("waiting for another afk, which is asking on this terminal (")
        own.wait_for("[y]es, [n]o")
        own.type("y\n")
        own.wait_for("done")
        assert process.wait(LIMIT) == 0


def test_a_run_that_is_stopped_says_so_until_it_has_ended(pen: Shell, server: ModelServer) -> None:
    (pen.folder / "deaf.py").write_text(
        "import asyncio\nfrom pathlib import Path\nfrom afkcli import hookimpl, tool\nAFK_HOOKS = 1\n\n\n"
        "@tool(name='deaf.wait', changes=False)\nasync def wait() -> str:\n"
        "    while not Path('go').exists():\n"
        "        try:\n            await asyncio.sleep(0.05)\n"
        "        except asyncio.CancelledError:\n            pass\n"
        "    return 'waited'\n\n\n@hookimpl\ndef afk_tools():\n    return [wait]\n"
    )
    server.script(Step(tool_calls=[ScriptedCall(name="deaf__wait", arguments={}, id="c")]))
    with terminal(pen, "run", "--plugin", "deaf.py", "--tool", "deaf.*", "hi") as own:
        own.wait_for("waiting for the tool deaf.wait (")
        own.key("C-c")
        own.wait_for("stopping; Ctrl-C again ends at once (")
        go(pen)
        assert own.wait_for_end() == 130
        assert not waiting_line(own)
        assert "stopping" not in own.text()


@pytest.mark.parametrize("step", [FIRST, MIDDLE], ids=["first", "more"])
def test_ctrl_c_takes_the_line_away(keyed: Shell, server: ModelServer, step: Step) -> None:
    server.script(step)
    with terminal(keyed, "run", "hi") as own:
        own.wait_until(lambda: waiting_line(own), "line")
        own.key("C-c")
        assert own.wait_for_end() == 130
        assert not traces(own.text())
        assert re.search(r"\^C\nafk: ", own.text())


def test_a_second_ctrl_c_takes_the_line_away(pen: Shell, server: ModelServer) -> None:
    server.script(*calls("block"))
    with terminal(pen, *WITH_PEN) as own:
        own.wait_for("waiting for the tool pen.block (")
        own.key("C-c")
        own.wait_for("^C")
        own.key("C-c")
        assert own.wait_for_end() == 130
        assert not traces(own.text())


def test_ctrl_z_and_fg(keyed: Shell, server: ModelServer) -> None:
    server.script(FIRST)
    environment = keyed.environment(LANG="C.UTF-8", PS1="shell> ", HISTFILE="/dev/null")
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environment=environment, folder=keyed.folder) as own:
        own.type(f"{AFK} run hi\n")
        own.wait_for("waiting for the first token (")
        own.key("C-z")
        own.wait_for("Stopped")
        own.wait_until(lambda: own.screen().rstrip().endswith("shell>"), "prompt")
        assert not waiting_line(own)
        own.type("fg\n")
        own.wait_until(lambda: waiting_line(own), "line after fg")
        server.release()
        own.wait_for("Hello world")
        own.wait_until(lambda: own.screen().rstrip().endswith("shell>"), "prompt")
        assert not traces(own.text())
        own.type("exit\n")
        own.wait_for_end()


def test_in_the_background_no_line_is_drawn(keyed: Shell, server: ModelServer) -> None:
    server.script(FIRST)
    environment = keyed.environment(LANG="C.UTF-8", PS1="shell> ", HISTFILE="/dev/null")
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environment=environment, folder=keyed.folder) as own:
        own.type(f"{AFK} run -n hi &\n")
        server.wait_for_requests(1, LIMIT)
        own.type("sleep 2; echo wo''ken\n")
        own.wait_for("woken")
        assert not waiting_line(own)
        own.type("fg\n")
        own.wait_for("waiting for the first token (")
        server.release()
        own.wait_for("Hello world")
        own.type("exit\n")
        own.wait_for_end()


def test_what_is_typed_meanwhile_stays_on_the_screen(keyed: Shell, server: ModelServer) -> None:
    server.script(FIRST)
    with terminal(keyed, "run", "-n", "hi") as own:
        own.wait_for("waiting for the first token (")
        own.type("typed ahead")
        own.wait_for("typed ahead")
        first = waiting_line(own)
        own.wait_until(lambda: waiting_line(own)[:1] != first[:1], "another frame")
        assert "\ntyped ahead\n" in own.screen()
        own.type("\nmore")
        own.wait_for("\nmore")
        own.wait_until(lambda: waiting_line(own), "line")
        assert own.screen().count("waiting for") == 1
        server.release()
        text = final_text(own)
    assert "typed ahead\nmoreHello world\n" in text
    assert "waiting" not in text


@pytest.mark.parametrize("columns", [10, 20, 40])
def test_on_a_narrow_terminal_the_line_is_cut(keyed: Shell, server: ModelServer, columns: int) -> None:
    server.script(FIRST)
    with terminal(keyed, "run", "-n", "hi", columns=columns) as own:
        own.wait_until(lambda: waiting_line(own), "line")
        assert len(waiting_line(own)) < columns
        assert re.search(r"\d s\)$", waiting_line(own))
        server.release()
        assert "waiting" not in final_text(own)


def test_the_line_follows_a_resize(keyed: Shell, server: ModelServer) -> None:
    server.script(MIDDLE)
    with terminal(keyed, "run", "-n", "-t", "t", "hi", columns=70) as own:
        own.wait_for("waiting for more of the answer (")
        for columns in (30, 22, 60):
            own.resize(columns, 24)
            own.wait_until(lambda: _fits(own), f"one line in {columns} columns")
        server.release()
        text = final_text(own)
    assert "Hello world\n" in text
    assert not traces(text)


def _fits(own: Terminal) -> bool:
    """Return whether one line is drawn, as wide as the terminal has room for."""
    drawn = traces(own.screen())
    return len(drawn) == 1 and len(drawn[0]) >= min(own.columns - 1, len("⠋ waiting for more of the answer (1 s)"))


@pytest.mark.parametrize(
    ("text", "is_drawn"),
    [
        ("x" * 38 + "Y", True),
        ("x" * 39 + "Y", False),
        ("x" * 79 + "Y", False),
        ("中" * 20, False),
        ("x" * 40 + "Y", True),
    ],
    ids=["39", "40", "80", "wide", "41"],
)
def test_an_answer_keeps_its_last_character_also_in_the_last_column(
    keyed: Shell, server: ModelServer, text: str, is_drawn: bool
) -> None:
    server.script(Step(text=[text, "Z and more"]))
    with terminal(keyed, "run", "-n", "-t", "a", "hi", columns=40) as own:
        without = final_text(own)

    server.script(Step(text=[text, "Z and more"], fault=Fault.HANG, fault_after=1))
    with terminal(keyed, "run", "-n", "-t", "b", "hi", columns=40) as own:
        own.wait_until(lambda: text in own.copied(), "answer so far")
        if is_drawn:
            own.wait_for("waiting for more")
        else:
            subprocess.run(["sleep", "1.6"], check=True)
            assert not waiting_line(own)
        server.release()
        assert final_text(own).replace("'b'", "'a'") == without


@pytest.mark.parametrize("case", ["file", "quiet", "json"])
def test_nothing_is_drawn_where_it_would_mix(keyed: Shell, server: ModelServer, case: str, tmp_path: Path) -> None:
    server.script(FIRST)
    options = {"file": [], "quiet": ["-q"], "json": ["--json"]}[case]
    with attended_terminal(columns=80) as own, (tmp_path / "stderr").open("wb") as file:
        more = {"stderr": file} if case == "file" else {}
        process = own.start(keyed, "run", "-n", *options, "hi", **more)
        server.wait_for_requests(1, LIMIT)
        subprocess.run(["sleep", "1.6"], check=True)  # longer than a line takes to come
        server.release()
        own.wait_for("Hello " if case != "json" else '"completed"')
        assert process.wait(LIMIT) == 0
        seen = own.seen + (tmp_path / "stderr").read_text()
    assert "waiting" not in seen
    assert "\x1b" not in seen or case != "file"
    assert "\x1b7" not in seen


QUICK = """
import sys
import afkcli.screen.activity as activity
activity.SAID_AFTER_SECONDS = (1, 2, 3, 600)
activity.LOOK_SECONDS = 0.05
from afkcli.entry import main
main()
"""
"""afk that says sooner what it waits for, where lines are appended."""


@pytest.mark.parametrize(
    "env",
    [{"TERM": "dumb"}, {"ACCESSIBLE": "1"}, {"CI": "true"}, {"TERM": ""}, {"TERM": "unknown"}],
    ids=["dumb", "accessible", "CI", "no TERM", "unknown"],
)
def test_where_output_is_only_appended_lines_say_it(keyed: Shell, server: ModelServer, env: dict[str, str]) -> None:
    server.script(FIRST)
    with attended_terminal(columns=80) as own:
        process = own.start(keyed, "run", "-n", "hi", program=(sys.executable, "-c", QUICK), **env)
        own.wait_for("afk: waiting for the first token (1 s)")
        own.wait_for("afk: waiting for the first token (2 s)")
        own.wait_for("afk: waiting for the first token (3 s)")
        server.release()
        own.wait_for("Hello world")
        assert process.wait(LIMIT) == 0
    assert not re.search(r"\x1b[7-9DMJ]|\x1b\[[0-9]*[ABJK]|[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", own.seen)


def test_a_terminal_without_a_size_gets_no_line(keyed: Shell, server: ModelServer) -> None:
    server.script(FIRST)
    with attended_terminal() as own:
        process = own.start(keyed, "run", "-n", "hi")
        server.wait_for_requests(1, LIMIT)
        subprocess.run(["sleep", "1.6"], check=True)
        server.release()
        own.wait_for("Hello world")
        assert process.wait(LIMIT) == 0
    assert "waiting" not in own.seen


def test_a_killed_run_leaves_the_cursor_and_the_modes_of_the_terminal(keyed: Shell, server: ModelServer) -> None:
    server.script(FIRST)
    with attended_terminal(columns=80) as own:
        process = own.start(keyed, "run", "-n", "hi", LANG="C.UTF-8")
        own.wait_for("waiting for the first token (")
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
    assert "\x1b[?" not in own.seen  # no mode was changed: the cursor is not hidden, and lines wrap


def test_a_pager_has_the_terminal_for_itself(keyed: Shell, server: ModelServer) -> None:
    """`afk run | less`: from its first byte on the reader of the pipe may draw on the terminal."""
    server.script(MIDDLE)
    environment = keyed.environment(LANG="C.UTF-8")
    command = ["sh", "-c", f"{AFK} run -n hi | cat"]
    with Terminal(command, environment=environment, folder=keyed.folder) as own:
        own.wait_for("Hello")
        subprocess.run(["sleep", "1.6"], check=True)
        assert not waiting_line(own)
        server.release()
        assert "Hello world" in final_text(own)


def test_an_ascii_terminal_gets_an_ascii_line(keyed: Shell, server: ModelServer) -> None:
    server.script(FIRST)
    with attended_terminal(columns=80) as own:
        process = own.start(keyed, "run", "-n", "hi", PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0")
        own.wait_for("waiting for the first token (")
        server.release()
        own.wait_for("Hello world")
        assert process.wait(LIMIT) == 0
    assert own.seen.isascii()


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("lines", [24, 6], ids=["empty", "full"])
def test_a_wait_within_lists_code_and_tables_leaves_nothing_behind(
    keyed: Shell, server: ModelServer, after: int, lines: int
) -> None:
    pieces = [
        "# Beds\n\n- carrots\n- beans",
        "\n\n```python\nx = 1\n",
        "y = 2\n```\n\n| a | b |\n|---|---|\n| 1 |",
        " 2 |\n",
    ]
    server.script(Step(text=pieces))
    with terminal(keyed, "run", "-n", "-t", "a", "hi", columns=40, lines=lines) as own:
        without = final_text(own)

    server.script(Step(text=pieces, fault=Fault.HANG, fault_after=after))
    with terminal(keyed, "run", "-n", "-t", "b", "hi", columns=40, lines=lines) as own:
        own.wait_for("waiting for more of the answer (")
        server.release()
        assert final_text(own).replace("'b'", "'a'") == without

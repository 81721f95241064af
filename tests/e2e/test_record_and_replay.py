"""`--record` and `--replay`: a recorded run gives the same answer again, without a model, tools, a key or a network."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import Fault, ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from benchmarks.isolation import NoNamespaceError, enter_namespace
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import AFK, LIMIT, Finished, Shell, kill, wait_for_output
from tests.e2e.test_approvals import PLUGIN, config, wants

KEY = "sk-canary-0123456789"
SCRIPT = Path(__file__).parents[2] / "plugins" / "tools_mcp" / "tests" / "scripted_server.py"
OF_ONE_RUN = {"ts", "run_id", "thread_id", "thread_key", "latency_ms", "approval_id", "delay_s", "expires"}


@pytest.fixture
def pen(keyed: Shell) -> Shell:
    (keyed.folder / "pen.py").write_text(PLUGIN)
    return keyed


@pytest.fixture
def offline(tmp_path: Path) -> Shell:
    """A shell of another user: no key, no server, no plugin file, no thread."""
    home, folder = tmp_path / "other", tmp_path / "elsewhere"
    home.mkdir()
    folder.mkdir()
    return Shell(home=home, folder=folder)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "run.jsonl")


def lines(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_ids(item) for key, item in value.items() if key not in OF_ONE_RUN}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


def same_events(one: Finished, other: Finished) -> bool:
    return [without_ids(event) for event in one.events] == [without_ids(event) for event in other.events]


class TestRecording:
    def test_it_has_the_request_the_answer_and_the_end_and_no_key(
        self, keyed: Shell, server: ModelServer, file: str
    ) -> None:
        server.script(
            Step(text=["Your key is sk-", "canary-", KEY[10:], ", is it not?"], events_per_write=1, delay_between=0.05)
        )
        done = keyed.afk("run", "--record", file, "-o", "temperature=0", "-s", "Be brief.", f"My key is {KEY}")

        assert done.code == 0
        found = lines(file)
        assert [line["type"] for line in found if line["type"] != "event"] == [
            "recording",
            "run",
            "question",
            "request",
            "end",
        ]
        request = next(line for line in found if line["type"] == "request")
        assert request["model"] == "openai/gpt-5.2-mini"
        assert request["options"] == {"temperature": 0}
        assert [message["parts"][0]["text"] for message in request["messages"]] == ["Be brief.", "My key is ***"]
        text = Path(file).read_text()
        assert KEY not in text
        assert "canary" not in text
        assert "0123456789" not in text
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600

    @pytest.mark.parametrize("there", ["recording", "text", "link", "folder"])
    def test_a_file_that_exists_is_not_touched(
        self, keyed: Shell, server: ModelServer, file: str, there: str, tmp_path: Path
    ) -> None:
        place = Path(file)
        if there == "recording":
            keyed.afk("run", "--record", file, "hi")
        elif there == "text":
            place.write_text("mine")
        elif there == "link":
            place.symlink_to(tmp_path / "nothing")
        else:
            place.mkdir()
        before, asked = place.lstat(), len(server.requests)
        done = keyed.in_process("run", "--record", file, "hi")

        assert (done.code, done.out) == (2, "")
        assert "exists already; name another file, or delete it first" in done.err
        assert place.lstat() == before
        assert len(server.requests) == asked

    def test_a_run_that_cannot_start_leaves_no_file(self, shell: Shell, file: str) -> None:
        assert shell.in_process("run", "--record", file, "-m", "openai/gpt-5.2", "hi").code == 2
        assert not Path(file).exists()

    def test_a_killed_run_leaves_what_it_had(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        server.script(Step(text=["one ", "two ", "three"], fault=Fault.HANG, fault_after=2))
        process = keyed.start("run", "--record", file, "hi")
        wait_for_output(process, b"two")
        kill(process)

        assert [line["type"] for line in lines(file)][-2:] == ["event", "event"]
        done = offline.afk("run", "--replay", file, "hi")
        assert (done.code, done.out) == (4, "one two \n")
        assert (
            f"the recording {file} is unfinished: the answer is cut (its run was killed, or a disk was full)"
            in done.err
        )

    def test_a_full_disk_costs_the_recording_and_not_the_answer(self, keyed: Shell, file: str) -> None:
        script = (
            "import errno, os, sys\n"
            "from afkcli.wiring import recording\n"
            "real = recording.Recording._write\n"
            "def write(self, form, **more):\n"
            "    if form['type'] == 'event':\n"
            "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
            "    real(self, form, **more)\n"
            "recording.Recording._write = write\n"
            "from afkcli.cli import main\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "run", "--record", file, "hi"],
            cwd=keyed.folder,
            env=keyed.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert (done.returncode, done.stdout) == (0, "reply 1: hi\n")
        assert done.stderr.count(f"the recording {file} is not complete: No space left on device") == 1


class TestReplay:
    def test_the_answer_is_byte_identical_without_a_key_a_server_or_a_thread(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        server.script(Step(text="Grüße\n\n  zwei  \tfünf — 🎈\n"))
        recorded = keyed.afk("run", "--record", file, "hi")
        replayed = offline.afk("run", "--replay", file, "hi")

        assert recorded.out == "Grüße\n\n  zwei  \tfünf — 🎈\n"
        assert (replayed.code, replayed.out, replayed.err) == (0, recorded.out, "")
        assert len(server.requests) == 1
        assert not list(offline.home.rglob("*.db"))

    def test_the_events_are_the_same_but_for_ids_and_times(
        self, pen: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        config(pen, '[[approvals.rules]]\ntool = "pen.write"\ndecision = "allow"\narguments = { text = "a" }\n')
        server.script(wants("a", "b"), Step(text="Done.", reasoning="Hm."))
        arguments = ("run", "--json", "--plugin", "pen.py", "--tool", "pen.*", "Write")
        recorded = pen.afk(*arguments[:2], "--record", file, *arguments[2:])
        replayed = offline.afk("run", "--json", "--replay", file, "--tool", "pen.*", "Write")

        assert {"approval_requested", "approval_resolved", "tool_completed", "warning"} <= set(recorded.types())
        assert recorded.code == replayed.code == 0
        assert same_events(recorded, replayed)

    def test_parallel_calls_end_in_the_recorded_order(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        (keyed.folder / "nap.py").write_text(NAP)
        calls = [ScriptedCall(name="nap__take", arguments={"seconds": n}, id=f"c{n}") for n in (0.3, 0.0, 0.1)]
        server.script(Step(tool_calls=calls), Step(text="Rested."))
        recorded = keyed.afk("run", "--json", "--record", file, "--plugin", "nap.py", "--tool", "nap.*", "Rest")
        replayed = offline.afk("run", "--json", "--replay", file, "--tool", "nap.*", "Rest")

        ends = [event["tool_call_id"] for event in recorded.events if event["type"] == "tool_completed"]
        assert ends == ["c0.0", "c0.1", "c0.3"]
        assert same_events(recorded, replayed)

    def test_approvals_are_as_recorded_and_nobody_is_asked(
        self, pen: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        server.script(wants("a"), wants("b"), Step(text="Done."))
        run = ("run", "--json", "--approvals", "stdin", "--tool", "pen.write", "-n", "Write")
        process = pen.start(*run[:2], "--record", file, "--plugin", "pen.py", *run[2:], stdin=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        out = b""
        for line in process.stdout:
            out += line
            event = json.loads(line)
            if event["type"] == "approval_requested":
                decision = "allow" if event["arguments"] == {"text": "a"} else "deny"
                answer = {"approval_id": event["approval_id"], "decision": decision}
                process.stdin.write(json.dumps(answer).encode() + b"\n")
                process.stdin.flush()
        process.stdin.close()
        code = process.wait(LIMIT)
        recorded = Finished(code, out.decode(), "")
        replayed = offline.afk("run", "--json", "--replay", file, "--tool", "pen.write", "-n", "Write")

        decided = [event["decision"] for event in recorded.events if event["type"] == "approval_resolved"]
        assert decided == ["allow", "deny"]
        assert replayed.code == code == 0
        assert same_events(recorded, replayed)
        assert offline.afk("run", "--replay", file, "--fail-on-denied", "--tool", "pen.write", "Write").code == 6

    def test_images_of_tools_come_from_the_recording(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        (keyed.folder / "eye.py").write_text(EYE)
        server.script(Step(tool_calls=[ScriptedCall(name="eye__look")]), Step(text="A dot."))
        run = ("run", "--json", "--tool", "eye.look", "Look")
        recorded = keyed.afk(*run, "--record", file, "--plugin", "eye.py")
        replayed = offline.afk(*run, "--replay", file)

        completed = next(event for event in recorded.events if event["type"] == "tool_completed")
        assert len(completed["attachments"]) == 1
        assert same_events(recorded, replayed)

    def test_errors_and_retries_are_replayed_without_a_wait(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        server.script(Step(status=503, headers={"retry-after": "1"}), Step(status=429), Step(text="At last."))
        recorded = keyed.afk("run", "--json", "--record", file, "hi")
        replayed = offline.afk("run", "--json", "--replay", file, "hi")

        assert recorded.types().count("retrying") == 2
        assert same_events(recorded, replayed)

    @pytest.mark.parametrize("status", [400, 401, 404])
    def test_a_failed_run_fails_again_in_the_same_way(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str, status: int
    ) -> None:
        server.script(Step(status=status))
        recorded = keyed.afk("run", "--json", "--record", file, "hi")
        replayed = offline.afk("run", "--json", "--replay", file, "hi")

        assert recorded.code == replayed.code == 4
        assert same_events(recorded, replayed)

    @pytest.mark.parametrize(
        "limit",
        [("--max-steps", "1"), ("--max-tool-calls", "1"), ("--max-llm-calls", "1"), ("--max-cost", "0.0003")],
        ids=" ".join,
    )
    def test_a_limit_ends_the_replay_as_it_ended_the_run(
        self, pen: Shell, server: ModelServer, offline: Shell, file: str, limit: tuple[str, str]
    ) -> None:
        prices = '[prices]\n"openai/gpt-5.2-mini" = { input = 1, output = 100 }\n'
        config(pen, prices)
        config(offline, prices)
        server.script(wants("a", "b"), Step(text="one two three four five six seven eight nine ten"))
        recorded = pen.afk("run", "--json", *limit, "--record", file, "--plugin", "pen.py", "--tool", "pen.*", "hi")
        replayed = offline.afk("run", "--json", *limit, "--replay", file, "--tool", "pen.*", "hi")

        assert recorded.code == replayed.code == 3
        assert same_events(recorded, replayed)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
    def test_a_stopped_run_stops_at_the_same_place_by_the_same_signal(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str, number: int
    ) -> None:
        server.script(Step(text=["one ", "two ", "three"], fault=Fault.HANG, fault_after=2))
        process = keyed.start("run", "--record", file, "hi")
        seen = wait_for_output(process, b"two")
        out, _ = kill(process, number)
        replayed = offline.afk("run", "--replay", file, "hi")

        assert process.returncode == replayed.code == -number
        assert replayed.out.encode() == seen + out

    def test_a_time_limit_ends_the_replay_without_the_time(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        server.script(Step(text=["one ", "two ", "three"], fault=Fault.HANG, fault_after=2))
        recorded = keyed.afk("run", "--timeout", "2", "--record", file, "hi")
        replayed = offline.afk("run", "--timeout", "2", "--replay", file, "hi")

        assert recorded.code == replayed.code == 3
        assert replayed.out == recorded.out

    def test_an_answer_with_a_schema(self, keyed: Shell, server: ModelServer, offline: Shell, file: str) -> None:
        schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
        server.script(Step(text='{"n": "many"}'), Step(text='{"n": 7}'))
        recorded = keyed.afk("run", "--schema", schema, "--record", file, "How many?")
        replayed = offline.afk("run", "--schema", schema, "--replay", file, "How many?")

        assert recorded.out == '{"n":7}\n'
        assert (replayed.code, replayed.out) == (0, recorded.out)

    def test_a_fallback_model(self, keyed: Shell, server: ModelServer, offline: Shell, file: str) -> None:
        text = 'fallback_models = ["openai/gpt-4.1-mini"]\n'
        config(keyed, f"[agents.two]\n{text}")
        config(offline, f"[agents.two]\n{text}")
        server.script(Step(status=404), Step(text="From the second."))
        recorded = keyed.afk("run", "--json", "-a", "two", "--record", file, "hi")
        replayed = offline.afk("run", "--json", "-a", "two", "--replay", file, "hi")

        assert "fallback" in [event.get("code") for event in recorded.events]
        assert same_events(recorded, replayed)


NAP = """
import asyncio
from afkcli import hookimpl, tool
AFK_HOOKS = 1
AFK_NAME = "nap"

@tool(name="nap.take", changes=False)
async def take(seconds: float) -> str:
    await asyncio.sleep(seconds * 5)
    return f"slept {seconds}"

@hookimpl
def afk_tools(settings):
    return [take]
"""

DOT_BASE64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
DOT = base64.b64decode(DOT_BASE64)

EYE = """
import base64
from afkcli import hookimpl, tool
from afkcli.plugin import Image
AFK_HOOKS = 1
AFK_NAME = "eye"
DOT = base64.b64decode("BASE64")

@tool(name="eye.look", changes=False)
def look():
    return ["a dot", Image(DOT, name="dot.png"), "and no more"]

@hookimpl
def afk_tools(settings):
    return [look]
""".replace("BASE64", DOT_BASE64)


def test_a_replay_starts_no_mcp_server(keyed: Shell, server: ModelServer, offline: Shell, file: str) -> None:
    note = keyed.home / "notes"
    args = ["-u", str(SCRIPT), "--at-start", "well", "--list", "usual", "--note", str(note)]
    table = f"[tools.mcp.servers.s]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps(args)}\n"
    config(keyed, table + 'read_only = ["slow"]\n')
    config(offline, table + 'read_only = ["slow"]\n')
    server.script(Step(tool_calls=[ScriptedCall(name="s__slow", id="c1")]), Step(text="Done."))
    recorded = keyed.afk("run", "--json", "--record", file, "--tool", "s.*", "Go")
    noted = note.read_text()
    replayed = offline.afk("run", "--json", "--replay", file, "--tool", "s.*", "Go")

    assert recorded.code == 0
    assert "tool_completed" in recorded.types()
    assert same_events(recorded, replayed)
    assert note.read_text() == noted


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_reasoning_and_opaque_data_of_each_api_go_back_as_they_were(
    keyed: Shell, server: ModelServer, offline: Shell, file: str, api: str
) -> None:
    (keyed.folder / "pen.py").write_text(PLUGIN)
    (keyed.folder / "written.txt").write_text("seen")
    settings = f"[providers.openai]\napi = '{api}'\n" if api != "messages" else ""
    config(keyed, settings)
    model = "anthropic/claude-sonnet-5-5" if api == "messages" else "openai/gpt-5.2-mini"
    keyed.env.update(ANTHROPIC_BASE_URL=server.base_url.removesuffix("/v1"), ANTHROPIC_API_KEY=KEY)
    call = ScriptedCall(name="pen__read", pieces=2)
    server.script(
        Step(reasoning=["I look ", "it up."], text="Let me see.", tool_calls=[call]), Step(text="It was seen.")
    )
    run = ("run", "-n", "--json", "--tool", "pen.read", "-m", model)
    recorded = keyed.afk(*run, "--record", file, "--plugin", "pen.py", "What?")
    replayed = offline.afk(*run, "--replay", file, "What?")

    assert recorded.code == 0, recorded.err
    assert {"reasoning_delta", "tool_call_delta", "tool_completed"} <= set(recorded.types())
    assert same_events(recorded, replayed)


def test_progress_and_warnings_of_a_tool_are_given_again(
    keyed: Shell, server: ModelServer, offline: Shell, file: str
) -> None:
    (keyed.folder / "slow.py").write_text(REPORTER)
    server.script(Step(tool_calls=[ScriptedCall(name="slow__work")]), Step(text="Done."))
    run = ("run", "-n", "--json", "--tool", "slow.work", "Go")
    recorded = keyed.afk(*run, "--record", file, "--plugin", "slow.py")
    replayed = offline.afk(*run, "--replay", file)

    assert recorded.types().count("tool_progress") == 2
    assert [event["code"] for event in recorded.events if event["type"] == "warning"] == ["odd"]
    assert same_events(recorded, replayed)


def test_a_person_at_the_terminal_is_not_asked_again(
    pen: Shell, server: ModelServer, offline: Shell, file: str
) -> None:
    server.script(wants("a"), wants("b"), Step(text="Done."))
    arguments = ("run", "-n", "--tool", "pen.write", "Write")
    with attended_terminal() as terminal:
        process = terminal.start(pen, *arguments, "--record", file, "--plugin", "pen.py")
        for answer in ("y\n", "n\n"):
            terminal.wait_for("[v]iew, [?] ", after=len(terminal.seen))
            terminal.type(answer)
        assert process.wait(LIMIT) == 0
    replayed = offline.afk(*arguments, "--json", "--replay", file)

    decided = [(e["decision"], e["by"]) for e in replayed.events if e["type"] == "approval_resolved"]
    assert decided == [("allow", "user"), ("deny", "user")]
    assert replayed.events[-1]["result"]["final_text"] == "Done."


def test_a_summary_of_old_turns_is_made_again_from_the_recording(
    keyed: Shell, server: ModelServer, offline: Shell, file: str
) -> None:
    for shell in (keyed, offline):
        config(shell, '[windows]\n"openai/gpt-5.2-mini" = 4000\n[context]\npolicy = "compact"\n')
    server.script(*[Step(text="word " * 1500)] * 2, Step(status=503), Step(text="They said words."), Step(text="Yes."))
    for _ in range(2):
        keyed.afk("run", "-n", "-t", "long", "More.")
    recorded = keyed.afk("run", "-n", "--json", "-t", "long", "--record", file, "Really?")
    replayed = offline.afk("run", "-n", "--json", "--replay", file, "Really?")

    assert [line["type"] for line in lines(file)].count("request") == 3
    assert recorded.events[-1]["result"]["final_text"] == "Yes."
    assert "context" in recorded.types()
    assert same_events(recorded, replayed)


def test_a_question_from_a_pipe(keyed: Shell, offline: Shell, file: str) -> None:
    recorded = keyed.afk("run", "--record", file, "Summarise", stdin=b"beans\n")
    replayed = offline.afk("run", "--replay", file, "Summarise", stdin=b"beans\n")

    assert (replayed.code, replayed.out) == (0, recorded.out)


def test_a_closed_pipe_ends_the_replay_by_the_same_signal(
    keyed: Shell, server: ModelServer, offline: Shell, file: str
) -> None:
    server.script(Step(text="line\n", repeat=2000, delay_between=0.01))
    process = keyed.start("run", "-n", "--record", file, "hi")
    assert process.stdout is not None
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    process.wait(LIMIT)
    replayed = offline.afk("run", "-n", "--replay", file, "hi")

    assert process.returncode == replayed.code == -signal.SIGPIPE
    assert replayed.out.startswith("line\n")


REPORTER = """
from afkcli import ToolContext, hookimpl, tool
AFK_HOOKS = 1
AFK_NAME = "slow"

@tool(name="slow.work", changes=False)
async def work(context: ToolContext) -> str:
    context.progress("half")
    context.warn("odd", "something is odd")
    context.progress("whole")
    import asyncio
    await asyncio.sleep(0.05)
    return "worked"

@hookimpl
def afk_tools(settings):
    return [work]
"""


class TestThreads:
    def test_the_thread_is_read_as_it_was_before_the_recorded_turn_and_not_written(
        self, keyed: Shell, server: ModelServer, file: str
    ) -> None:
        server.script(Step(text="One."), Step(text="Two."), Step(text="Three."))
        keyed.afk("run", "-t", "trip", "first")
        recorded = keyed.afk("run", "-t", "trip", "--record", file, "second")
        keyed.afk("run", "-t", "trip", "third")
        before = keyed.afk("threads", "show", "trip", "--json").out
        replays = [keyed.afk("run", "-t", "trip", "--replay", file, "second") for _ in range(2)]

        assert [(done.code, done.out, done.err) for done in replays] == [(0, recorded.out, "")] * 2
        assert keyed.afk("threads", "show", "trip", "--json").out == before
        assert len(server.requests) == 3

    def test_another_history_is_a_difference(self, keyed: Shell, server: ModelServer, file: str) -> None:
        server.script(Step(text="One."), Step(text="Two."))
        keyed.afk("run", "-t", "trip", "first")
        keyed.afk("run", "-t", "other", "--record", file, "second")
        done = keyed.afk("run", "-t", "trip", "--replay", file, "second")

        assert done.code == 4
        assert '+          "text": "first",' in done.err
        assert "differs from the recording" in done.err.splitlines()[-1]

    @pytest.mark.parametrize("given", [(), ("-t", "trip"), ("-t", "new")], ids=lambda given: " ".join(given) or "-")
    def test_the_history_is_that_of_the_recording_where_there_is_no_thread(
        self, keyed: Shell, server: ModelServer, offline: Shell, file: str, given: tuple[str, ...]
    ) -> None:
        (keyed.folder / "dot.png").write_bytes(DOT)
        keyed.afk("run", "-t", "trip", "--attach", "dot.png", f"My key is {KEY}.")
        keyed.afk("run", "-t", "trip", "wrong")
        keyed.afk("threads", "undo", "trip")
        recorded = keyed.afk("run", "-t", "trip", "--record", file, "second")
        done = offline.afk("run", *given, "--replay", file, "second")

        assert (done.code, done.out, done.err) == (0, recorded.out, "")
        assert "wrong" not in json.dumps(server.bodies[-1])
        assert KEY not in Path(file).read_text()
        assert "trip" not in offline.afk("threads", "--json").out

    def test_no_memory_has_no_history(self, keyed: Shell, offline: Shell, file: str) -> None:
        recorded = keyed.afk("run", "--no-memory", "--record", file, "hi")
        done = offline.afk("run", "--no-memory", "--replay", file, "hi")

        assert (done.code, done.out) == (0, recorded.out)
        assert not (keyed.home / "afk" / "data").exists()

    def test_a_question_that_is_asked_again(self, keyed: Shell, server: ModelServer, offline: Shell, file: str) -> None:
        server.script(Step(text="One."), Step(text="Better."))
        keyed.afk("run", "-t", "trip", "first")
        recorded = keyed.afk("run", "-t", "trip", "--retry", "-n", "--record", file)
        done = keyed.afk("run", "-t", "trip", "--retry", "-n", "--replay", file)
        elsewhere = offline.afk("run", "-t", "any", "--retry", "-n", "--replay", file)

        assert recorded.out == "Better.\n"
        assert (done.code, done.out) == (elsewhere.code, elsewhere.out) == (0, recorded.out)


class TestDifferences:
    @pytest.mark.parametrize(
        ("given", "path", "line"),
        [
            (("hello",), "messages[0].parts[0].text", '+          "text": "hello",'),
            (("-s", "Be rude.", "hi"), "messages[0].parts[0].text", '+          "text": "Be rude.",'),
            (("-o", "temperature=1", "hi"), "options.temperature", '+    "temperature": 1'),
            (("-m", "openai/gpt-5.2", "hi"), "model", '+  "model": "openai/gpt-5.2",'),
            (("-m", "anthropic/claude-x", "hi"), "model", '+  "model": "anthropic/claude-x",'),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_a_request_that_differs_fails_and_is_shown_as_a_diff(
        self, keyed: Shell, offline: Shell, file: str, given: tuple[str, ...], path: str, line: str
    ) -> None:
        keyed.afk("run", "--record", file, "hi")
        done = offline.afk("run", "--replay", file, *given)

        assert (done.code, done.out) == (4, "")
        assert done.err.startswith(f"--- recorded in {file}\n+++ this run\n@@ ")
        assert line in done.err.splitlines()
        last = done.err.splitlines()[-1]
        assert last.startswith(f"afk: the request of model call 1 differs from the recording {file} in {path}; ")

    def test_of_a_long_text_the_diff_shows_the_line(self, keyed: Shell, offline: Shell, file: str) -> None:
        text = "\n".join(f"rule {n}" for n in range(40))
        keyed.afk("run", "-s", text, "--record", file, "hi")
        done = offline.afk("run", "-s", text.replace("rule 20", "law 20"), "--replay", file, "hi")

        changed = [line.strip() for line in done.err.splitlines() if re.match(r"[-+] ", line)]
        assert [line.lstrip("+- ") for line in changed] == ["rule 20\\n", "law 20\\n"]

    def test_what_a_tool_does_not_offer_any_more_is_a_difference(
        self, pen: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        server.script(Step(text="Done."))
        pen.afk("run", "--record", file, "--plugin", "pen.py", "--tool", "pen.*", "Write")
        done = offline.afk("run", "--replay", file, "--tool", "pen.read", "Write")

        assert done.code == 4
        assert '-      "name": "pen.write",' in done.err

    def test_a_run_that_asks_for_more(self, pen: Shell, server: ModelServer, offline: Shell, file: str) -> None:
        server.script(wants("a"))
        assert (
            pen.afk("run", "--max-steps", "1", "--record", file, "--plugin", "pen.py", "--tool", "pen.*", "Write").code
            == 3
        )
        done = offline.afk("run", "--replay", file, "--tool", "pen.*", "Write")

        assert done.code == 4
        assert f"the recording {file} ends too early: the run asks for more" in done.err.splitlines()[-1]

    def test_a_run_that_asks_for_less(self, pen: Shell, server: ModelServer, offline: Shell, file: str) -> None:
        server.script(wants("a"), Step(text="Done."))
        pen.afk("run", "--record", file, "--plugin", "pen.py", "--tool", "pen.*", "Write")
        done = offline.afk("run", "--max-steps", "1", "--replay", file, "--tool", "pen.*", "Write")

        assert done.code == 4
        assert f"the run asked for less than the recording {file} has: 1 more model call" in done.err

    def test_a_difference_is_not_tried_again_with_a_fallback_model(
        self, keyed: Shell, offline: Shell, file: str
    ) -> None:
        config(offline, '[agents.two]\nfallback_models = ["openai/gpt-4.1-mini"]\n')
        keyed.afk("run", "--record", file, "hi")
        done = offline.afk("run", "-a", "two", "--replay", file, "hello")

        assert done.code == 4
        assert done.err.count("--- recorded") == 1


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty"),
            (b"hello\n", "is not a recording"),
            (b'{"v":1,"type":"run_started","run_id":"x"}\n', "is not a recording"),
            (b'{"type":"recording","v":2}\n', "is of version 2, and this afk reads up to 1; upgrade afk"),
            (b'{"type":"recording","v":1}\n', "has no run"),
            (b'{"type":"recording","v":1}\nnonsense\n', "is damaged in line 2"),
            (b'{"type":"recording","v":1}\n{"type":"request","run":1}\n', "is damaged in line 2"),
            (b'{"type":"recording","v":1}\n{"type":"run","ru', "is cut in line 2"),
            (b"\x00\xff\xfe" * 1000, "is not a recording"),
        ],
        ids=["empty", "text", "log", "newer", "no run", "damaged", "no head", "torn", "binary"],
    )
    def test_a_file_that_is_not_a_whole_recording_is_refused(
        self, shell: Shell, file: str, content: bytes, said: str
    ) -> None:
        Path(file).write_bytes(content)
        done = shell.in_process("run", "--replay", file, "hi")

        assert (done.code, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert f"{file} {said}" in done.err

    @pytest.mark.parametrize("name", ["missing.jsonl", "."])
    def test_a_file_that_cannot_be_read_is_named(self, shell: Shell, name: str) -> None:
        done = shell.in_process("run", "--replay", name, "hi")

        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"the recording {name} cannot be read" in done.err

    @pytest.mark.parametrize(
        "change",
        [
            lambda line: {**line, "kind": "melody"} if line["type"] == "event" else line,
            lambda line: {**line, "message": 7} if line.get("kind") == "response" else line,
            lambda line: {**line, "messages": "none"} if line["type"] == "request" else line,
            lambda line: {**line, "capabilities": {"openai/gpt-5.2-mini": 3}} if line["type"] == "run" else line,
        ],
        ids=["kind", "message", "messages", "capabilities"],
    )
    def test_a_line_of_a_wrong_form_ends_the_run_with_one_line(
        self, keyed: Shell, offline: Shell, file: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        keyed.afk("run", "--record", file, "hi")
        changed = [json.dumps(change(line)) for line in lines(file)]
        Path(file).write_text("\n".join(changed) + "\n")
        done = offline.afk("run", "--replay", file, "hi")

        assert done.code in (2, 4)
        assert "Traceback" not in done.err
        assert file in done.err.splitlines()[-1]

    def test_no_cut_and_no_damage_ends_in_a_traceback(
        self, pen: Shell, server: ModelServer, offline: Shell, file: str
    ) -> None:
        config(pen, '[[approvals.rules]]\ntool = "pen.write"\ndecision = "allow"\narguments = { text = "a" }\n')
        server.script(Step(status=503), wants("a", "b"), Step(text="Done."))
        pen.afk("run", "-n", "--record", file, "--plugin", "pen.py", "--tool", "pen.*", "Write")
        data = Path(file).read_bytes()
        rows = data.splitlines(keepends=True)
        damaged = [b"".join(rows[:n]) for n in range(len(rows))]
        damaged += [b"".join([*rows[:n], *rows[n + 1 :]]) for n in range(len(rows))]
        damaged += [data[:n] for n in range(0, len(data), 211)]
        for number, row in enumerate(rows):
            for name in json.loads(row):
                other = json.dumps({**json.loads(row), name: 7 if name != "position" else "x"}).encode()
                damaged.append(b"".join([*rows[:number], other + b"\n", *rows[number + 1 :]]))
        for content in damaged[::3]:
            Path(file).write_bytes(content)
            done = offline.in_process("run", "-n", "--replay", file, "--tool", "pen.*", "Write")
            assert done.code in (0, 2, 4), done.err
            assert "Traceback" not in done.err
            assert done.code == 0 or file in done.err.splitlines()[-1]

    @pytest.mark.parametrize(
        "options", [("--record", "a", "--replay", "b"), ("--record", "a", "--dry-run"), ("--dry-run", "--json")]
    )
    def test_options_that_exclude_each_other_are_refused(self, shell: Shell, options: tuple[str, ...]) -> None:
        done = shell.in_process("run", *options, "hi")

        assert (done.code, done.out) == (2, "")


def has_namespaces() -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            enter_namespace()
        except NoNamespaceError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not has_namespaces(), reason="this system allows no network namespace")
def test_a_run_with_tools_is_replayed_with_the_network_cut(
    keyed: Shell, server: ModelServer, offline: Shell, file: str
) -> None:
    """Files are read and a command runs while it is recorded; the replay has neither, and no network."""
    (keyed.folder / "notes.txt").write_text("Milk.\nBread.\n")
    rules = '[[approvals.rules]]\ntool = "shell.run"\ndecision = "allow"\n[tools.files]\nroots = ["."]\n'
    config(keyed, rules)
    server.script(
        Step(text="Let me look. ", tool_calls=[ScriptedCall(name="files__read", arguments={"path": "notes.txt"})]),
        Step(tool_calls=[ScriptedCall(name="shell__run", arguments={"argv": ["wc", "-l", "notes.txt"]})]),
        Step(tool_calls=[ScriptedCall(name="files__write", arguments={"path": "new.txt", "content": "x"})]),
        Step(text="There are two lines: milk and bread."),
    )
    tools = ("--tool", "files.*", "--tool", "shell.run")
    recorded = keyed.afk("run", "--record", file, *tools, "What is in notes.txt?")
    results = [line["result"] for line in lines(file) if line["type"] == "result"]
    server.close()
    done = subprocess.run(
        [AFK, "run", "--replay", file, *tools, "What is in notes.txt?"],
        cwd=offline.folder,
        env=offline.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=enter_namespace,
        timeout=LIMIT,
    )

    assert recorded.code == 0
    assert "Milk." in json.dumps(results[0])
    assert "2 notes.txt" in json.dumps(results[1])
    assert results[2]["is_error"]  # nobody could be asked
    assert (done.returncode, done.stdout) == (0, recorded.out.encode()), done.stderr.decode()
    assert list(offline.folder.iterdir()) == []


def test_a_replay_imports_no_sdk_and_no_provider(keyed: Shell, offline: Shell, file: str) -> None:
    keyed.afk("run", "--record", file, "hi")
    done = subprocess.run(
        [AFK, "run", "--replay", file, "hi"],
        cwd=offline.folder,
        env=offline.environment(PYTHONPROFILEIMPORTTIME="1", AFK_WORKER="off"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert done.returncode == 0
    assert "afkcli.wiring.replaying" in modules
    assert not [name for name in modules if name.startswith(("openai", "httpx", "afk_provider", "afk_sink"))]

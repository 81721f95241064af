"""`afk run` as a user meets it: what is on stdout, what is on stderr, the exit code, and what is remembered."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, ScriptedCall, ScriptedUsage, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, LIMIT, Shell, kill, roles_and_texts, wait_for_output
from tests.e2e.warm import start


class TestOutput:
    def test_stdout_is_the_answer_and_one_newline(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["Hel", "lo ", "wörld"]))

        done = keyed.afk("run", "--thread", "t-42", "hi")

        assert (done.code, done.out, done.err) == (0, "Hello wörld\n", "")

    def test_an_emoji_that_a_server_cuts_into_two_deltas_is_whole(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["sun \ud83d", "\ude00 end", " \ud83d"]))

        done = keyed.afk("run", "--json", "-t", "t", "hi")

        deltas = [event["text_delta"] for event in done.events if event["type"] == "text_delta"]
        assert "".join(deltas) == "sun \U0001f600 end \ufffd"  # a half that nothing follows is not dropped
        assert deltas[0] == "sun "
        assert done.events[-1]["result"]["final_text"] == "sun \U0001f600 end \ufffd"

    def test_an_answer_that_ends_with_a_newline_gets_no_second_one(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="one\n"))

        assert keyed.afk("run", "-t", "t", "hi").out == "one\n"

    def test_a_new_thread_is_named_on_stderr(self, keyed: Shell) -> None:
        done = keyed.afk("run", "hi")

        assert done.code == 0
        name = done.err.removeprefix("afk: thread ").strip()
        assert keyed.afk("run", "-t", name, "more").out == "reply 2: more\n"

    def test_json_is_one_object_a_line_in_the_order_of_the_design(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["a", "b"], reasoning="hm"))

        done = keyed.afk("run", "--json", "-t", "t", "hi")

        assert done.types() == [
            "run_started",
            "step_started",
            "reasoning_delta",
            "text_delta",
            "text_delta",
            "step_completed",
            "completed",
        ]
        assert [event["seq"] for event in done.events] == list(range(7))
        assert {event["v"] for event in done.events} == {1}
        assert done.events[-1]["result"]["final_text"] == "ab"
        assert done.events[-1]["result"]["usage"]["total_tokens"] == 19

    def test_the_log_holds_the_same_events(self, keyed: Shell) -> None:
        done = keyed.afk("run", "--json", "-t", "t", "hi")

        assert keyed.log() == done.events

    def test_final_is_only_the_last_steps_text(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="the answer"))

        assert keyed.afk("run", "--final", "-t", "t", "hi").out == "the answer\n"

    def test_no_memory_writes_nothing_to_disk(self, keyed: Shell) -> None:
        done = keyed.afk("run", "--no-memory", "hi")

        assert (done.code, done.out, done.err) == (0, "reply 1: hi\n", "")
        assert [path for path in keyed.home.rglob("*") if path.is_file()] == []

    def test_control_characters_are_neutralised_on_a_terminal_only(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="a\x1b]52;c;ZXZpbA==\x07b\u202ec\x9bd\rE"))

        assert "\x1b]52" in keyed.afk("run", "-t", "t", "hi").out
        shown = on_a_terminal(keyed, "run", "-t", "t", "hi")
        for unsafe in ("\x1b]", "\x07", "\u202e", "\x9b", "d\rE"):
            assert unsafe not in shown
        assert "a␛]52;c;ZXZpbA==␇b<U+202E>c<U+009B>d␍E" in shown

    def test_reasoning_is_dim_on_a_terminal_and_on_stderr_alone(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(reasoning=["I th\x1b[31mink ", "twice."], text=["one ", "two"]))

        on_pipes = keyed.afk("run", "--reasoning", "hi")
        assert (on_pipes.code, on_pipes.out) == (0, "one two\n")
        assert on_pipes.err.endswith("I th␛[31mink twice.\n\n")
        assert "twice" not in keyed.afk("run", "hi").err
        seen = on_a_terminal(keyed, "run", "-q", "-t", "t", "--reasoning", "hi")
        assert seen == "\x1b[2mI th␛[31mink \x1b[0m\x1b[2mtwice.\x1b[0m\r\n\r\none two\r\n"
        assert "\x1b" not in on_a_terminal(keyed, "run", "--reasoning", "hi", NO_COLOR="1")
        events = keyed.afk("run", "--json", "hi").events
        assert "".join(event.get("reasoning_delta", "") for event in events) == "I th\x1b[31mink twice."

    def test_reasoning_that_the_provider_does_not_send_is_reported(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="one", usage=ScriptedUsage(reasoning_tokens=1234)))

        done = keyed.afk("run", "-t", "t", "--reasoning", "hi")

        assert (done.out, done.err.count("\n")) == ("one\n", 1)
        assert "the model used 1,234 tokens to reason" in done.err
        assert keyed.afk("run", "-t", "t", "hi").err == ""

    def test_no_color_and_pipes_have_no_escape_sequences(self, keyed: Shell) -> None:
        assert "\x1b" in on_a_terminal(keyed, "run", "hi")
        assert "\x1b" not in on_a_terminal(keyed, "run", "hi", NO_COLOR="1")
        assert "\x1b" not in keyed.afk("run", "hi").err


class TestMemory:
    def test_two_processes_on_one_thread(self, keyed: Shell, server: ModelServer) -> None:
        keyed.afk("run", "--thread", "t-42", "first")
        keyed.afk("run", "--thread", "t-42", "second")

        assert roles_and_texts(server.bodies[1]) == [
            ("user", "first"),
            ("assistant", "reply 1: first"),
            ("user", "second"),
        ]

    def test_continue_takes_the_thread_last_used_in_this_folder(self, keyed: Shell, server: ModelServer) -> None:
        keyed.afk("run", "-t", "here", "first")
        other = keyed.folder.parent / "other"
        other.mkdir()
        Shell(home=keyed.home, folder=other, env=keyed.env).afk("run", "-t", "there", "elsewhere")

        done = keyed.afk("run", "-c", "again")

        assert (done.code, done.err) == (0, "afk: thread here\n")
        assert len(roles_and_texts(server.bodies[2])) == 3

    def test_continue_without_a_thread_says_so(self, keyed: Shell) -> None:
        done = keyed.afk("run", "-c", "again")

        assert (done.code, done.out) == (2, "")
        assert "no thread was used in" in done.err

    def test_a_thread_keeps_its_model(self, keyed: Shell, server: ModelServer) -> None:
        keyed.afk("run", "-t", "t", "-m", "openai/other-model", "first", AFK_MODEL="")
        keyed.afk("run", "-t", "t", "second", AFK_MODEL="")

        assert [body["model"] for body in server.bodies] == ["other-model", "other-model"]

    def test_tool_calls_and_results_reload_in_their_paired_form(self, keyed: Shell, server: ModelServer) -> None:
        script = keyed.folder.parent / "tools.py"
        script.write_text(
            "from afkcli import Agent, Runner, tool\n"
            "@tool\n"
            "def add(a: int, b: int) -> int:\n"
            "    'Add two numbers.'\n"
            "    return a + b\n"
            "agent = Agent(model='gpt-5.2-mini', tools=[add])\n"
            "print(Runner().run_sync(agent, user_message='2+3?', thread_id='sum').final_text)\n"
        )
        server.script(Step(tool_calls=[ScriptedCall(name="add", arguments={"a": 2, "b": 3}, id="c1")]), Step(text="5"))

        done = keyed.python(script)
        keyed.afk("run", "-t", "sum", "and 4+4?")

        assert (done.code, done.out) == (0, "5\n"), done.err
        reloaded = server.bodies[2]["messages"]
        assert [message["role"] for message in reloaded] == ["user", "assistant", "tool", "assistant", "user"]
        call = reloaded[1]["tool_calls"][0]
        assert (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) == (
            "c1",
            "add",
            {"a": 2, "b": 3},
        )
        assert (reloaded[2]["tool_call_id"], reloaded[2]["content"]) == ("c1", "5")


class TestStdin:
    def test_a_pipe_follows_the_message_after_a_blank_line(self, keyed: Shell, server: ModelServer) -> None:
        keyed.afk("run", "-t", "t", "Review this:", stdin=b"line 1\nline 2\n")

        assert roles_and_texts(server.bodies[0]) == [("user", "Review this:\n\nline 1\nline 2")]

    @pytest.mark.parametrize("arguments", [[], ["-"]])
    def test_stdin_alone_is_the_message(self, keyed: Shell, server: ModelServer, arguments: list[str]) -> None:
        keyed.afk("run", "-t", "t", *arguments, stdin=b"hello\n")

        assert roles_and_texts(server.bodies[0]) == [("user", "hello")]

    def test_no_stdin_leaves_it_to_a_while_read_loop(self, keyed: Shell, server: ModelServer) -> None:
        loop = 'while read -r line; do afk run -n -t loop "$line"; done'
        path = os.pathsep.join([str(AFK.parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", loop],
            input=b"one\ntwo\nthree\n",
            env=keyed.environment(PATH=path),
            cwd=keyed.folder,
            capture_output=True,
            timeout=LIMIT,
        )

        assert done.stdout.decode() == "reply 1: one\nreply 2: two\nreply 3: three\n"

    def test_silence_is_explained_after_a_while(self, keyed: Shell) -> None:
        process = keyed.start("run", "-t", "t", "hi", stdin=subprocess.PIPE)
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        out, _ = process.communicate(b"", timeout=LIMIT)

        assert "waiting for stdin" in line
        assert out == b"reply 1: hi\n"

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"\xff\xfe\x00binary", "stdin is not UTF-8 text"),
            (b"text\0more", "NUL bytes"),
            (b"x" * (10 << 20), "longer than 8 MB"),
            (b"", "no message was given"),
        ],
    )
    def test_stdin_without_a_usable_message_is_refused_with_one_line(
        self, keyed: Shell, data: bytes, said: str
    ) -> None:
        done = keyed.in_process("run", "-t", "t", stdin=data)

        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert done.err.count("\n") == 1

    def test_closed_standard_descriptors_do_no_harm(self, keyed: Shell, server: ModelServer) -> None:
        path = os.pathsep.join([str(AFK.parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", "afk run -t t hi <&- >&- 2>&-"], env=keyed.environment(PATH=path), timeout=LIMIT
        )

        assert done.returncode == 0
        assert keyed.afk("run", "-t", "t", "more").out == "reply 2: more\n"


class TestEndings:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_a_signal_seals_the_partial_answer_and_afk_dies_of_it(
        self, keyed: Shell, server: ModelServer, number: int, code: int
    ) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.05), Step(text="ok"))
        process = keyed.start("run", "-t", "t", "tell me")
        wait_for_output(process, b"word word")

        _, err = kill(process, number)

        assert process.returncode == -number, err  # a shell shows 128 + number
        assert code == 128 + number
        assert b"Traceback" not in err
        assert keyed.log()[-1]["result"]["state"] == "cancelled"
        keyed.afk("run", "-t", "t", "go on")
        cut = roles_and_texts(server.bodies[1])[1]
        assert cut[0] == "assistant"
        assert cut[1].startswith("word word")
        assert "cut off" in cut[1]

    def test_a_closed_stdout_ends_quietly_with_the_turn_sealed(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="line\n", repeat=2000, delay_between=0.005))
        path = os.pathsep.join([str(AFK.parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", "afk run -t t hi | head -n 1; echo ${PIPESTATUS[0]}"],
            env=keyed.environment(PATH=path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )

        assert (done.stdout.decode(), done.stderr.decode()) == ("line\n141\n", "")
        assert keyed.log()[-1]["result"]["state"] == "cancelled"

    def test_a_killed_run_is_found_and_its_text_kept(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.05), Step(text="ok"))
        process = keyed.start("run", "-t", "t", "tell me")
        wait_for_output(process, b"word ")
        keyed.wait_until_kept("t", "word ")

        kill(process)
        done = keyed.afk("run", "-t", "t", "go on")

        assert (done.code, done.out) == (0, "ok\n")
        question, cut, _ = roles_and_texts(server.bodies[1])
        assert question == ("user", "tell me")
        assert cut[1].startswith("word ")
        assert "cut off" in cut[1]

    def test_the_output_limit_is_degraded(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="half an", finish_reason="length"))

        done = keyed.afk("run", "-t", "t", "hi")

        assert (done.code, done.out) == (3, "half an\n")
        assert "output limit" in done.err

    @pytest.mark.parametrize("fault", [Fault.END, Fault.CUT, Fault.CUT_MID_LINE])
    def test_a_stream_without_its_end_is_a_failure(self, keyed: Shell, server: ModelServer, fault: Fault) -> None:
        server.script(Step(text=["some ", "text ", "more"], fault=fault, fault_after=2), Step(text="ok"))

        done = keyed.afk("run", "-t", "t", "hi")

        assert done.code == 4
        assert done.out == "some text \n" or fault is Fault.END
        error, resume = done.err.splitlines()
        assert error.startswith("afk: the answer of the server")
        assert resume == "afk: `afk threads resume t` continues it"
        keyed.afk("run", "-t", "t", "go on")
        assert "cut off" in roles_and_texts(server.bodies[1])[1][1]

    def test_a_timeout_keeps_the_text_so_far(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.1))

        done = keyed.afk("run", "-t", "t", "--timeout", "5", "hi")

        assert done.code == 3
        assert done.out.startswith("word ")
        assert "max_wall_time_s" in done.err

    def test_a_refused_key_is_exit_4_and_is_never_shown(self, keyed: Shell, server: ModelServer) -> None:
        key = keyed.env["OPENAI_API_KEY"]
        server.script(Step(status=401, body={"error": {"message": f"Incorrect API key provided: {key}"}}))

        done = keyed.afk("run", "-t", "t", "--debug", "hi")

        assert (done.code, done.out) == (4, "")
        everything = (
            done.out
            + done.err
            + "".join(path.read_bytes().decode("utf-8", "replace") for path in keyed.home.rglob("*") if path.is_file())
        )
        assert key not in everything

    def test_a_busy_server_is_tried_again_and_that_is_said(self, keyed: Shell, server: ModelServer) -> None:
        server.script(
            Step(status=429, headers={"Retry-After": "0"}, body={"error": {"message": "slow"}}), Step(text="ok")
        )

        done = keyed.afk("run", "-t", "t", "hi")

        assert (done.code, done.out) == (0, "ok\n")
        assert "trying again" in done.err
        assert len(server.requests) == 2


class TestBusy:
    def test_fail_says_who_holds_the_thread(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.05))
        process = keyed.start("run", "-t", "t", "hi")
        wait_for_output(process, b"word")

        done = keyed.afk("run", "-t", "t", "--busy", "fail", "me too")
        named = re.search(r"still in use by process (\d+) on ", done.err)
        assert named is not None
        os.kill(int(named[1]), signal.SIGTERM)  # in a warm worker, it is another one than was started
        process.communicate(timeout=LIMIT)

        assert (done.code, done.out) == (5, "")
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)

    def test_wait_takes_its_turn_and_sees_the_turn_before(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=20, delay_between=0.05), Step(text="ok"))
        process = keyed.start("run", "-t", "t", "first")
        wait_for_output(process, b"word")

        done = keyed.afk("run", "-t", "t", "second")
        process.communicate(timeout=LIMIT)

        assert (done.code, done.out) == (0, "ok\n")
        assert "waiting" in done.err
        assert [text for _, text in roles_and_texts(server.bodies[1])] == ["first", "word " * 20, "second"]

    def test_fork_continues_in_a_thread_of_its_own(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="one"), Step(text="word ", repeat=1000, delay_between=0.05), Step(text="two"))
        keyed.afk("run", "-t", "t", "first")
        process = keyed.start("run", "-t", "t", "second")
        wait_for_output(process, b"word")

        done = keyed.afk("run", "-t", "t", "--busy", "fork", "third")
        kill(process, signal.SIGTERM)

        assert (done.code, done.out) == (0, "two\n")
        assert "fork" in done.err
        assert [text for _, text in roles_and_texts(server.bodies[2])] == ["first", "one", "third"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["run"], "no message was given"),
            (["run", "-m", "nope", "hi"], "unknown model 'nope'"),
            (["run", "-m", "nope/x", "hi"], "no provider 'nope'"),
            (["run", "-m", "anthropic/claude-x", "hi"], "set ANTHROPIC_API_KEY"),
            (["run", "-a", "nope", "hi"], "no agent 'nope'"),
            (["run", "--plugin", "nope.py", "hi"], "no plugin file nope.py"),
            (["run", "-t", "", "hi"], "thread name is empty"),
            (["run", "-t", "a\nb", "hi"], "not printable"),
            (["run", "-t", "-x", "hi"], "starts with '-'"),
            (["run", "-t", "x" * 10_000, "hi"], "too long"),
            (["run", "-t", "t", "-c", "hi"], "--continue and --thread"),
            (["run", "--max-steps", "0", "hi"], "--max-steps"),
            (["run", "--timeout", "-1", "hi"], "--timeout"),
            (["run", "--nope", "hi"], "--nope"),
            (["run", "--max-cost", "0.1", "hi"], "price of openai/gpt-5.2-mini is unknown"),
            (
                ["run", "-o", "temperature=hot", "hi"],
                "openai/gpt-5.2-mini needs a number from 0",
            ),
            (
                ["run", "-o", "top_k=4", "hi"],
                "openai/gpt-5.2-mini does not accept the option 'top_k'; it accepts: max",
            ),
            (["run", "-o", "temperature", "hi"], "'temperature' is not NAME=VALUE"),
            (["run", "-o", "=1", "hi"], "'=1' is not NAME=VALUE"),
            (
                ["run", "-m", "local", "-o", "reasoning_effort=low", "hi"],
                "not accept the option 'reasoning_effort'",
            ),
            (["nope"], "nope"),
        ],
    )
    def test_is_one_line_and_exit_2(self, keyed: Shell, arguments: list[str], said: str) -> None:
        done = keyed.in_process(*arguments)

        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert done.err.count("\n") == 1, done.err

    def test_a_name_is_never_a_path(self, keyed: Shell) -> None:
        before = set(keyed.home.parent.rglob("*"))
        done = keyed.in_process("run", "-t", "../../escape", "hi")

        assert done.code == 0
        assert [path for path in set(keyed.home.parent.rglob("*")) - before if "escape" in path.name] == []
        assert keyed.in_process("run", "-t", "../../escape", "more").out == "reply 2: more\n"

    def test_a_missing_key_names_the_variable_and_leaves_nothing(self, shell: Shell) -> None:
        done = shell.in_process("run", "-t", "t", "-m", "gpt-5.2-mini", "hi")

        assert (done.code, done.out) == (2, "")
        assert "OPENAI_API_KEY" in done.err
        assert shell.in_process("threads").out == ""

    def test_a_malformed_config_names_file_line_and_expected_type(self, keyed: Shell) -> None:
        (keyed.folder / "afk.toml").write_text('# comment\ninstructions = "ok"\nagent = [\n')

        done = keyed.in_process("run", "-t", "t", "hi")

        assert (done.code, done.out) == (2, "")
        assert "afk.toml, line 3" in done.err

    def test_the_embedded_model_can_be_forbidden(self, shell: Shell) -> None:
        done = shell.in_process("run", "hi", AFK_DEMO="off")

        assert (done.code, done.out) == (2, "")
        assert "AFK_DEMO=off" in done.err


class TestBrokenStore:
    def test_a_corrupt_database_does_not_cost_the_answer(self, keyed: Shell) -> None:
        keyed.afk("run", "-t", "t", "hi")
        for path in (keyed.home / "afk" / "data").rglob("*"):
            if path.is_file() and path.stat().st_size:
                path.write_bytes(b"garbage" * 1000)

        done = keyed.afk("run", "-t", "t", "more")

        assert (done.code, done.out) == (1, "reply 2: more\n")
        assert "not saved" in done.err
        rescued = json.loads(next((keyed.home / "afk" / "state" / "rescue").iterdir()).read_text())
        assert [message["parts"][0]["text"] for message in rescued["turn"]["messages"]] == ["more", "reply 2: more"]

    def test_a_database_that_is_deleted_meanwhile_does_not_cost_the_turn(
        self, keyed: Shell, server: ModelServer
    ) -> None:
        keyed.afk("run", "-t", "t", "hi")
        server.script(Step(text=["part ", "rest"], fault=Fault.HANG, fault_after=1))
        process = keyed.start("run", "-t", "t", "more")
        wait_for_output(process, b"part ")
        (keyed.home / "afk" / "data" / "threads.db").unlink()
        server.release()
        _, err = process.communicate(timeout=LIMIT)

        assert process.returncode == 1
        assert b"threads.db was deleted or replaced" in err
        (rescued,) = (keyed.home / "afk" / "state" / "rescue").iterdir()
        assert keyed.afk("threads", "import", str(rescued)).code == 0
        assert "assistant: part rest" in keyed.afk("threads", "show", "t").out

    def test_an_unwritable_folder_does_not_cost_the_answer(self, keyed: Shell) -> None:
        keyed.home.joinpath("afk").write_text("a file where the folder should be")

        done = keyed.afk("run", "-t", "t", "hi")

        assert (done.code, done.out) == (1, "reply 1: hi\n")
        assert "not saved" in done.err
        assert "Traceback" not in done.err


def on_a_terminal(shell: Shell, *arguments: str, **env: str) -> str:
    """Run `afk` with stdout and stderr on a pseudo-terminal and return what it wrote there."""
    main, side = pty.openpty()
    process = start(
        [AFK, *arguments],
        cwd=shell.folder,
        env=shell.environment(TERM="xterm", **env),
        stdin=subprocess.DEVNULL,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    assert process.wait(timeout=LIMIT) == 0
    return shown.decode()


class TestSlowReaders:
    def test_a_signal_ends_a_run_whose_output_is_not_read(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="x" * 1000, repeat=10_000, delay_between=0.005))  # it lasts longer than the test
        process = keyed.start("run", "-t", "t", "hi")
        server.wait_for_requests(1, LIMIT)
        # The pipe is full by then, and the run waits for its reader.
        wait_until(lambda: sum(len(event.get("text_delta", "")) for event in keyed.log()) > 64 * 1024)

        process.send_signal(signal.SIGTERM)
        process.wait(timeout=LIMIT)

        assert process.returncode == -signal.SIGTERM
        assert keyed.log()[-1]["result"]["state"] == "cancelled"

    def test_a_full_disk_under_stdout_keeps_the_answer_in_the_thread(self, keyed: Shell) -> None:
        with Path("/dev/full").open("wb") as full:
            process = keyed.start("run", "-t", "t", "hi", stdout=full)
            _, err = process.communicate(timeout=LIMIT)

        assert process.returncode == 1
        assert b"stdout cannot be written: No space left on device" in err
        assert keyed.afk("run", "-t", "t", "more").out == "reply 2: more\n"


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; a test that hangs is ended by its own limit."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class TestConfig:
    def test_the_config_says_what_to_do_with_a_busy_thread(self, keyed: Shell, server: ModelServer) -> None:
        config = keyed.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text('busy = "fail"\n')
        server.script(Step(text="word ", repeat=1000, delay_between=0.05))
        process = keyed.start("run", "-t", "t", "hi")
        wait_for_output(process, b"word")

        done = keyed.afk("run", "-t", "t", "me too")
        kill(process, signal.SIGTERM)

        assert (done.code, done.out) == (5, "")
        config.write_text('busy = "patient"\n')
        assert "use one of wait, fail, fork" in keyed.afk("run", "-t", "t", "again").err


class TestOptions:
    def test_are_sent_over_those_of_the_config_and_null_takes_one_away(self, keyed: Shell, server: ModelServer) -> None:
        config = keyed.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("[options]\ntemperature = 1\nseed = 3\ntop_p = 0.5\n")

        options = ["temperature=0", "seed=null", "stop=THE END", "stop=END", "reasoning_effort=low"]
        done = keyed.afk("run", *(f"--option={option}" for option in options), "hi")

        assert (done.code, done.err.count("\n")) == (0, 1)
        sent = server.bodies[0]
        assert {name: sent.get(name) for name in ("temperature", "top_p", "stop", "reasoning_effort", "seed")} == {
            "temperature": 0,
            "top_p": 0.5,
            "stop": "END",
            "reasoning_effort": "low",
            "seed": None,
        }

    def test_a_range_in_the_config_is_checked_with_its_line(self, keyed: Shell) -> None:
        (keyed.folder / "afk.toml").write_text("[options]\ntop_p = 2\n")

        done = keyed.afk("run", "hi")

        assert (done.code, done.out) == (2, "")
        assert "afk.toml, line 2: 'options.top_p' must be a number from 0 to 1" in done.err


class TestWhichModel:
    def test_a_server_without_a_key_names_its_provider(self, shell: Shell, server: ModelServer) -> None:
        done = shell.afk("run", "-t", "t", "hi", OPENAI_BASE_URL=server.base_url)

        assert (done.code, done.out, done.err) == (0, "reply 1: hi\n", "")

    def test_settings_in_the_config_name_their_provider(self, shell: Shell, server: ModelServer) -> None:
        config = shell.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[providers.openai]\nbase_url = "{server.base_url}"\ndefault_model = "mine"\n')

        assert shell.afk("run", "-t", "t", "hi").out == "reply 1: hi\n"
        assert server.bodies[0]["model"] == "mine"

    def test_with_several_keys_openai_is_first_and_stderr_says_so(self, shell: Shell, server: ModelServer) -> None:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-one", ANTHROPIC_API_KEY="sk-two")

        done = shell.afk("run", "-t", "t", "hi")

        assert (done.code, done.out) == (0, "reply 1: hi\n")
        assert "using openai, because OPENAI_API_KEY is set (also: ANTHROPIC_API_KEY is set)" in done.err


class TestHelp:
    def test_no_command_shows_the_help_on_stderr(self, shell: Shell) -> None:
        for arguments in ([], ["events"]):
            done = shell.afk(*arguments)

            assert (done.code, done.out) == (2, "")
            assert done.err.startswith("Usage: afk")
            assert "\nCommands:\n" in done.err


def test_a_thread_leaves_the_embedded_model_once_something_names_another(shell: Shell, server: ModelServer) -> None:
    shell.env.update(AFK_LOCAL_THREADS="1")
    first = shell.afk("run", "-t", "t", "What is photosynthesis?")
    second = shell.afk("run", "-t", "t", "And at night?", OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-one")

    assert first.code == 0
    assert "embedded demonstration model" in first.err
    assert (second.code, second.out, second.err) == (0, "reply 1: And at night?\n", "")
    assert [text for _, text in roles_and_texts(server.bodies[0])][-2:] == [first.out.rstrip("\n"), "And at night?"]


def test_the_embedded_model_says_so_at_every_run_and_stays_when_it_was_chosen(
    shell: Shell, server: ModelServer
) -> None:
    shell.env.update(AFK_LOCAL_THREADS="1")
    chosen = shell.afk("run", "-t", "t", "-m", "local", "Say yes.")
    again = shell.afk("run", "-t", "t", "Say no.", OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-one")

    assert (chosen.code, again.code) == (0, 0)
    assert server.bodies == []
    for _ in range(2):
        assert "embedded demonstration model" in shell.afk("run", "-t", "demo", "Say yes.").err

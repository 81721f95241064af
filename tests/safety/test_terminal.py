"""Nothing that a model, a server, a tool, a plugin, a file or a log says can move a terminal, hide or forge a line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.commands.conftest import on_terminal
from tests.e2e.shell import Shell
from tests.safety.canary import write_config

EVIL = "a\x1b]52;c;ZXZpbA==\x07b\x1b[2Jc\x9b31md\x90qe\u202ef\u2066g\u200fh\x08i\x7fj\rk\u2028l"
HIDDEN = "m\u200bn\u200do\ufeffp\U000e0041q"
RAW = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
OURS = re.compile(r"\x1b\[\d*m|\r\n")  # colours, and what the terminal makes of a newline


def toml(text: str) -> str:
    """Return `text` as a string of TOML, which accepts JSON's escapes, except surrogate pairs."""
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def assert_harmless(shown: str) -> None:
    left = OURS.sub("\n", shown)
    found = RAW.findall(left) + re.findall("\x1b|\r", left)
    assert not found, (found, left)


@pytest.fixture
def evil(keyed: Shell, server: ModelServer, tmp_path: Path) -> Shell:
    """A shell with a thread `t` in which all text from the server is hostile, and a hostile config."""
    call = ScriptedCall(name=f"tool{EVIL}", arguments={f"k{EVIL}": EVIL + HIDDEN})
    server.script(
        Step(reasoning=EVIL, text=EVIL, tool_calls=[call]),
        Step(text=["fine", EVIL]),
        Step(status=400, body={"error": {"message": f"no{EVIL}\nafk: forged{HIDDEN}"}}),
        Step(status=401, body=EVIL),
    )
    write_config(
        keyed,
        f"[agents.{toml(EVIL + HIDDEN)}]\ninstructions = {toml(EVIL)}\nmodel = {toml('openai/' + EVIL + HIDDEN)}\n"
        f"[models]\n{toml(EVIL)} = {toml(EVIL)}\n[plugins]\npaths = [{toml(str(tmp_path / 'bad.py'))}]\n",
    )
    (tmp_path / "bad.py").write_text(f"raise RuntimeError({EVIL + chr(10) + HIDDEN!r})\n")
    return keyed


class TestOnATerminal:
    def test_a_run_and_the_commands_that_show_it_are_safe(self, evil: Shell) -> None:
        run = ("run", "-t", "t", "-a", EVIL + HIDDEN)
        shown = [on_terminal(evil, *command) for command in ((*run, "go"), (*run, "--json", "go"), (*run, "go"))]
        assert [code for code, _ in shown] == [0, 4, 4], shown
        commands = (
            ("threads",),
            ("threads", "--json"),
            ("threads", "show", "t"),
            ("threads", "show", "t", "--json"),
            ("threads", "export", "t", "--format", "markdown"),
            ("threads", "export", "t"),
            ("events", "tail", "-n", "99"),
            ("events", "tail", "-n", "99", "--json"),
            ("config", "show"),
            ("config", "show", "--json"),
            ("doctor",),
            ("plugins",),
        )
        shown += [on_terminal(evil, *command, columns=300) for command in commands]

        for _, text in shown:
            assert_harmless(text)
        assert "␛]52;c;ZXZpbA==␇" in shown[0][1]
        assert not re.search("^afk: forged", "".join(text for _, text in shown), re.MULTILINE)

    def test_json_for_a_terminal_means_what_it_means_in_a_pipe(self, evil: Shell) -> None:
        evil.afk("run", "-t", "t", "go")
        piped = evil.afk("events", "tail", "-n", "99", "--json").out

        _, shown = on_terminal(evil, "events", "tail", "-n", "99", "--json")

        lines = [line for line in shown.replace("\r\n", "\n").split("\n") if line.startswith("{")]
        assert [json.loads(line) for line in lines] == [json.loads(line) for line in piped.split("\n")[:-1]]
        assert "\x9b" in piped

    @pytest.mark.parametrize(
        "arguments",
        [
            ["run", "-t", f"x{EVIL}", "hi"],
            ["run", "-a", EVIL, "hi"],
            ["run", "-m", EVIL, "hi"],
            ["run", f"--{EVIL}"],
            ["run", "--plugin", f"{EVIL}.py", "hi"],
            [EVIL],
            ["threads", "show", EVIL],
            ["threads", "import", EVIL],
            ["threads", "export", "--all", "-o", f"/nowhere/{EVIL}"],
            ["trust", EVIL],
        ],
    )
    def test_typed_or_pasted_arguments_are_shown_safely(self, keyed: Shell, arguments: list[str]) -> None:
        code, shown = on_terminal(keyed, *arguments)
        piped = keyed.afk(*arguments)

        assert (code, piped.code) == (2, 2)
        assert_harmless(shown)
        assert_harmless(piped.err)
        assert piped.err.count("\n") == 1

    def test_names_that_differ_in_invisible_characters_look_different(self, evil: Shell) -> None:
        done = on_terminal(evil, "run", "-t", "t", "-a", f"x{HIDDEN}", "hi")[1]

        assert "lm<U+200B>n<U+200D>o<U+FEFF>p<U+E0041>q" in done

    def test_a_hostile_name_of_a_thread_is_refused(self, keyed: Shell) -> None:
        for name in ("a\x1b[2J", "a\u202eb", "a\u200bb", "a\nb", "a\x9bb"):
            assert keyed.afk("run", "-t", name, "hi").code == 2
        assert keyed.afk("threads").out == ""

    def test_lines_in_the_log_from_other_programs_are_shown_safely(self, keyed: Shell) -> None:
        keyed.afk("run", "-t", "t", "hi")
        log = keyed.one_log()
        fields = ("type", "thread_id", "run_id", "ts", "message", "error", "result", "model")
        lines = [json.dumps(dict.fromkeys(fields, EVIL), ensure_ascii=escaped) for escaped in (True, False)]
        lines += [json.dumps({"type": "completed", "result": {"state": EVIL, "final_text": [EVIL]}})]
        lines += [json.dumps({"type": kind, "v": [], "ts": {}}) for kind in ("text_delta", "tool_started", EVIL)]
        hostile = (EVIL, "[" * 100_000, '{"type": NaN}', '{"type": "\\ud800"}', "\0", "[]", "7", '"x"')
        with log.open("ab") as file:
            file.write("".join(f"{line}\n" for line in (*lines, *hostile)).encode() + b"\xff\xfe\n")

        for command in (("events", "tail", "-n", "99"), ("events", "tail", "-n", "99", "--json")):
            code, shown = on_terminal(keyed, *command, columns=300)
            assert code == 0, shown
            assert_harmless(shown)
            assert "are not events and were left out" in shown


class TestInAPipe:
    def test_stdout_has_the_unchanged_answer_and_stderr_is_safe(self, evil: Shell) -> None:
        answered = evil.afk("run", "-t", "t", "go")
        failed = evil.afk("run", "-t", "t", "--debug", "go")

        assert answered.out == f"{EVIL}\nfine{EVIL}\n"
        for done in (answered, failed):
            assert_harmless(done.err)
        assert not re.search("^afk: forged", failed.err, re.MULTILINE)

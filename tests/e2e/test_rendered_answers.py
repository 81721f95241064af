"""Answers on a real terminal: rendered while they stream, resized, and as they are where that is wanted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step
from tests.e2e.attended import Attended, attended_terminal
from tests.e2e.eye_tool import TOOL
from tests.e2e.shell import AFK, LIMIT, Shell
from tests.terminal import Terminal
from tests.terminal_scenarios.answers import ANSWER

SGR = re.compile(r"\x1b\[[\d;]*m")


def on_terminal(shell: Shell, *arguments: str, columns: int = 80, lines: int = 24, **variables: str) -> Terminal:
    return Terminal(
        [AFK, "run", "-q", "-t", "t", *arguments],
        columns=columns,
        lines=lines,
        environment=shell.environment(LANG="C.UTF-8", **variables),
        folder=shell.folder,
        cold=True,  # as users see it: the whole way from the start to the terminal
    )


def seen_of(shell: Shell, *arguments: str, **variables: str) -> str:
    """Return the bytes that a pseudo-terminal gets."""
    with attended_terminal() as terminal:
        process = terminal.start(shell, "run", "-q", "-t", "t", *arguments, **variables)
        _read_to_end(terminal, process)
    return terminal.seen


def _read_to_end(terminal: Attended, process: object) -> None:
    terminal.wait_for("That is all.")
    process.wait(timeout=LIMIT)  # type: ignore[attr-defined]


def test_an_answer_is_rendered_while_it_streams(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=[ANSWER[at : at + 9] for at in range(0, len(ANSWER), 9)], fault=Fault.HANG, fault_after=40))
    with on_terminal(keyed, "hi", lines=40) as terminal:
        terminal.wait_for("Without it")
        assert "• oxygen leaves\n" in terminal.text()
        assert "**" not in terminal.text()
        server.release()
        assert terminal.wait_for_end() == 0
        assert "│ thylakoid │ light, water\n" in terminal.text()
        assert "    return photons * 3.6e-19  # joules, for green light\n" in terminal.text()
        assert "\x1b[34mdef" in terminal.text(colours=True)
        assert terminal.text().endswith("That is all.\n")


@pytest.mark.parametrize("size", [(40, 10), (24, 8)])
def test_on_a_small_terminal_all_of_it_is_there_once(keyed: Shell, server: ModelServer, size: tuple[int, int]) -> None:
    server.script(Step(text=[ANSWER[at : at + 5] for at in range(0, len(ANSWER), 5)], delay_between=0.005))
    with on_terminal(keyed, "hi", columns=size[0], lines=size[1]) as terminal:
        assert terminal.wait_for_end() == 0
        text = terminal.text()
        for once in ("Photosynthesis", "Light is absorbed.", "oxygen leaves", "Without it", "That is all."):
            assert text.count(once) == 1, text
        assert "    return photons * 3.6e-19  # joules, for green light\n" in terminal.copied()
        assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_resizing_lays_the_open_block_out_anew_and_leaves_what_is_finished(keyed: Shell, server: ModelServer) -> None:
    finished = "Finished, and long enough for two lines of the first width of this terminal.\n\n" * 10
    words = " ".join(f"word{number}" for number in range(30))
    server.script(Step(text=[finished, words, " last\n"], fault=Fault.HANG, fault_after=2))
    with on_terminal(keyed, "hi", columns=50) as terminal:
        terminal.wait_for("word29")
        terminal.resize(30, 24)
        terminal.wait_until(lambda: "\nword0 word1 word2 word3 word4\n" in terminal.text(), "narrower text")
        terminal.resize(70, 20)
        wide = "\nword0 word1 word2 word3 word4 word5 word6 word7 word8 word9 word10\n"
        terminal.wait_until(lambda: wide in terminal.text(), "wider text")
        server.release()
        assert terminal.wait_for_end() == 0
        text = terminal.text()
        assert text.split() == [*finished.split(), *words.split(), "last"]


def test_resizing_again_and_again_while_streaming_doubles_nothing(keyed: Shell, server: ModelServer) -> None:
    words = [f"w{number}" for number in range(600)]
    spaced = [f"{word}{' ' if number % 40 else chr(10) * 2}" for number, word in enumerate(words)]
    pieces = ["".join(spaced[start : start + 60]) for start in range(0, len(spaced), 60)]
    # The pauses are for the terminal: a drawing on its way while it wraps its lines anew is for the old width.
    server.script(Step(text=pieces, delay_between=0.7))
    with on_terminal(keyed, "hi", columns=60, lines=15) as terminal:
        for number, size in enumerate([(33, 12), (70, 20), (20, 9), (50, 15)] * 2):
            terminal.wait_for(f"w{number * 60 + 59}")
            terminal.resize(*size)
        assert terminal.wait_for_end() == 0
        assert re.findall(r"w\d+", terminal.copied()) == words


def test_tool_lines_stand_apart_from_the_answer(keyed: Shell, server: ModelServer, tmp_path: Path) -> None:
    plugin = tmp_path / "eye.py"
    plugin.write_text(TOOL)
    call = ScriptedCall(name="eye_look", arguments={"place": "here"})
    server.script(Step(text="Reading **it**.", tool_calls=[call]), Step(text="It says *hello*."))
    with on_terminal(keyed, "--plugin", str(plugin), "--tool", "eye.look", "hi") as terminal:
        terminal.wait_for_end()
        text = terminal.text()
    assert text.startswith("Reading it.\n\nafk: ")
    assert "\n\nIt says hello.\n" in text


def test_a_question_about_a_call_stands_apart_from_the_answer(keyed: Shell, server: ModelServer) -> None:
    call = ScriptedCall(name="shell__run", arguments={"argv": ["true"]})
    server.script(Step(text="I run **it**. ", tool_calls=[call]), Step(text="It *ran*."))
    with on_terminal(keyed, "--tool", "shell.run", "hi") as terminal:
        terminal.wait_for("[v]iew, [?]")
        terminal.type("n\n")
        terminal.wait_for_end()
        text = terminal.text()
    assert text.startswith("I run it.\n\nafk: shell.run asks to run this command:\n  $ true\n")
    assert "\n\nIt ran.\n" in text


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(("--plain",), {}), ((), {"TERM": "dumb"}), ((), {"ACCESSIBLE": "1"}), ((), {"TERM": ""})],
    ids=["--plain", "dumb", "ACCESSIBLE", "no TERM"],
)
def test_it_is_shown_as_it_is_where_that_is_wanted(
    keyed: Shell, server: ModelServer, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    server.script(Step(text=[ANSWER[at : at + 9] for at in range(0, len(ANSWER), 9)]))
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "run", "-q", "-t", "t", *arguments, "hi", **{"NO_COLOR": "1", **variables})
        terminal.wait_for("That is all.")
        process.wait(timeout=LIMIT)
    assert terminal.seen.replace("\r\n", "\n").rstrip("\n") == ANSWER.rstrip("\n")


def test_without_colours_there_are_no_styles_and_the_marks_stay(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=ANSWER))
    with on_terminal(keyed, "hi", NO_COLOR="1", lines=40) as terminal:
        assert terminal.wait_for_end() == 0
        assert not SGR.search(terminal.text(colours=True))
        assert "Plants turn **light** into" in terminal.text()
        assert "light reactions │ thylakoid" in terminal.text()


def test_a_pipe_gets_the_bytes_and_imports_no_renderer(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=ANSWER))
    done = keyed.afk("run", "-q", "hi")
    assert done.out == ANSWER


def test_a_model_that_sends_escape_sequences_changes_nothing_else(keyed: Shell, server: ModelServer) -> None:
    link = "\x1b]8;;http://evil\x1b\\safe\x1b]8;;\x1b\\"
    evil = f"\x1b[2J\x1b]0;owned\x07{link} &#8238;[x](http://real.example) [red]a[/red]\n"
    server.script(Step(text=[f"{evil}\n```sh\n{evil}```\n\nThat is all.\n"]))
    seen = seen_of(keyed, "hi")
    assert not re.search(r"\x1b[^\[]|\x1b\[[\d;]*[^\d;mKJA]|\u202e", seen)
    assert "x\x1b[0m\x1b[2m (http://real.example)" in seen
    assert "[red]a[/red]" in seen


def test_an_answer_of_one_very_long_line_is_whole(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=["x" * 1000] * 1000 + ["\n\nThat is **all**.\n"]))
    with on_terminal(keyed, "hi") as terminal:
        assert terminal.wait_for_end() == 0
        assert terminal.copied() == f"{'x' * 1_000_000}\n\nThat is all.\n"


def test_a_renderer_that_fails_shows_the_answer_as_it_is(keyed: Shell, server: ModelServer) -> None:
    rest = f"{'>' * 5000}\n\nThat is **all**.\n"
    server.script(Step(text=["First **one**.\n\n", rest], fault=Fault.HANG, fault_after=1))
    with on_terminal(keyed, "hi") as terminal:
        terminal.wait_for("First one.")
        server.release()
        assert terminal.wait_for_end() == 0
        assert terminal.copied() == f"First one.\n\n{rest}"

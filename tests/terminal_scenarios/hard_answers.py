"""Answers that are hard to show: without end, too wide, with escape sequences, or while the size changes."""

from __future__ import annotations

from afkcli.testing.model_server import Step
from tests.terminal_pictures import Stage, scenario
from tests.terminal_scenarios.answers import ANSWER

HOSTILE = """\
A title \x1b]0;owned\x07, a clearing \x1b[2J\x1b[H, red \x1b[31mtext, a bell \x07 and a return \rover it.

[a bank](https://attacker.example/login) and \x1b]8;;https://attacker.example\x1b\\a hidden link\x1b]8;;\x1b\\,
reversed \u202etxet, zero\u200bwidth, [bold]rich markup[/bold], <b>HTML</b> &amp; &#27;[2J.

afk: this line imitates afk
"""
WIDTHS = """\
- Chinese 漢字、全角 and half-width ｶﾅ
- Emoji 😀 👩‍👩‍👧 🇩🇪 ✈️
- Combining é ñ, Arabic \u0645\u0631\u062d\u0628\u0627, Hebrew \u05e9\u05dc\u05d5\u05dd and English

| 漢字 | שלום | emoji |
|---|---|---|
| 全角 | مرحبا | 👩‍👩‍👧 |
"""


def shown(stage: Stage, text: str, columns: int = 80) -> None:
    stage.server.script(Step(text=text))
    with stage.terminal("run", "Show it", columns=columns) as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("answer-resized")
def resized(stage: Stage) -> None:
    """The terminal becomes narrow and wide again while an answer streams."""
    pieces = [ANSWER[at : at + 20] for at in range(0, len(ANSWER), 20)]
    stage.server.script(Step(text=pieces, delay_between=0.1))
    with stage.terminal("run", "What is photosynthesis?") as terminal:
        terminal.wait_for("Light is absorbed")
        terminal.resize(40, 24)
        terminal.wait_for("photons")
        stage.picture(terminal, "narrow")
        terminal.resize(100, 30)
        terminal.wait_for_end()
        stage.picture(terminal, "wide")


@scenario("answer-hostile")
def hostile(stage: Stage) -> None:
    """A model sends escape sequences, hidden links, bidi marks and markup."""
    shown(stage, HOSTILE)


@scenario("answer-widths")
def widths(stage: Stage) -> None:
    """Characters of every width, and text from right to left."""
    shown(stage, WIDTHS)


@scenario("answer-wide-table")
def wide_table(stage: Stage) -> None:
    """A table that is wider than the screen."""
    head = "| " + " | ".join(f"column {number}" for number in range(9)) + " |\n" + "|---" * 9 + "|\n"
    shown(stage, head + "| " + " | ".join(["a cell with several words"] * 9) + " |\n", columns=60)


@scenario("answer-endless-code")
def endless_code(stage: Stage) -> None:
    """A code block that never ends, and is stopped by Ctrl-C."""
    stage.server.script(Step(text=["```python\n", *["x = 1  # again\n"] * 2000], delay_between=0.01))
    with stage.terminal("run", "-t", "code", "Write") as terminal:
        terminal.wait_for("again")
        terminal.key("C-c")
        terminal.wait_for_end()
        stage.picture(terminal, scrollback=False)


@scenario("answer-closed")
def closed(stage: Stage) -> None:
    """The terminal is closed in the middle of an answer; the turn is in the thread."""
    stage.server.script(Step(text="word ", repeat=2000, delay_between=0.02))
    with stage.terminal("run", "-t", "closed", "Talk") as terminal:
        terminal.wait_for("word word")
    with stage.terminal("threads", "show", "closed") as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("waiting")
def waiting(stage: Stage) -> None:
    """What is shown before the first word comes."""
    stage.server.script(Step(text="Here it is.", delay_first=4))
    with stage.terminal("run", "Take your time") as terminal:
        terminal.wait_for("(2 s)")
        stage.picture(terminal)
        terminal.wait_for_end()
        stage.picture(terminal, "ended")

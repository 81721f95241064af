"""The status line: what is left out where the terminal is narrow."""

from __future__ import annotations

import pytest

from afkcli.chat.status import Status, status_line, status_words
from afkcli.screen.text import width_of

FULL = Status("trip", "openai/gpt-5.2", used=12_345, window=128_000, cost=0.0123, attached=1)


def test_a_wide_terminal_shows_everything() -> None:
    assert status_line(FULL, 100) == "trip · 1 attached · openai/gpt-5.2 · 12k/128k tokens (10 %) · $0.0123"


@pytest.mark.parametrize("columns", [1, 2, 5, 8, 12, 20, 30, 40, 60, 80])
@pytest.mark.parametrize("name", ["trip", "x" * 200, "旅行の計画について" * 5, "رحلة إلى باريس", "a\x1b[31mb\u202ec"])
def test_the_line_is_never_wider_than_the_terminal(columns: int, name: str) -> None:
    line = status_line(FULL._replace(thread=name), columns)

    assert width_of(line) <= max(columns - 1, 1)
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_a_narrow_terminal_keeps_the_thread_and_the_model() -> None:
    assert status_line(FULL._replace(attached=0), 40) == "trip · openai/gpt-5.2"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (Status(), "new thread"),
        (Status("t", "m", used=950), "t · m · 950 tokens"),
        (Status("t", "m", used=9_500, window=10_000), "t · m · 9.5k/10k tokens (95 %)"),
        (Status("t", "m", cost=None), "t · m"),
    ],
)
def test_what_is_not_known_is_left_out(status: Status, line: str) -> None:
    assert status_line(status, 100) == line


def test_the_commands_are_named_until_a_message_was_answered() -> None:
    status = Status(model="openai/gpt-5.2", is_begun=False)

    assert status_line(status, 80) == "new thread · openai/gpt-5.2 · /help lists the commands"
    assert status_line(status, 30) == "new thread · openai/gpt-5.2"
    assert status_words(status) == "a new thread, model openai/gpt-5.2; /help lists the commands"


def test_the_model_that_a_plugin_has_by_itself_is_named_by_the_plugin() -> None:
    assert status_line(Status("t", "local/"), 80) == "t · local"
    assert status_words(Status("t", "local/")) == "thread t, model local"


def test_the_status_in_words() -> None:
    words = "thread trip, model openai/gpt-5.2, 12,345 of 128,000 tokens of the window used, $0.0123 so far, 1 attached"

    assert status_words(FULL) == words
    assert status_words(Status()) == "a new thread"

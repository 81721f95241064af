"""`afk chat` on a real terminal: keys, pastes, Ctrl-C, and a terminal that is closed.

The commands of docs/how-to/chat.md are run here: `afk chat`, `afk chat -t trip` and `afk chat -c`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, Shell, roles_and_texts
from tests.terminal import Terminal

Open = Callable[..., Terminal]
READY = "new thread"
SLOW = Step(text="word ", repeat=2000, delay_between=0.02)


@pytest.fixture
def chat(keyed: Shell) -> Iterator[Open]:
    """Return what starts `afk chat` on a terminal, with these arguments and variables."""
    with ExitStack() as stack:

        def start(*arguments: str, columns: int = 80, lines: int = 24, **env: str) -> Terminal:
            environment = keyed.environment(**env)
            terminal = Terminal(
                [AFK, "chat", *arguments], columns=columns, lines=lines, environment=environment, folder=keyed.folder
            )
            return stack.enter_context(terminal)

        yield start


def ask(terminal: Terminal, message: str, answer: str) -> None:
    """Type a message, and wait for its answer and the next prompt."""
    terminal.type(f"{message}\n")
    terminal.wait_for(answer)
    at_prompt(terminal)


def at_prompt(terminal: Terminal, typed: str = "") -> None:
    """Wait until the last row but the status line is a prompt with what is typed."""

    def is_there() -> bool:
        rows = terminal.screen().splitlines()
        return any(row.rstrip() == f"> {typed}".rstrip() for row in rows[-8:])

    terminal.wait_until(is_there, f"prompt with {typed!r}")


def turns(shell: Shell, thread: str) -> list[dict[str, Any]]:
    return shell.in_process("threads", "show", thread, "--json").events


def test_a_conversation_of_two_turns_and_how_it_continues(chat: Open, keyed: Shell, server: ModelServer) -> None:
    terminal = chat()
    terminal.wait_for(READY)
    ask(terminal, "hello", "reply 1: hello")
    ask(terminal, "and again", "reply 2: and again")
    terminal.key("C-d")

    assert terminal.wait_for_end() == 0
    (thread,) = keyed.in_process("threads", "--json").events
    assert thread["turns"] == 2
    assert f"`afk chat -t {thread['thread_id']}` continues this conversation" in terminal.copied()

    again = chat("-c")
    again.wait_for(thread["thread_id"])
    at_prompt(again)
    ask(again, "the third", "reply 3: the third")
    assert len(roles_and_texts(server.requests[-1].body)) == 5


def test_ctrl_c_stops_the_answer_and_the_next_question_is_answered(
    chat: Open, keyed: Shell, server: ModelServer
) -> None:
    server.script(SLOW, Step(text="the second answer"))
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    terminal.type("first\n")
    terminal.wait_for("word word")
    terminal.key("C-c")
    terminal.wait_for("/resume continues the answer")
    at_prompt(terminal)
    ask(terminal, "second", "the second answer")
    terminal.key("C-d")

    assert terminal.wait_for_end() == 0
    assert [turn["state"] for turn in turns(keyed, "trip")] == ["cancelled", "completed"]


def test_a_hundred_lines_that_are_pasted_are_one_message_after_enter(chat: Open, server: ModelServer) -> None:
    lines = [f"line {number}" for number in range(100)]
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    terminal.paste("\n".join(lines) + "\n")
    terminal.wait_for("line 99", anywhere=False)
    assert server.requests == []
    terminal.key("Enter")
    terminal.wait_for("reply 1")

    assert roles_and_texts(server.requests[0].body) == [("user", "\n".join(lines))]

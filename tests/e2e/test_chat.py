"""`afk chat` on a real terminal: keys, pastes, Ctrl-C, and a terminal that is closed.

The commands of docs/how-to/chat.md are run here: `afk chat`, `afk chat -t trip` and `afk chat -c`.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import Fault, ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import AFK, LIMIT, Shell, kill, roles_and_texts
from tests.e2e.warm import start
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


def test_a_message_is_in_what_has_scrolled_away_once(chat: Open) -> None:
    """The chat begins in the first row: what is erased there must not be kept as if it had scrolled away."""
    terminal = chat("-t", "trip")
    terminal.wait_for("openai/gpt-5.2-mini")
    ask(terminal, "hello", "reply 1: hello")
    ask(terminal, "again", "reply 2: again")

    rows = [row.rstrip() for row in terminal.text().splitlines()]
    assert [row for row in rows if row.startswith(">")] == ["> hello", "> again", ">"]
    assert sum("trip ·" in row for row in rows) == 1


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


def test_a_terminal_that_is_closed_in_the_middle_of_an_answer_seals_the_turn(
    chat: Open, keyed: Shell, server: ModelServer
) -> None:
    server.script(SLOW)
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    terminal.type("first\n")
    terminal.wait_for("word word")
    terminal.close()

    state = ended_turn(keyed, "trip")
    assert state["state"] == "cancelled"
    assert "word word" in text_of(state)


def test_a_terminal_that_is_closed_at_the_prompt_ends_the_chat(keyed: Shell) -> None:
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", "-t", "trip")
        terminal.wait_for("trip")
        terminal.type("half a mess")
        terminal.wait_for("half")
        process.send_signal(signal.SIGHUP)

        assert process.wait(LIMIT) == -signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_at_the_prompt_gives_the_terminal_back(keyed: Shell, number: int) -> None:
    with attended_terminal() as terminal:
        before = termios.tcgetattr(terminal.side)
        process = terminal.start(keyed, "chat")
        terminal.wait_for(READY)
        assert termios.tcgetattr(terminal.side) != before
        process.send_signal(number)

        assert process.wait(LIMIT) == -number
        assert termios.tcgetattr(terminal.side) == before


def test_a_chat_that_is_killed_loses_nothing(keyed: Shell, server: ModelServer) -> None:
    server.script(SLOW, Step(text="the rest"))
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", "-t", "trip")
        terminal.wait_for("trip")
        terminal.type("first\r")
        terminal.wait_for("word word")
        keyed.wait_until_kept("trip", "word word")
        kill(process)

    turn = ended_turn(keyed, "trip")
    assert turn["state"] == "interrupted"
    assert "word word" in text_of(turn)
    assert keyed.in_process("threads", "resume", "trip").code == 0


def test_the_terminal_is_asked_nothing(keyed: Shell) -> None:
    """A terminal that answers no queries neither delays the prompt nor gets a warning."""
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", "-t", "trip")
        terminal.wait_for("trip")
        terminal.type("hi\r")
        position = terminal.wait_for("reply 1: hi")
        terminal.wait_for("trip", position)
        terminal.type("\x04")
        assert process.wait(LIMIT) == 0
        terminal.wait_for("continues this conversation")

        assert not re.search(r"\x1b\[[?>=]?\d*[nc]|\x1b\](?:4|1[0-2]);[^\x07\x1b]*\?|\x1bP", terminal.seen)
        assert "WARNING" not in terminal.seen


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"ACCESSIBLE": "1"}, {"TERM": "unknown"}])
def test_a_plain_terminal_gets_words_and_no_escape_sequences(keyed: Shell, variables: dict[str, str]) -> None:
    keyed.env["NO_COLOR"] = "1"
    with attended_terminal() as terminal:
        given = [f"{name}={value}" for name, value in variables.items()]
        process = terminal.start(keyed, "chat", "-t", "trip", program=("env", *given, AFK))
        terminal.wait_for("thread trip, model openai/gpt-5.2-mini")
        terminal.wait_for("> ")
        terminal.type("hi\n")
        position = terminal.wait_for("reply 1: hi")
        position = terminal.wait_for("19 tokens of the window used", position)
        terminal.wait_for("> ", position)
        terminal.type("one\\\n")
        position = terminal.wait_for("\n. ", position)
        terminal.type("two\n")
        position = terminal.wait_for("reply 2: one", position)
        terminal.wait_for("> ", position)
        terminal.type("\x03")
        position = terminal.wait_for("press Ctrl-C again, or Ctrl-D, to leave", position)
        terminal.wait_for("> ", position)
        terminal.type("\x04")

        assert process.wait(LIMIT) == 0
        terminal.wait_for("continues this conversation")
        assert "\x1b" not in terminal.seen


def test_a_plain_terminal_stops_the_answer_by_ctrl_c(keyed: Shell, server: ModelServer) -> None:
    server.script(SLOW, Step(text="the second answer"))
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", "-t", "trip", ACCESSIBLE="1")
        terminal.wait_for("> ")
        terminal.type("first\n")
        terminal.wait_for("word word")
        terminal.type("\x03")
        position = terminal.wait_for("/resume continues the answer")
        terminal.wait_for("> ", position)
        terminal.type("second\n")
        position = terminal.wait_for("the second answer", position)
        terminal.wait_for("> ", position)
        terminal.type("\x03")
        terminal.wait_for("press Ctrl-C again", position)
        terminal.type("\x03")

        assert process.wait(LIMIT) == 0


def test_without_colours_there_are_none(keyed: Shell) -> None:
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", "-t", "trip", NO_COLOR="1")
        terminal.wait_for("trip")
        terminal.type("/h")
        terminal.wait_for("Show the commands")
        terminal.type("\x03")
        terminal.type("\x04")
        assert process.wait(LIMIT) == 0

        assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)[;m]", terminal.seen)


def test_a_paste_that_the_terminal_does_not_mark_is_not_sent(keyed: Shell, server: ModelServer) -> None:
    lines = [f"line {number}" for number in range(100)]
    with attended_terminal() as terminal:
        terminal.start(keyed, "chat", "-t", "trip")
        terminal.wait_for("trip")
        terminal.type("\r".join(lines) + "\r")
        terminal.wait_for("line 99")
        assert server.requests == []
        while not server.requests:  # an Enter that comes too soon belongs to the paste
            terminal.type("\r")
            select.select([], [], [], 0.3)

    assert roles_and_texts(server.requests[0].body) == [("user", "\n".join(lines))]


@pytest.mark.parametrize(
    "message",
    [
        "日本語のテキスト、全角",
        "한국어 조합",
        "e\u0301 a\u0308 combining",
        "👩\u200d👩\u200d👧 family, 🇫🇷 flag",
        "\u0645\u0631\u062d\u0628\u0627 right to left \u05e9\u05dc\u05d5\u05dd",
        "ไทย हिन्दी",
        "x" * 300,
    ],
)
def test_text_of_every_width_is_sent_as_it_was_typed(keyed: Shell, server: ModelServer, message: str) -> None:
    with attended_terminal() as terminal:
        termios.tcsetwinsize(terminal.side, (24, 40))
        process = terminal.start(keyed, "chat", "-t", "trip")
        terminal.wait_for("trip")
        terminal.type(f"{message}!")
        terminal.type("\x1b[D\x1b[D\x1b[C\x1b[C\x7f")  # Left, Left, Right, Right, Backspace
        terminal.type("\r")
        position = terminal.wait_for("reply 1:")
        terminal.wait_for("trip", position)
        terminal.type("\x04")
        assert process.wait(LIMIT) == 0

    assert roles_and_texts(server.requests[0].body) == [("user", message)]


def test_the_cursor_stands_behind_wide_characters(chat: Open, server: ModelServer) -> None:
    terminal = chat("-t", "trip", columns=40)
    terminal.wait_for("trip")
    terminal.type("日本語")
    terminal.wait_for("日本語")
    terminal.wait_until(lambda: terminal.cursor()[0] == 8, "cursor behind three wide characters")
    terminal.key("Left", "BSpace")
    terminal.wait_until(lambda: "> 日語" in terminal.screen(), "text without the second character")
    terminal.key("Enter")
    terminal.wait_for("reply 1")

    assert roles_and_texts(server.requests[0].body) == [("user", "日語")]


def test_escape_sequences_of_a_model_do_nothing(chat: Open, server: ModelServer) -> None:
    server.script(Step(text="before\x1b[2J\x1b[31m\x1b]0;title\x07\x9b5A\u202eafter"))
    terminal = chat("-t", "trip", columns=100)
    terminal.wait_for("trip")
    ask(terminal, "hi", "after")

    assert "> hi" in terminal.screen()
    assert "before" in terminal.screen()


def test_forty_columns_and_a_terminal_that_is_resized(chat: Open) -> None:
    terminal = chat("-t", "a-thread-with-a-rather-long-name", columns=40, lines=12)
    terminal.wait_for("a-thread")
    ask(terminal, "hello", "reply 1: hello")
    terminal.type("a message that is longer than the terminal is wide")
    terminal.wait_for("is wide")
    terminal.resize(30, 10)
    terminal.type(" and more")
    terminal.wait_until(lambda: "is wide and more" in terminal.screen().replace("\n  ", ""), "the longer message")
    terminal.resize(90, 30)
    terminal.wait_for("> a message that is longer than the terminal is wide and more", anywhere=False)
    terminal.key("Enter")
    reply = "reply 2: a message that is longer than the terminal is wide and more"  # tmux resizes after a while
    terminal.wait_until(lambda: reply in " ".join(terminal.text().split()), "the reply")

    assert all(len(row) <= 90 for row in terminal.text().splitlines())


def test_a_long_message_is_written_with_alt_enter_and_backslashes(chat: Open, server: ModelServer) -> None:
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    terminal.type("one")
    terminal.key("M-Enter")
    terminal.type("two\\")
    terminal.wait_for("two\\")
    terminal.key("Enter")
    terminal.wait_until(lambda: "\\" not in terminal.screen(), "line without its backslash")
    terminal.type("three")
    terminal.wait_for("three")
    assert server.requests == []
    terminal.key("Enter")
    terminal.wait_for("reply 1")

    assert roles_and_texts(server.requests[0].body) == [("user", "one\ntwo\nthree")]


def test_ctrl_c_ends_a_search_of_what_was_typed(chat: Open, server: ModelServer) -> None:
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    ask(terminal, "hello", "reply 1: hello")
    terminal.key("C-r")
    terminal.type("hel")
    terminal.wait_for("I-search backward: hel", anywhere=False)
    terminal.key("C-c")
    terminal.wait_until(lambda: "I-search" not in terminal.screen(), "end of the search")
    at_prompt(terminal)
    ask(terminal, "another", "reply 2: another")


def test_ctrl_c_at_the_prompt_clears_and_twice_leaves(chat: Open, server: ModelServer) -> None:
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    terminal.type("not this")
    at_prompt(terminal, "not this")
    terminal.key("C-c")
    at_prompt(terminal)
    terminal.key("C-c")
    terminal.wait_for("press Ctrl-C again")
    terminal.type("x")
    at_prompt(terminal, "x")
    terminal.key("C-c")
    at_prompt(terminal)
    terminal.key("C-c")
    terminal.wait_for("press Ctrl-C again")
    terminal.key("C-c")

    assert terminal.wait_for_end() == 0
    assert server.requests == []


def test_many_ctrl_c_in_an_answer_stop_it_and_not_the_chat(chat: Open, server: ModelServer) -> None:
    server.script(SLOW, Step(text="the second answer"))
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    terminal.type("first\n")
    terminal.wait_for("word word")
    terminal.key("C-c", "C-c")
    terminal.wait_for("/resume continues the answer")
    ask(terminal, "second", "the second answer")


def test_what_was_typed_is_there_in_the_next_chat(chat: Open, keyed: Shell, server: ModelServer) -> None:
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    ask(terminal, "the first message", "reply 1")
    terminal.key("C-d")
    assert terminal.wait_for_end() == 0
    kept = keyed.home / "afk" / "state" / "chat-history.jsonl"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    again = chat("-t", "trip")
    again.wait_for("trip")
    again.key("Up")
    at_prompt(again, "the first message")
    again.key("Enter")
    again.wait_for("reply 2: the first message")


def test_a_mistyped_command_and_a_message_that_failed_can_be_changed(chat: Open, server: ModelServer) -> None:
    server.script(Step(text="hello"))
    terminal = chat("-t", "trip", "-m", "nothing/x", columns=100)
    terminal.wait_for("trip")
    terminal.type("/modle gpt-5.2-mini\n")
    terminal.wait_for("did you mean /model?")
    at_prompt(terminal, "/modle gpt-5.2-mini")
    terminal.key("C-c")
    terminal.type("a question\n")
    terminal.wait_for("there is no provider 'nothing'")
    at_prompt(terminal, "a question")
    terminal.key("C-c")
    terminal.type("/model gpt-5.2-mini\n")
    terminal.wait_for("the model is openai/gpt-5.2-mini from now on")
    ask(terminal, "again", "hello")

    assert [text for _, text in roles_and_texts(server.requests[0].body)] == ["again"]


def test_what_another_run_adds_to_the_thread_is_in_the_next_question(
    chat: Open, keyed: Shell, server: ModelServer
) -> None:
    terminal = chat("-t", "trip")
    terminal.wait_for("trip")
    ask(terminal, "one", "reply 1")
    assert keyed.in_process("run", "-t", "trip", "two").code == 0
    ask(terminal, "three", "reply 3: three")

    assert [text for role, text in roles_and_texts(server.requests[2].body) if role == "user"] == [
        "one",
        "two",
        "three",
    ]


def test_a_thread_that_another_run_holds_is_waited_for_until_ctrl_c(
    chat: Open, keyed: Shell, server: ModelServer
) -> None:
    server.script(Step(text="word", fault=Fault.HANG_BEFORE_HEADERS), Step(text="the answer"))
    other = keyed.start("run", "-t", "trip", "the other")
    terminal = chat("-t", "trip", columns=100)
    terminal.wait_until(lambda: server.requests, "request of the other run")
    terminal.wait_for("trip")
    terminal.type("mine\n")
    terminal.wait_for("waiting")
    terminal.key("C-c")
    at_prompt(terminal, "mine")
    kill(other)
    terminal.key("Enter")
    terminal.wait_for("the answer")


def test_a_tool_call_is_approved_in_the_chat(chat: Open, keyed: Shell, server: ModelServer) -> None:
    call = ScriptedCall(name="shell__run", arguments={"argv": ["touch", "made"]})
    server.script(Step(tool_calls=[call]), Step(text="it was not run"), Step(text="a second answer"))
    terminal = chat("-t", "trip", "--tool", "shell.run", columns=100)
    terminal.wait_for("trip")
    terminal.type("touch it\n")
    terminal.wait_for("shell.run asks to")
    terminal.wait_for("[y]es")
    terminal.type("n\n")
    terminal.wait_for("it was not run")
    at_prompt(terminal)
    ask(terminal, "and", "a second answer")

    assert not (keyed.folder / "made").exists()


def test_plain_numbers_the_answers_and_shows_turns_as_they_are(keyed: Shell, server: ModelServer) -> None:
    call = ScriptedCall(name="shell__run", arguments={"argv": ["touch", "made"]})
    server.script(Step(tool_calls=[call]), Step(text="it was **not** run"))
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", "-t", "trip", "--plain", "--tool", "shell.run", NO_COLOR="1")
        terminal.wait_for("thread trip, model openai/gpt-5.2-mini; /help lists the commands")
        terminal.type("touch it\n")
        terminal.wait_for("1. yes")
        terminal.wait_for("type a number or a word and Enter")
        terminal.type("2\n")
        position = terminal.wait_for("it was **not** run")
        position = terminal.wait_for("> ", position)
        terminal.type("/show\n")
        position = terminal.wait_for("it was **not** run", position)
        position = terminal.wait_for("> ", position)
        terminal.type("exit\n")

        assert process.wait(LIMIT) == 0
        assert "\x1b" not in terminal.seen
    assert not (keyed.folder / "made").exists()


def test_ctrl_c_at_an_approval_stops_the_answer_and_not_the_chat(chat: Open, server: ModelServer) -> None:
    call = ScriptedCall(name="shell__run", arguments={"argv": ["touch", "made"]})
    server.script(Step(tool_calls=[call]), Step(text="a second answer"))
    terminal = chat("-t", "trip", "--tool", "shell.run", columns=100)
    terminal.wait_for("trip")
    terminal.type("touch it\n")
    terminal.wait_for("shell.run asks to")
    terminal.key("C-c")
    terminal.wait_for("/resume continues the answer")
    ask(terminal, "and", "a second answer")


def test_tab_completes_commands_threads_and_files(chat: Open, keyed: Shell) -> None:
    (keyed.folder / "a picture.txt").write_text("THE CONTENT")
    assert keyed.in_process("run", "-t", "garden", "hi").code == 0
    terminal = chat("-t", "trip")
    terminal.wait_for("openai/gpt-5.2-mini")
    terminal.type("/thre")
    terminal.wait_for("List the threads")
    terminal.key("Tab")
    at_prompt(terminal, "/thread")
    terminal.key("C-c")
    terminal.type("/thread gar")
    terminal.wait_for("/thread gar")
    terminal.wait_until(lambda: "garden" in terminal.screen(), "the thread in the menu")
    terminal.key("Tab", "Enter")
    terminal.wait_for("the chat continues in garden")
    terminal.type("/attach a")
    terminal.wait_for("a picture.txt")
    terminal.key("Tab", "Enter")
    terminal.wait_for("attached to the next message: a picture.txt")


def test_a_config_that_is_wrong_ends_the_chat_with_one_line(keyed: Shell) -> None:
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("modle = 1\n")
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat")

        assert process.wait(LIMIT) == 2
        terminal.wait_for("modle")


def test_without_prompt_toolkit_a_line_says_how_to_install_it(keyed: Shell, tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'prompt_toolkit'\", name='prompt_toolkit')\n"
    (tmp_path / "prompt_toolkit.py").write_text(missing)
    keyed.cold = True
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "chat", program=(sys.executable, "-m", "afkcli"), PYTHONPATH=str(tmp_path))

        assert process.wait(LIMIT) == 2
        terminal.wait_for("afk chat needs prompt_toolkit; install it with: pip install 'afkcli[chat]'")


@pytest.mark.parametrize("variables", [{}, {"ACCESSIBLE": "1"}])
def test_a_terminal_that_goes_without_a_signal_ends_the_chat(keyed: Shell, variables: dict[str, str]) -> None:
    """As under nohup(1). A chat that went on would read the end of its input for ever."""
    main, side = pty.openpty()
    process = start(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", AFK, "chat", "-t", "trip"],
        cwd=keyed.folder,
        env=keyed.environment(TERM="xterm", **variables),
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        take_terminal=True,
    )
    os.close(side)
    seen = b""
    while b"trip" not in seen:
        seen += os.read(main, 4096)
    os.close(main)

    process.wait(LIMIT)


def test_answers_go_to_a_file_and_the_prompt_stays_on_the_terminal(keyed: Shell) -> None:
    with attended_terminal() as terminal:
        process = terminal.start(keyed, "-c", 'exec "$0" chat -t trip > answers', AFK, program=("sh",))
        terminal.wait_for("trip")
        terminal.type("hello\r")
        position = terminal.wait_for("19 tokens")
        terminal.type("/thread\r")
        terminal.wait_for("the thread is trip", position)
        terminal.type("/show\r")
        position = terminal.wait_for("/show", position)
        position = terminal.wait_for("\x1b[?2004l", position)  # the prompt has ended
        position = terminal.wait_for("\x1b[?2004h", position)  # and is back
        terminal.wait_for("19 tokens", position)
        terminal.type("\x04")
        assert process.wait(LIMIT) == 0
    written = (keyed.folder / "answers").read_text()

    assert written.startswith("reply 1: hello\nturn 1 ")
    assert "\x1b" not in written
    assert "reply 1" not in terminal.seen


def ended_turn(shell: Shell, thread: str) -> dict[str, Any]:
    """Wait until the last turn of a thread has ended, and return it."""
    while True:
        done = shell.in_process("threads", "show", thread, "--json")
        if done.code == 0 and done.events and done.events[-1]["state"] != "running":
            return done.events[-1]
        time.sleep(0.05)


def text_of(turn: dict[str, Any]) -> str:
    return json.dumps(turn["messages"])

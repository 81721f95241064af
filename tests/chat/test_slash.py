"""Which texts are slash commands, and which are messages."""

from __future__ import annotations

import pytest

from afkcli.chat.slash import BY_NAME, COMMANDS, typed, unknown_line
from afkcli.commands.chat_commands import _COMMANDS


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("/undo", "undo", ()),
        ("  /undo 2 ", "undo", ("2",)),
        ("/UNDO", "undo", ()),
        ("/exit", "quit", ()),
        ("/?", "help", ()),
        ("/clear", "new", ()),
        ("/branch b", "fork", ("b",)),
        ("/", "help", ()),
        ("/attach 'a b.png' c\\ d.pdf", "attach", ("a b.png", "c d.pdf")),
        ("/search don't panic", "search", ("don't", "panic")),
        ("/search\twords", "search", ("words",)),
        ("/new\nname", "new", ("name",)),
    ],
)
def test_a_slash_and_a_name_is_a_command(text: str, name: str, words: tuple[str, ...]) -> None:
    said = typed(text)

    assert (said.command, said.words, said.message, said.unknown) == (name, words, None, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "hello"),
        ("  two\nlines ", "two\nlines"),
        ("//help", "/help"),
        ("//undo what I did", "/undo what I did"),
        ("/etc/hosts: what is it?", "/etc/hosts: what is it?"),
        ("/* a comment */", "/* a comment */"),
        ("// a comment\ncode()", "// a comment\ncode()"),
        ("///", "///"),
        ("/1 of them", "/1 of them"),
        ("/usr/bin", "/usr/bin"),
        ("say /help", "say /help"),
        ("\uff0fhelp", "\uff0fhelp"),
    ],
)
def test_other_texts_are_messages(text: str, message: str) -> None:
    assert typed(text).message == message


@pytest.mark.parametrize("text", ["exit", "quit", " exit "])
def test_a_person_leaves_by_a_word_and_a_file_does_not(text: str) -> None:
    assert typed(text, by_person=True).command == "quit"
    assert typed(text).message == text.strip()


@pytest.mark.parametrize("text", ["exit the loop", "exit()", "quit?", "Exit\nthe loop", "//exit"])
def test_a_sentence_with_such_a_word_is_a_message(text: str) -> None:
    assert typed(text, by_person=True).message is not None


@pytest.mark.parametrize(
    ("text", "near"), [("/undoo", "/undo"), ("/modle x", "/model"), ("/serach a", "/search"), ("/comp", "/compact")]
)
def test_a_mistyped_command_gets_the_near_one(text: str, near: str) -> None:
    said = typed(text)

    assert said.unknown
    assert f"did you mean {near}?" in unknown_line(said.command)


def test_a_command_that_is_near_to_no_other_gets_the_help() -> None:
    assert "/help lists the commands" in unknown_line(typed("/zzzzzz").command)


def test_each_command_of_the_table_is_carried_out() -> None:
    assert set(_COMMANDS) == set(BY_NAME) == {command.name for command in COMMANDS}

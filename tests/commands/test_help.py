"""Every `--help`: it fits the terminal, has examples that can be typed, and says values in words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from afkcli.command_group import cli
from afkcli.commands.base import Command
from afkcli.core.contract.limits import LIMITS
from afkcli.front_page import COMMANDS
from afkcli.screen.help_text import example_lines, table, wrapped
from afkcli.screen.text import width_of
from tests.commands.conftest import Install, install, shell
from tests.e2e.shell import Shell

__all__ = ["install", "shell"]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command of afk, the group itself and those below groups included, by what is typed."""
    yield "", cli
    root = click.Context(cli, info_name="afk")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=root)
            for inner_name in command.list_commands(context):
                inner = command.get_command(context, inner_name)
                assert inner is not None
                yield f"{name} {inner_name}", inner


ALL_COMMANDS = dict(commands())


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_help_fits_the_terminal(shell: Shell, name: str) -> None:
    for columns in (40, 53, 80, 100, 200):
        done = shell.in_process(*name.split(), "--help", COLUMNS=str(columns))
        assert (done.code, done.err) == (0, "")
        assert [line for line in done.out.splitlines() if len(line) > min(columns, 100)] == []
        assert not re.search(r"[ \t]\n", done.out)


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_help_says_values_in_words(shell: Shell, name: str) -> None:
    out = shell.in_process(*name.split(), "--help", COLUMNS="100").out
    assert not re.search(r"INTEGER|FLOAT|RANGE|BOOLEAN|\[x[<>]|MOMENT|TEXT TEXT|\bUNSET\b", out)


@pytest.mark.parametrize(("name", "command"), ALL_COMMANDS.items(), ids=ALL_COMMANDS)
def test_a_help_has_examples_that_can_be_typed(shell: Shell, name: str, command: click.Command) -> None:
    assert isinstance(command, Command)
    assert command.examples
    out = shell.in_process(*name.split(), "--help", COLUMNS="100").out
    for example, what in command.examples:
        assert f"  {example} " in out
        assert what in out
        assert not what.endswith(".")
        check_example(example, name)


def check_example(example: str, name: str) -> None:
    """Check that afk takes the arguments of an example, and that it is one of the command."""
    (called,) = re.findall(r"\bafk (.*?)(?: \||\)|$)", example)
    arguments = shlex.split(called)
    assert arguments[: len(name.split())] == name.split()
    context: click.Context = click.Context(cli, info_name="afk")
    command: click.Command = cli
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments.pop(0))
        assert found is not None
        command, context = found, click.Context(found, info_name=found.name, parent=context)
    command.make_context(str(command.name), arguments, parent=context.parent)


@pytest.mark.parametrize(("name", "command"), ALL_COMMANDS.items(), ids=ALL_COMMANDS)
def test_each_option_says_what_it_does(name: str, command: click.Command) -> None:
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help is not None, param.opts
            assert param.help.endswith("."), param.opts
            assert param.is_flag or param.metavar or isinstance(param.type, click.Choice), param.opts


def test_the_options_of_a_run_are_in_groups(shell: Shell) -> None:
    sections = sections_of(shell.in_process("run", "--help").out)

    assert list(sections) == [
        "Examples",
        "Message",
        "Conversation",
        "Model and agent",
        "Tools",
        "Output",
        "Limits",
        "Tests and errors",
        "Options",
    ]
    assert "--thread" in sections["Conversation"]
    assert "--model" in sections["Model and agent"]
    assert all(str(limit.option) in sections["Limits"] for limit in LIMITS if limit.option)
    assert re.findall(r"--[a-z-]+", sections["Options"]) == ["--help"]


@pytest.mark.parametrize("name", ["threads", "threads resume", "usage", "config"])
def test_the_options_follow_the_commands_and_the_help_is_last(shell: Shell, name: str) -> None:
    sections = sections_of(shell.in_process(*name.split(), "--help").out)

    assert next(iter(sections)) == "Examples"
    assert list(sections)[-1] == "Options"
    assert "--help" in sections["Options"].splitlines()[-1]


def sections_of(text: str) -> dict[str, str]:
    """Return the texts of a help by their headings."""
    parts = re.split(r"(?m)^(\w[\w ]+):$", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_list_of_commands_has_whole_sentences(shell: Shell) -> None:
    for name, command in ALL_COMMANDS.items():
        if isinstance(command, click.Group):
            text = sections_of(shell.in_process(*name.split(), "--help").out)
            assert "..." not in "".join(text.values())


def test_the_command_of_a_plugin_has_a_help_of_its_own(shell: Shell, install: Install) -> None:
    source = (
        "import click\nfrom afkcli.plugin import hookimpl\nAFK_HOOKS = 1\n@hookimpl\ndef afk_command():\n"
        "    @click.command('hello')\n    @click.option('--n', type=int)\n    def hello(n):\n        '''Greet.'''\n"
        "    return hello\n"
    )
    install("hello", {"afk": {"command.hello": "hello"}}, hello=source)
    done = shell.afk("hello", "--help")

    assert (done.code, done.err) == (0, "")
    assert "Usage: afk hello [OPTIONS]" in done.out


def test_a_long_example_continues_after_a_backslash() -> None:
    examples = (('afk run --attach cat.png "What is it?"', "a file"),)
    (*command, what) = example_lines(examples, 30)

    assert command == ["  afk run --attach cat.png \\", '    "What is it?"']
    assert shlex.split(" ".join(line.removesuffix("\\") for line in command)) == shlex.split(examples[0][0])
    assert what == "      a file"


def test_a_word_that_is_wider_than_the_line_is_cut_after_a_bar() -> None:
    assert list(wrapped("--context [trim|compact|native|refuse]", 20)) == [
        "--context",
        "[trim|compact|",
        "native|refuse]",
    ]
    assert list(wrapped("x" * 25, 10)) == ["x" * 10, "x" * 10, "x" * 5]
    assert list(wrapped("", 10)) == [""]


def test_a_table_measures_wide_characters_as_the_terminal_does() -> None:
    assert list(table((("日本", "one"), ("abcd", "two")), 60, measure=width_of)) == ["  日本  one", "  abcd  two"]

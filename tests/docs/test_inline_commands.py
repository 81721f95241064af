"""Commands in the text of the pages, `afk like --this`, name commands and options that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from afkcli.command_group import cli
from tests.docs.pages import REPOSITORY, pages, without_blocks

COMMAND = re.compile(r"`(afk [^`]+)`")
EVERYWHERE = {"-h", "--help", "-V", "--version"}


def inline_commands(page: Path) -> list[str]:
    """Return what is in backticks in the text of a page and begins with `afk `."""
    text = " ".join(without_blocks(page.read_text(encoding="utf-8")).split())
    return COMMAND.findall(text)


def unknown_in(command: str) -> str | None:
    """Return the first word of a command line that afk does not know as a command or an option, or None."""
    words = shlex.split(re.split(r" [|<>] ", command)[0])[1:]
    named: click.Command = cli
    context = click.Context(cli, info_name="afk")
    while words and isinstance(named, click.Group) and not words[0].startswith("-"):
        found = named.get_command(context, words[0])
        if found is None:
            return words[0] if named is cli else None  # else it is an argument of the group
        context = click.Context(found, info_name=words.pop(0), parent=context)
        named = found
    known = {option for param in named.params for option in (*param.opts, *param.secondary_opts)} | EVERYWHERE
    options = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    return next((option for option in options if option not in known), None)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_inline_commands_and_options_exist(page: Path) -> None:
    commands = [command for command in inline_commands(page) if "<" not in command.split()[1]]  # `afk <name>`

    assert [(command, unknown) for command in commands if (unknown := unknown_in(command))] == []


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("afk runn hello", "runn"),
        ("afk threads show --json --turns 3", "--turns"),
        ("afk run -t garden --modle x", "--modle"),
        ("afk run --model=x | jq --raw", None),
        ("afk threads --since yesterday", None),
    ],
)
def test_a_mistake_in_an_inline_command_is_found(command: str, unknown: str | None) -> None:
    assert unknown_in(command) == unknown

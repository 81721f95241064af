"""Says on a terminal that a word of a message is sent as text, where a file or an option may have been meant.

Since: 0.2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import click

from afkcli.commands.typed import options_of
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages
from afkcli.screen.shell_line import shell_line

_MOST_WORDS = 50


def say_taken_as_text(ctx: click.Context, invocation: Invocation, words: Sequence[str]) -> None:
    """Write a line for the first word that names a file or a URL, and one for the first that is an option.

    Args:
        ctx: the context of the command, whose options are compared.
        invocation: where to write, and the folder in which files are looked for.
        words: the arguments of which the message is made. An option is among them only if it followed `--`.
    """
    messages = Messages(invocation)
    for found in (_files(invocation, words[:_MOST_WORDS]), _options(ctx, words)):
        for line in found:
            messages.say(line)
            break


def _files(invocation: Invocation, words: Sequence[str]) -> Iterator[str]:
    for word in words:
        name = word.removeprefix("@") or word
        is_url = name.startswith(("http://", "https://")) and not any(map(str.isspace, name))
        if is_url or any(_is_file(invocation, path) for path in {name, word}):
            what = "URL" if is_url else "file"
            yield f"{word!r} is sent as text; to attach the {what}: {shell_line(['--attach', name])}"


def _is_file(invocation: Invocation, name: str) -> bool:
    return os.path.isfile(os.path.join(invocation.folder or "", name))  # noqa: PTH113,PTH118 - a path may be any text


def _options(ctx: click.Context, words: Sequence[str]) -> Iterator[str]:
    known = options_of(ctx, ctx.command)
    yield from (
        f"{word!r} follows `--`, so it is sent as text; an option comes before `--`"
        for word in words
        if word.startswith("-") and word.partition("=")[0] in known
    )

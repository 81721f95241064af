"""`afk chat`: a conversation on the terminal, turn by turn."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.commands.turn_options import request_of, thread_options, turn_options
from afkcli.host.ending import Ending

_NOT_IN_A_CHAT = ("schema", "json", "final", "fail_on_denied")
"""Options of a turn whose output or exit code is for a program."""


@click.command(
    "chat",
    cls=Command,
    examples=(
        ("afk chat", "a new conversation"),
        ("afk chat -t trip", "continue the thread trip, or start it"),
        ("afk chat -c", "continue the thread last used here"),
        ("afk chat -m openai/gpt-5.2 --tool 'files.*'", "choose the model, and give it tools"),
    ),
)
@thread_options
@turn_options
def command(**options: Any) -> Ending:
    """Talk with an agent: each message is a question, and its answer streams below it.

    The conversation is a thread, the same as that of `afk run -t`. Enter sends; Alt-Enter, or a backslash at the end,
    starts a new line. Ctrl-C stops an answer, Ctrl-D leaves, and `/help` lists the commands of the chat. Where stdin is
    a pipe or a file, each of its lines is a message.
    """
    from afkcli.commands.chat_run import run_chat  # not at the top: `afk chat --help` does not need it

    root = click.get_current_context().find_root().command
    return run_chat(invocation(), request_of(options, read_stdin=False), root)


command.params = [item for item in command.params if item.name not in _NOT_IN_A_CHAT]

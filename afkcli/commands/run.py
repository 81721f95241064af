"""`afk run`: one turn, its message from the arguments and stdin."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.stdin import message_with_stdin
from afkcli.commands.turn_options import run_turn, turn_options
from afkcli.core.errors import UsageError
from afkcli.render import Messages


@click.command("run")
@click.argument("message", nargs=-1, metavar="[MESSAGE]...")
@click.option(
    "--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="The thread to go on with, or to begin."
)
@click.option("--continue", "-c", "continue_", is_flag=True, help="Go on with the thread last used in this folder.")
@turn_options
@click.option("--no-memory", is_flag=True, help="Read and write no thread and no log; nothing reaches the disk.")
@click.option("--no-stdin", "-n", is_flag=True, help="Do not read stdin (in `while read` loops, for instance).")
def command(
    message: tuple[str, ...], thread: str | None, continue_: bool, no_memory: bool, no_stdin: bool, **options: Any
) -> None:
    """Run an agent on MESSAGE and stream its answer to stdout.

    What is piped in follows the message after a blank line; without MESSAGE, or with `-`, it is the message.
    """
    if continue_ and thread is not None:
        raise UsageError("--continue and --thread name two threads; use one of them")
    messages = Messages()
    from_stdin = options["approvals"] == "stdin"  # it brings decisions, not the message
    text = message_with_stdin(message, read_stdin=not (no_stdin or from_stdin), notify=messages.say)
    run_turn(text, messages, thread=thread, continue_=continue_, memory=not no_memory, **options)

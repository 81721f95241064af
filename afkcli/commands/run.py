"""`afk run`: one turn, its message from the arguments and stdin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.stdin import message_with_stdin
from afkcli.commands.turn_options import run_turn, turn_options
from afkcli.core.contract.errors import UsageError
from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    from afkcli.core.thread.attachments import Attachment


@click.command("run")
@click.argument("message", nargs=-1, metavar="[MESSAGE]...")
@click.option(
    "--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="The thread to go on with, or to begin."
)
@click.option("--continue", "-c", "continue_", is_flag=True, help="Go on with the thread last used in this folder.")
@turn_options
@click.option(
    "--attach",
    multiple=True,
    type=click.Path(allow_dash=True),
    metavar="FILE|URL|-",
    help="Attach an image, a PDF or a text: a file, a URL, or `-` for stdin; may be given more than once.",
)
@click.option("--no-memory", is_flag=True, help="Read and write no thread and no log; nothing reaches the disk.")
@click.option("--no-stdin", "-n", is_flag=True, help="Do not read stdin (in `while read` loops, for instance).")
def command(
    message: tuple[str, ...],
    thread: str | None,
    continue_: bool,
    attach: tuple[str, ...],
    no_memory: bool,
    no_stdin: bool,
    **options: Any,
) -> None:
    """Run an agent on MESSAGE and stream its answer to stdout.

    What is piped in follows the message after a blank line; without MESSAGE, or with `-`, it is the message. With
    `--attach -` it is attached instead.
    """
    if continue_ and thread is not None:
        raise UsageError("--continue and --thread name two threads; use one of them")
    messages = Messages()
    if "-" in attach and (not message or message == ("-",)):
        raise UsageError("`--attach -` takes stdin, so the message has to be an argument; say what to do")
    if "-" in attach and options["approvals"] == "stdin":
        raise UsageError("`--attach -` and `--approvals stdin` both read stdin; use one of them")
    taken = "-" in attach or options["approvals"] == "stdin"  # it brings a file, or decisions, not the message
    text = message_with_stdin(message, read_stdin=not (no_stdin or taken), notify=messages.say)
    attachments = _attached(attach, messages, may_read_stdin=not no_stdin) if attach else ()
    run_turn(
        text,
        messages,
        thread=thread,
        continue_=continue_,
        memory=not no_memory,
        attachments=attachments,
        **options,
    )


def _attached(sources: tuple[str, ...], messages: Messages, *, may_read_stdin: bool) -> Sequence[Attachment]:
    from afkcli.commands.attach import attached

    return attached(sources, may_read_stdin=may_read_stdin, notify=messages.say)

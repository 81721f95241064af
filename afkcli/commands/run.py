"""`afk run`: one turn, its message from the arguments and stdin."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.base import CONVERSATION, MESSAGE, TESTING, Command, option
from afkcli.commands.completion import complete_file, complete_prompt
from afkcli.commands.context import invocation
from afkcli.commands.turn_options import request_of, thread_options, turn_options
from afkcli.commands.variable_option import variable_option
from afkcli.host.ending import Ending


@click.command(
    "run",
    cls=Command,
    examples=(
        ('afk run "Why is the sky blue?"', "ask, in a new thread"),
        ('afk run -t trip "And at sunset?"', "ask, in a thread with a name"),
        ('afk run -c "In one sentence"', "continue the thread last used here"),
        ('git diff | afk run "Review this"', "a message, and piped text"),
        ("git diff | afk run -p review --var lang=de", "a prompt of yours, and piped text"),
        ('afk run --attach cat.png "What is it?"', "a message, and a file"),
        ('afk run -m openai/gpt-5.2 "Hello"', "choose the model"),
    ),
)
@click.argument("message", nargs=-1, metavar="[MESSAGE]...")
@option(
    "--prompt",
    "-p",
    group=MESSAGE,
    once=True,
    metavar="NAME",
    shell_complete=complete_prompt,
    help="The prompt NAME (see `afk prompts`), or a file whose path has a slash.",
)
@variable_option
@thread_options
@option(
    "--retry",
    group=CONVERSATION,
    is_flag=True,
    help="Ask the last question of the thread again, and set its answer aside.",
)
@option("--edit", group=CONVERSATION, is_flag=True, help="As --retry, with the question changed in your editor first.")
@turn_options
@option(
    "--attach",
    group=MESSAGE,
    multiple=True,
    type=click.Path(allow_dash=True),
    metavar="FILE|URL|-",
    help="Attach an image, a PDF or a text: a file, a URL, or `-` for stdin; may be given more than once.",
)
@option(
    "--record",
    group=TESTING,
    shell_complete=complete_file,
    metavar="FILE",
    help="Keep what the run asks models and tools, and their answers, in FILE.",
)
@option(
    "--replay",
    group=TESTING,
    shell_complete=complete_file,
    metavar="FILE",
    help="Answer from the recording FILE, instead of a model and tools.",
)
@option(
    "--dry-run", group=TESTING, is_flag=True, help="Write the request that would be sent as JSON, and send nothing."
)
@option(
    "--no-memory",
    group=CONVERSATION,
    is_flag=True,
    help="Do not read or write threads or logs; nothing is written to disk.",
)
@option("--no-stdin", "-n", group=MESSAGE, is_flag=True, help="Do not read stdin, for example in `while read` loops.")
def command(message: tuple[str, ...], no_memory: bool, no_stdin: bool, **options: Any) -> Ending:
    """Run an agent on MESSAGE and stream its answer to stdout.

    What is piped in follows the message after a blank line; without MESSAGE, or with `-`, it is the message. With
    `--attach -` it is attached instead. `afk threads undo` takes back what --retry and --edit did.
    """
    from afkcli.commands.turn import run_turn  # not at the top: `afk run --help` does not need it

    if message and not options["quiet"] and invocation().stderr.is_terminal:
        from afkcli.commands.taken_as_text import say_taken_as_text

        say_taken_as_text(click.get_current_context(), invocation(), message)
    return run_turn(invocation(), request_of(options, words=message, memory=not no_memory, read_stdin=not no_stdin))

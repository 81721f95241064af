"""`afk run`: the options of one turn."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.stdin import message_with_stdin
from afkcli.commands.turn import RunOptions, Turn
from afkcli.core.errors import UsageError
from afkcli.render import Messages
from afkcli.signals import die_of


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and value <= 0:
        raise click.BadParameter("must be greater than 0", ctx, param)
    return value


@click.command("run")
@click.argument("message", nargs=-1, metavar="[MESSAGE]...")
@click.option(
    "--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="The thread to go on with, or to begin."
)
@click.option("--continue", "-c", "continue_", is_flag=True, help="Go on with the thread last used in this folder.")
@click.option("--model", "-m", metavar="MODEL", help="The model, as provider/model or a name that a plugin knows.")
@click.option("--agent", "-a", metavar="NAME", help="The agent, by its name in the config.")
@click.option("--instructions", "-s", metavar="TEXT", help="Instructions (the system message) for this run.")
@click.option("--json", "json_", is_flag=True, help="Write every event as one line of JSON.")
@click.option("--final", is_flag=True, help="Write only the text of the last step, when it is there.")
@click.option("--no-memory", is_flag=True, help="Read and write no thread and no log; nothing reaches the disk.")
@click.option("--no-stdin", "-n", is_flag=True, help="Do not read stdin (in `while read` loops, for instance).")
@click.option(
    "--busy",
    type=click.Choice(["wait", "fail", "fork"]),
    envvar="AFK_BUSY",
    help="What to do while another run holds the thread; wait by default.",
)
@click.option(
    "--busy-timeout",
    type=float,
    envvar="AFK_BUSY_TIMEOUT",
    metavar="SECONDS",
    help="How long to wait for the thread; 60 by default.",
)
@click.option("--max-steps", type=click.IntRange(min=1), envvar="AFK_MAX_STEPS", help="At most this many model calls.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    envvar="AFK_MAX_COST",
    metavar="USD",
    help="At most this many US dollars; the price of the model has to be known.",
)
@click.option(
    "--timeout",
    type=float,
    callback=_positive,
    envvar="AFK_TIMEOUT",
    metavar="SECONDS",
    help="At most this long; what came until then is kept.",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Use this plugin file too; may be given more than once.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(
    message: tuple[str, ...],
    model: str | None,
    agent: str | None,
    instructions: str | None,
    max_steps: int | None,
    max_cost: float | None,
    timeout: float | None,
    plugins: tuple[Path, ...],
    no_stdin: bool,
    no_memory: bool,
    json_: bool,
    **options: Any,
) -> None:
    """Run an agent on MESSAGE and stream its answer to stdout.

    What is piped in follows the message after a blank line; without MESSAGE, or with `-`, it is the message.
    """
    from afkcli.setup import Flags, load_setup

    run_options = RunOptions(memory=not no_memory, json=json_, **options)
    if run_options.continue_ and run_options.thread is not None:
        raise UsageError("--continue and --thread name two threads; use one of them")
    messages = Messages()
    text = message_with_stdin(message, read_stdin=not no_stdin, notify=messages.say)
    flags = Flags(
        model=model,
        agent=agent,
        instructions=instructions,
        max_steps=max_steps,
        max_cost=max_cost,
        timeout=timeout,
    )
    setup = load_setup(project=True, plugin_files=plugins, notify=messages.say)
    ending = asyncio.run(Turn(run_options, setup, flags, text, messages).run())
    if ending.signal is not None:
        die_of(ending.signal)
    sys.exit(ending.code)

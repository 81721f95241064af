"""`afk threads resume`: resumes a turn that was interrupted."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.turn_options import request_of, turn_options
from afkcli.host.ending import Ending


@click.command(
    "resume",
    cls=Command,
    examples=(
        ("afk threads resume trip", "the rest of the answer that was cut"),
        ("afk threads resume trip --max-steps 80", "with a higher limit"),
    ),
)
@click.argument("name", shell_complete=complete_thread)
@turn_options
def resume(name: str, **options: Any) -> Ending:
    """Resume the last turn of the thread NAME, which was interrupted, and stream the rest of its answer to stdout.

    Tools that finished are not called again. A tool that did not finish is called again if it is idempotent; else the
    model is told that it did not finish. An unanswered question is sent again unchanged.
    """
    from afkcli.commands.turn import run_turn  # not at the top: `afk threads` does not need it

    return run_turn(invocation(), request_of(options, thread=name, resume=True))

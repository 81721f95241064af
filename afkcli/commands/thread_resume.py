"""`afk threads resume`: goes on with a turn that was cut."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.turn import run_turn
from afkcli.commands.turn_options import request_of, turn_options
from afkcli.host.ending import Ending


@click.command("resume")
@click.argument("name", shell_complete=complete_thread)
@turn_options
def resume(name: str, **options: Any) -> Ending:
    """Go on with the last turn of the thread NAME, which was cut, and stream the rest of its answer to stdout.

    Tools that finished are not called again. One that did not finish is, if it is marked idempotent; else the model is
    told that it did not finish. A question that nothing came of is asked again as it is.
    """
    return run_turn(invocation(), request_of(options, thread=name, resume=True))

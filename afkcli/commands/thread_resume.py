"""`afk threads resume`: goes on with a turn that was cut."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.turn_options import run_turn, turn_options
from afkcli.screen.messages import Messages


@click.command("resume")
@click.argument("name", shell_complete=complete_thread)
@turn_options
def resume(name: str, **options: Any) -> None:
    """Go on with the last turn of the thread NAME, which was cut, and stream the rest of its answer to stdout.

    Tools that finished are not called again. One that did not finish is, if it is marked idempotent; else the model is
    told that it did not finish. A question that nothing came of is asked again as it is.
    """
    run_turn(None, Messages(), thread=name, **options)

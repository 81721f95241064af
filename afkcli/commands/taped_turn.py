"""`--record`, `--replay` and `--dry-run`: what stands between a turn of the command line and its model and tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afkcli.core.contract.result import AgentResult, RunState
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Output, unwritable
from afkcli.wiring.setup import Setup
from afkcli.wiring.tapes import Tapes, tapes_of

if TYPE_CHECKING:
    from afkcli.commands.turn_request import TurnRequest


def tapes_for(request: TurnRequest, setup: Setup, messages: Messages) -> Tapes:
    """Return what the options of a turn put between it and its model.

    Raises:
        UsageError: a recording cannot be written or read.
    """
    if request.dry_run:
        from afkcli.wiring.dry_run import DryRun

        return DryRun(setup)
    return tapes_of(setup, request.record, request.replay, messages.raw)


async def ended(tapes: Tapes, result: AgentResult, output: Output | None) -> int | None:
    """Write the request that a dry run has; return the signal that ended the run, or the one that was recorded."""
    shown = getattr(tapes, "shown", None)
    if shown is not None and output is not None:
        for piece in shown(is_terminal=output.is_terminal):
            output.put(piece)
        try:
            await output.flush()
        except OSError as error:
            raise unwritable(error) from None
    return tapes.signal if result.state is RunState.CANCELLED else None

"""A turn that is larger than a record may be, cut so that it can be sealed, rescued and exported.

A run limits its turn while it grows. This is for turns of earlier versions, of other programs and of damaged files.
"""

from __future__ import annotations

from afkcli.core.contract.limits import MAX_TURN_MB, MB
from afkcli.core.contract.messages import Message
from afkcli.core.contract.sizes import Extent, cut_message
from afkcli.core.contract.structs import replace
from afkcli.core.thread.turns import SealedTurn

MOST_BYTES = (MAX_TURN_MB + 1) * MB
"""The largest turn of a run, and room for what its end adds, such as notes in place of results."""

CUT = "max_turn_mb"
"""The `reason` of a turn that was cut here, the same as that of a run that reached the limit."""


def fitted(turn: SealedTurn) -> SealedTurn:
    """Return `turn`, or as much of its beginning as a record may hold, with the reason `max_turn_mb`."""
    extent = Extent()
    extent.add_messages(turn.messages, MOST_BYTES)
    if extent.size <= MOST_BYTES:
        return turn
    return replace(turn, messages=tuple(_beginning(turn.messages)), reason=CUT)


def _beginning(messages: tuple[Message, ...]) -> list[Message]:
    kept: list[Message] = []
    extent = Extent()
    for message in messages:
        with_it = replace(extent)
        with_it.add_messages([message], MOST_BYTES)
        if with_it.size > MOST_BYTES:
            return [*kept, cut_message(message, extent, MOST_BYTES)]
        kept.append(message)
        extent = with_it
    return kept

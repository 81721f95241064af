"""What counts as progress of an answer, and what only keeps a connection alive."""

from __future__ import annotations

import pytest

from afkcli.core.contract.messages import (
    ModelEvent,
    ModelWarning,
    OpaqueDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from afkcli.providers.bodies import BodyTooLongError
from afkcli.providers.progress import MAX_IDLE_BYTES, MAX_UNSHOWN, Progress


def has_moved(*events: ModelEvent) -> bool:
    """Return whether the last of the events, after others of the same answer, is progress."""
    progress = Progress(first=60, idle=60)
    for event in events[:-1]:
        progress.saw(event)
    progress.received(1000)
    progress.saw(events[-1])
    return "1000 bytes" not in progress.stall(unfinished=True)


FIRST = TextDelta("a")
CALL = ToolCallDelta("c", "look", "")


@pytest.mark.parametrize(
    "event", [TextDelta("b"), ReasoningDelta("b"), CALL, ToolCallDelta("c", "look", "{"), OpaqueDelta(1)]
)
def test_a_piece_of_the_answer_is_progress(event: ModelEvent) -> None:
    assert has_moved(FIRST, event)


@pytest.mark.parametrize(
    "event",
    [
        TextDelta(""),
        TextDelta(" \n"),
        ReasoningDelta(" "),
        ToolCallDelta("c", "look", ""),
        ToolCallDelta("c", "look", "\n "),
        OpaqueDelta(0),
        ModelWarning("x", "y"),
    ],
)
def test_an_empty_piece_is_none(event: ModelEvent) -> None:
    assert not has_moved(FIRST, CALL, event)


def test_pieces_that_are_not_shown_count_up_to_a_limit() -> None:
    progress = Progress(first=60, idle=60)
    progress.saw(FIRST)
    for pieces, moves in ((1, True), (1, False), (MAX_UNSHOWN, True), (MAX_UNSHOWN + 1, False)):
        progress.received(1000)
        progress.saw_unshown(pieces)
        assert ("bytes" not in progress.stall(unfinished=True)) is moves
        progress.saw(TextDelta("b"))


def test_a_flood_without_progress_ends_by_its_size() -> None:
    progress = Progress(first=60, idle=60)
    progress.received(MAX_IDLE_BYTES)
    progress.saw(FIRST)
    progress.received(MAX_IDLE_BYTES)
    with pytest.raises(BodyTooLongError, match="without a piece of the answer"):
        progress.received(1)

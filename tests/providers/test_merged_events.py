"""Pieces of an answer that were read together are one event; kinds and calls stay apart and in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.messages import ModelEvent, ModelWarning, ReasoningDelta, TextDelta, ToolCallDelta
from afkcli.providers.merged_events import EventMerger

WARNING = ModelWarning("answer_differs", "odd")
EVENTS = st.one_of(
    st.builds(TextDelta, st.sampled_from(["a", "b "])),
    st.builds(ReasoningDelta, st.sampled_from(["c", "d "])),
    st.builds(
        ToolCallDelta,
        id=st.sampled_from(["c1", "c2"]),
        name=st.sampled_from(["add", "look"]),
        arguments=st.sampled_from(["", "{"]),
    ),
    st.just(WARNING),
)


def pieces(events: list[ModelEvent]) -> list[tuple[object, str]]:
    """What the events are of, and their text."""
    found: list[tuple[object, str]] = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            found.append(((event.id, event.name), event.arguments))
        elif isinstance(event, (TextDelta, ReasoningDelta)):
            found.append((type(event), event.text))
        else:
            found.append((event, ""))
    return found


def joined(found: list[tuple[object, str]]) -> list[tuple[object, str]]:
    groups = itertools.groupby(found, key=lambda piece: piece[0])
    return [(key, "".join(text for _, text in group)) for key, group in groups]


def test_the_first_piece_is_alone_and_the_others_of_a_read_are_one() -> None:
    merger = EventMerger()
    first = list(merger.merged([TextDelta("a"), TextDelta("b"), TextDelta("c")]))
    assert first == [TextDelta("a"), TextDelta("bc")]
    assert list(merger.merged([TextDelta("d"), TextDelta("e")])) == [TextDelta("de")]


@given(st.lists(st.lists(EVENTS, max_size=8), max_size=6))
def test_order_and_text_stay_the_same(reads: list[list[ModelEvent]]) -> None:
    merger = EventMerger()
    events = [event for read in reads for event in merger.merged(read)]
    assert joined(pieces(events)) == joined(pieces([event for read in reads for event in read]))
    assert events.count(WARNING) == sum(read.count(WARNING) for read in reads)


def test_what_came_before_an_error_is_there_before_it_is_raised() -> None:
    def events() -> Iterator[ModelEvent]:
        yield from [TextDelta("a"), TextDelta("b"), TextDelta("c")]
        raise ValueError("damaged")

    seen: list[ModelEvent] = []
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(EventMerger().merged(events()))
    assert seen == [TextDelta("a"), TextDelta("bc")]

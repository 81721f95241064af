"""Server-sent events, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.providers import sse
from afkcli.providers.sse import EventParser, EventTooLongError

STREAM = (
    'event: x\r\ndata: {"a": "日本\u2028é"}\r\n\r\n'
    ": comment\n\ndata:one\ndata: two\n\n"
    "id: 1\nretry: 5\ndata: 3\r\r"
    "data: end"
)
EVENTS = ['{"a": "日本\u2028é"}', "one\ntwo", "3", "end"]


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM.encode()))))
def test_the_events_do_not_depend_on_the_cuts(cuts: list[int]) -> None:
    data = STREAM.encode()
    places = [0, *sorted(cuts), len(data)]
    parser = EventParser()
    events = [event for start, end in itertools.pairwise(places) for event in parser.feed(data[start:end])]
    assert events + parser.close() == EVENTS


def test_invalid_utf8_is_replaced() -> None:
    assert EventParser().feed(b"data: a\xff\n\n") == ["a\ufffd"]


def test_an_event_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_LINE_BYTES", 1000)
    parser = EventParser()
    with pytest.raises(EventTooLongError):
        for _ in range(100):
            parser.feed(b"x" * 100)

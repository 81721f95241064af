"""Server-sent events, cut anywhere, against a plain reading of the HTML standard."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.providers import sse
from afkcli.providers.sse import EventParser, EventTooLongError, ServerEvent

STREAM = (
    'event: x\r\ndata: {"a": "日本\u2028é"}\r\n\r\n'
    ": comment\n\ndata:one\ndata: two\n\n"
    "id: 1\nretry: 5\ndata: 3\r\r"
    "data: end"
)
EVENTS = ['{"a": "日本\u2028é"}', "one\ntwo", "3", "end"]

PIECES = (
    *(b"data", b"data:", b"data: ", b"data:  ", b" data: x", b"event: a", b"event", b"id: 1", b"retry: 5", b"error: x"),
    *(b":", b": c", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"x", b"{", b" ", b"\xef\xbb\xbf", b"\xef", b"\xe2\x80"),
    *("é".encode(), "\u2028".encode(), b"\xff", b"\x00", b"data: y\n\n"),
)


def reference(stream: bytes) -> list[ServerEvent]:
    """Return the events of a whole stream, read as the standard words it."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", text)[:-1]
    events, data, kind = [], "", ""
    for line in lines:
        if line == "":
            if data != "":
                events.append(ServerEvent(data.removesuffix("\n"), kind))
            data = kind = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
    return events


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM.encode()))))
def test_the_events_do_not_depend_on_the_cuts(cuts: list[int]) -> None:
    data = STREAM.encode()
    places = [0, *sorted(cuts), len(data)]
    parser = EventParser()
    events = [event for start, end in itertools.pairwise(places) for event in parser.feed(data[start:end])]
    assert events + parser.close() == EVENTS


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.lists(st.integers(min_value=0, max_value=120)))
def test_any_stream_cut_anywhere_gives_the_events_of_the_standard(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = EventParser()
    found = [event for start, end in itertools.pairwise(places) for event in parser.take(stream[start:end])]
    assert found == reference(stream)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"\xef\xbb\xbfdata: first\n\n", ["first"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: first\n\ndata: second\n\n", ["second"]),
        (b"data:\n\n", [""]),
        (b"data\n\n", [""]),
        (b"data\ndata\n\n", ["\n"]),
        (b"data:  x\n\n", [" x"]),
        (b"data: x\r\r", ["x"]),
        (b"data: x\r\n\r\n", ["x"]),
        (b"data: x\r\n\rdata: y\n\n", ["x", "y"]),
        (b"event: only a type\n\n", []),
        (b" data: not a field\n\n", []),
        (b"Data: not a field\n\n", []),
        (b"data: unfinished\n", []),
    ],
)
def test_fields_blanks_line_ends_and_the_byte_order_mark(stream: bytes, events: list[str]) -> None:
    assert EventParser().feed(stream) == events
    parser = EventParser()
    assert [event for byte in stream for event in parser.feed(bytes([byte]))] == events


def test_an_event_type_belongs_to_its_event_alone() -> None:
    events = EventParser().take(b"event: error\ndata: a\n\ndata: b\n\nevent: ping\n\ndata: c\n\n")
    assert events == [ServerEvent("a", "error"), ServerEvent("b"), ServerEvent("c")]


def test_a_line_that_is_not_a_field_is_kept_for_the_search_for_an_error() -> None:
    parser = EventParser()
    assert parser.feed(b'data: a\n\nerror: {"code": 500}\n: comment\nid: 3\n\n{"error": 1}\n') == ["a"]
    assert parser.strays == ['error: {"code": 500}', '{"error": 1}']


def test_invalid_utf8_is_replaced() -> None:
    assert EventParser().feed(b"data: a\xff\n\n") == ["a\ufffd"]


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"x" * 93 + b"\n", b"data:\n" * 20])
def test_an_event_without_end_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch, piece: bytes
) -> None:
    monkeypatch.setattr(sse, "MAX_LINE_BYTES", 1000)
    parser = EventParser()
    with pytest.raises(EventTooLongError):
        for _ in range(100):
            parser.feed(piece)


def test_lines_that_are_not_fields_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_STRAY_CHARS", 100)
    parser = EventParser()
    parser.feed(b"data: a\n\n" + b"stray line\n" * 1000)
    assert len(parser.strays) < 20


@pytest.mark.parametrize("prefix", [b"data: ", b"data:"])
def test_a_long_event_is_in_memory_twice_at_most(prefix: bytes) -> None:
    size, piece = 20 << 20, b"x" * 65536
    parser = EventParser()
    tracemalloc.start()
    parser.take(prefix)
    for _ in range(size // len(piece)):
        parser.take(bytes(piece))
    [event] = parser.take(b"\n\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(event.data) == size
    assert peak < 2.3 * size

"""Odd forms of what every API has: events, counts, words for an end, characters that are cut in two."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afkcli.core.contract.result import whole_count
from afkcli.providers.answer_events import AnswerEvents
from afkcli.providers.think_tags import has_lone_end
from afkcli.providers.wire import TextPieces, decode_events, word_of

A, B = '{"a": 1}', '{"b": [2, {"c": "}{"}]}'
TWO = [json.loads(A), json.loads(B)]


@pytest.mark.parametrize(
    "data",
    [
        A + B,
        f"{A}\n{B}",
        f"{A},{B}",
        f"data: {A}\ndata: {B}",
        f"[{A}, {B}]",
        f"[[{A}], [{B}]]",
        f"[{A}]\n[{B}]",
        f"{A}\n{B}\n[DONE]",
        f" {A}\n\n , {B} ",
    ],
)
def test_several_objects_in_one_event_are_several(data: str) -> None:
    assert list(decode_events(data)) == TWO


@pytest.mark.parametrize(
    "data", ["", "1", '"text"', "null", "[1, 2]", f"{A}x", f'{A}{{"b": ', "NaN", "[" * 100_000, "[]"]
)
def test_an_event_that_is_no_object_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_events(data)


@pytest.mark.parametrize(
    "body",
    [
        f"[{A},\n{B}]",
        f"[{A}\n,\r\n{B}\n]\n",
        f"{A}\n{B}\n",
        f"{A}{B}",
        f"[{A}]\n[{B}]",
        f"data: {A}{B}",
        f"data: {A}\ndata: {B}\n",
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_body_of_several_objects_that_is_no_stream_is_read(body: str, cut: int) -> None:
    events, raw = AnswerEvents(), body.encode()
    found = [data for start in range(0, len(raw), cut) for data in events.take(raw[start : start + cut])]
    found += events.rest()

    assert [event for data in found for event in decode_events(data)] == TWO


def test_an_error_in_an_array_stays_an_error() -> None:
    events = AnswerEvents()
    events.take(b'[{"error": {"code": 503, "message": "busy"}}]')

    assert (events.rest(), events.error) == ([], [{"error": {"code": 503, "message": "busy"}}])


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("3", 3),
        ("3.0", 3),
        ("3.", 3),
        (" 3 ", 3),
        ("3.000", 3),
        (3.0, 3),
        ("3.5", None),
        ("-3", None),
        ("1e3", None),
        ("3,000", None),
        ("", None),
        ("three", None),
        ("9" * 17, None),
        ("3." + "0" * 100_000, None),
        ("\u0663", None),
    ],
)
def test_a_count_may_be_a_text(value: object, count: int | None) -> None:
    assert whole_count(value) == count


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("stop", "stop"),
        ({"type": "stop"}, "stop"),
        ({"reason": "length", "details": None}, "length"),
        ({"type": {"name": "stop"}}, "stop"),
        (["stop"], "stop"),
        ([{"type": "stop"}], "stop"),
        (None, ""),
        (False, ""),
        ("", ""),
        ({}, ""),
        ([], ""),
        ({"type": None}, ""),
        (1, "1"),
        ({"x": "y"}, '{"x": "y"}'),
    ],
)
def test_the_word_of_an_end_is_found_in_an_object_or_a_list(value: Any, word: str) -> None:
    assert word_of(value) == word


EURO, FACE = "\u20ac", "\U0001f600"


@pytest.mark.parametrize("character", ["\u00e4", EURO, FACE])
def test_a_character_whose_bytes_are_cut_between_pieces_is_joined(character: str) -> None:
    raw = f"a{character}b{character}".encode()
    for cut in range(len(raw) + 1):
        pieces = TextPieces()
        halves = (raw[:cut].decode("utf-8", "surrogateescape"), raw[cut:].decode("utf-8", "surrogateescape"))
        assert "".join(map(pieces.take, halves)) + pieces.rest() == raw.decode()
    pieces = TextPieces()
    found = [pieces.take(bytes([byte]).decode("utf-8", "surrogateescape")) for byte in raw]
    assert "".join(found) + pieces.rest() == raw.decode()


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a\ud83d", "\ude00b"], f"a{FACE}b"),
        (["a\ud83d", "\udce6b"], "a\U0001f4e6b"),
        (["a\ud83d", "b"], "a\ufffdb"),
        ([b"a\xff".decode("utf-8", "surrogateescape"), "b"], "a\ufffdb"),
        (["a\udce2\udc82", "b"], "a\ufffdb"),
        (["\ude00", "b"], "\ufffdb"),
        (["a\udce2"], "a\ufffd"),
    ],
)
def test_what_is_no_character_is_replaced(pieces: list[str], text: str) -> None:
    taken = TextPieces()

    assert "".join(map(taken.take, pieces)) + taken.rest() == text


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_cut_between_two_events_of_a_stream_is_joined(cut: int) -> None:
    raw = FACE.encode()
    stream = b'data: {"t": "a' + raw[:cut] + b'"}\n\ndata: {"t": "' + raw[cut:] + b'b"}\n\n'
    pieces = TextPieces()
    texts = [event["t"] for data in AnswerEvents().take(stream) for event in decode_events(data)]

    assert "".join(map(pieces.take, texts)) == f"a{FACE}b"


def test_the_words_of_an_error_hold_no_byte_that_is_no_text() -> None:
    events = AnswerEvents()
    events.take(b"event: error\ndata: out of \xe2\x82\xac and \xff\n\n")
    assert events.error == f"out of {EURO} and \ufffd"


@pytest.mark.parametrize(
    ("text", "is_lone"),
    [
        ("I think.\n</think>\n\nanswer", True),
        ("I think.</think>\nanswer", True),
        ("I think.\n</THINK>\nanswer", True),
        ("I think.\n[/THINK]\nanswer", True),
        ("I think.\n</thinking>\n\nanswer", True),
        ("I think.\n</think>\n", False),
        ("the tag </think> ends it", False),
        ("`</think>`\nends it", False),
        ("<think>\na\n</think>\nis how it looks", False),
        ("a\n</think>\nb\n</think>\nc", False),
        ("answer", False),
    ],
)
def test_reasoning_that_only_a_last_tag_tells_is_noticed(text: str, is_lone: bool) -> None:
    assert has_lone_end(text) is is_lone

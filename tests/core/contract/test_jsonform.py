"""Strict JSON: what is written can be read again, and what is not JSON is refused with one error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract import jsonform
from afkcli.core.contract.jsonform import MAX_DEPTH, JsonError, clean_text, dumps, loads, loads_object
from afkcli.core.contract.result import RunState

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


class TestRoundTrip:
    @given(values | st.tuples(values, values))
    def test_it_is_what_the_encoder_of_python_writes(self, value: Any) -> None:
        by_python = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        assert dumps(value) == dumps([value])[1:-1] == dumps({"a": value})[5:-1] == by_python

    @pytest.mark.parametrize(
        "number", [1e-4, 9.9e-5, 1e16, 9.9e15, -1e16, 5e-324, -0.0, 2**63, -(2**63), 2**64, 10**40]
    )
    def test_numbers_of_any_size_are_what_the_encoder_of_python_writes(self, number: float) -> None:
        assert dumps({"a": [number]}) == json.dumps({"a": [number]}, separators=(",", ":"))

    @given(values)
    def test_what_is_written_is_read_again(self, value: Any) -> None:
        assert loads(dumps(value)) == value

    @given(values)
    def test_it_is_one_line_of_utf_8(self, value: Any) -> None:
        line = dumps(value)
        assert len(line.encode("utf-8").splitlines()) == 1  # text's own splitlines also breaks at U+2028

    @given(st.text())
    def test_lone_surrogates_never_get_through(self, text: str) -> None:
        for read in (loads(dumps(text)), loads(json.dumps(text)), loads(json.dumps(text, ensure_ascii=False))):
            assert read == clean_text(text)
            read.encode("utf-8")

    def test_surrogate_pairs_are_joined(self) -> None:
        assert loads('"\\ud83d\\ude00"') == "😀"
        assert dumps("\ud83d\ude00") == '"😀"'
        assert clean_text("a\ud83db") == "a\ufffdb"

    def test_dataclasses_enums_and_tuples_have_a_form(self) -> None:
        @dataclass
        class Point:
            x: int
            states: tuple[RunState, ...]

        assert dumps(Point(1, (RunState.FAILED,))) == '{"x":1,"states":["failed"]}'

    def test_the_last_of_two_equal_keys_counts(self) -> None:
        assert loads('{"a": 1, "a": 2}') == {"a": 2}

    def test_the_depth_that_may_be_written_is_the_depth_that_may_be_read(self) -> None:
        assert loads(dumps(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
        full: Any = 1
        for _ in range(MAX_DEPTH):
            full = {"a": full}
        assert loads(dumps(full)) == full


class TestRefusals:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "NaN",
            "[Infinity]",
            "-Infinity",
            "1e999",
            '{"a": -1e999}',
            "1" * 5000,
            '"\x01"',
            "'a'",
            "[1,]",
            "[" * 100_000,
            "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
            '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
        ],
    )
    def test_json_that_is_not_strict_is_refused(self, text: str) -> None:
        with pytest.raises(JsonError):
            loads(text)
        with pytest.raises(JsonError):
            loads(text.encode())

    @pytest.mark.parametrize("data", [b'"\xff"', '"a"'.encode("utf-16"), '"a"'.encode("utf-32"), b'"\xed\xa0\x80"'])
    def test_bytes_are_utf_8_or_nothing(self, data: bytes) -> None:
        with pytest.raises(JsonError):
            loads(data)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x", nested(MAX_DEPTH + 1)])
    def test_what_has_no_form_is_not_written(self, value: object) -> None:
        with pytest.raises(JsonError):
            dumps({"value": value} if not isinstance(value, list) else value)

    def test_a_line_that_could_not_be_read_again_is_not_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jsonform, "MAX_LINE_BYTES", 100)
        assert loads(dumps("x" * 98)) == "x" * 98
        for text in ("x" * 99, "é" * 50):
            with pytest.raises(JsonError):
                dumps(text)
        with pytest.raises(JsonError):
            loads('"' + "x" * 99 + '"')

    @pytest.mark.parametrize("text", ["[]", "1", "null", '"a"'])
    def test_an_object_is_asked_for_by_name(self, text: str) -> None:
        with pytest.raises(JsonError, match="not a JSON object"):
            loads_object(text)

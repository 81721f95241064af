"""A request's body is the JSON that Python's `json` writes, to the byte, whatever is in it."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.messages import Role
from afkcli.providers.body_json import body_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,  # with the default of 100 one example takes a tenth of a second, and has no other kind of value
)


def as_python_writes_it(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@given(st.dictionaries(st.text(), VALUES))
def test_any_body_is_written_as_python_writes_it(body: dict[str, Any]) -> None:
    assert body_json(body) == as_python_writes_it(body)


TEXT = {"role": "user", "content": 'a\u2028b \x00\x1f\x7f \\ " é 𝄞'}
BLOCKS = {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}
CALL = {"type": "tool_use", "id": "1", "input": {"a": 1e16, "b": 1e-7, "c": 0.1, "d": 1.0, "e": 2**70, "f": None}}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [TEXT],
        [TEXT, BLOCKS, TEXT],
        [CALL],
        [TEXT, {"role": "assistant", "content": [CALL]}, BLOCKS, TEXT],
        [{"role": "assistant", "content": None, "tool_calls": []}, TEXT],
        [{"role": Role.USER, "content": "an enum"}, TEXT],
        [{}, [], "", {"content": []}],
    ],
)
def test_messages_are_written_as_python_writes_them(messages: list[Any]) -> None:
    for body in ({"model": "m", "messages": messages, "stream": True}, {"messages": messages}):
        assert body_json(body) == as_python_writes_it(body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", date(2026, 1, 1), {"a": b"bytes"}])
@pytest.mark.parametrize("at", ["alone", "in a message", "among texts"])
def test_what_has_no_json_form_is_refused_wherever_it_is(value: Any, at: str) -> None:
    body = {"alone": {"x": value}, "in a message": {"x": [{"y": value}]}, "among texts": {"x": ["text", value]}}[at]
    with pytest.raises((ValueError, TypeError)):
        as_python_writes_it(body)
    with pytest.raises((ValueError, TypeError)):
        body_json(body)

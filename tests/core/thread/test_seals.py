"""The reader of seals takes and refuses what the reader of all records does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.jsonform import JsonError, dumps, loads_object
from afkcli.core.contract.messages import Message, ProviderData, Role, TextPart, ToolCallPart
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.thread.seals import read_seal
from afkcli.core.thread.turns import SealedTurn, turn_from_json, turn_to_json
from tests.core.thread.made_turns import ANSWER, QUESTION, answers, asks, sealed


def slowly(body: str) -> SealedTurn | str:
    try:
        return turn_from_json(loads_object(body))
    except JsonError as error:
        return str(error)


def quickly(body: str) -> SealedTurn | str:
    try:
        return read_seal(body)
    except JsonError as error:
        return str(error)


FORM = turn_to_json(sealed(RunState.FAILED, ErrorKind.TRUNCATED, QUESTION, asks("c1"), answers("c1"), ANSWER))
OF_TEXT = turn_to_json(sealed(RunState.COMPLETED, None, QUESTION, ANSWER))
DEEP: Any = []
for _ in range(80):
    DEEP = [DEEP]


def said(part: dict[str, Any], role: Any = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "parts": [part]}]}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"v": 2},
        {"v": "1"},
        {"later": [1, {"a": None}]},
        {"later": DEEP},
        {"state": "new"},
        {"error_kind": "new"},
        {"messages": None},
        {"messages": {}},
        {"messages": ["text"]},
        {"messages": [{"role": "user", "parts": {}}]},
        {"messages": [{"role": "new", "parts": []}]},
        said({"type": "text"}),
        said({"type": "text", "text": 1}),
        said({"type": "new", "text": "x"}),
        said({"type": "text", "text": "x", "later": 1}),
        said({"type": "text", "text": "x", "later": DEEP}),
        said({"type": "text", "text": "x", "provider_data": None}),
        said({"type": "text", "text": "a lone \ud800 surrogate"}),
        {"messages": []},
        {"messages": [{"role": "user", "parts": []}]},
        {"messages": [{"role": "user", "parts": [{"type": "text", "text": "x"}], "later": 1}]},
        {"messages": [{"role": "user", "parts": [{"type": "text", "text": "x"}]}, {"role": "user", "parts": [1]}]},
        said({"type": "text", "text": "x"}, role=["user"]),
        said({"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": DEEP}}),
        {"usage": {"input_tokens": "12", "output_tokens": -3, "unknown": [1, "x"]}},
        {"usage": {"input_tokens": 12, "unknown": ["total_tokens"]}},
        {"usage": {"input_tokens": -3, "output_tokens": 2**70, "total_tokens": 3.0}},
        {"usage": {"input_tokens": True, "later": DEEP}},
        {"usage": {}},
        {"usage": "none"},
        {"usage": None},
        {"turn": "1"},
        {"turn": True},
        {"steps": None},
        {"cost_usd": 1},
        {"cost_usd": "1"},
        {"error": "a lone \ud800 surrogate"},
        {"resumed": 1},
        {"run_id": None},
    ],
)
@pytest.mark.parametrize("more", [{}, {"more": [[]] * 80}])
@pytest.mark.parametrize("form", [FORM, OF_TEXT], ids=["with calls", "of text"])
def test_a_seal_is_read_as_any_record(form: dict[str, Any], change: dict[str, Any], more: dict[str, Any]) -> None:
    body = json.dumps({**form, **change, **more})
    assert quickly(body) == slowly(body)


@pytest.mark.parametrize("name", sorted(FORM))
@pytest.mark.parametrize("form", [FORM, OF_TEXT], ids=["with calls", "of text"])
def test_a_seal_without_a_field_is_read_as_any_record(form: dict[str, Any], name: str) -> None:
    body = json.dumps({key: value for key, value in form.items() if key != name})
    assert quickly(body) == slowly(body)


@pytest.mark.parametrize("body", ["", "[]", "null", "{", '{"v":1}', "{}x", '{"turn":1e999}', "NaN", "\ufeff{}"])
def test_what_is_no_seal_is_refused_as_any_record(body: str) -> None:
    assert quickly(body) == slowly(body)
    assert isinstance(quickly(body), str)


@given(st.text(), st.text(), st.integers(0, 2**53), st.none() | st.floats(0, 1e9))
def test_what_was_sealed_is_read_again(text: str, name: str, tokens: int, cost: float | None) -> None:
    own = ProviderData(provider="p", api="a", model="m", payload={"deep": [{"x": [1.5, text]}]})
    call = ToolCallPart(id="c", name=name, arguments={"a": {"b": [text]}})
    message = Message(role=Role.ASSISTANT, parts=(TextPart(text=text, provider_data=own), call))
    form = turn_to_json(sealed(RunState.COMPLETED, None, QUESTION, message))
    body = dumps({**form, "usage": {"input_tokens": tokens}, "cost_usd": cost})
    assert read_seal(body) == turn_from_json(loads_object(body))
    assert read_seal(body).usage == Usage(input_tokens=tokens)

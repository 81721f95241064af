"""Messages and parts survive their JSON form; a value that is not a part is refused with one error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import JsonError, dumps, loads
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    ProviderData,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    message_from_json,
    part_from_json,
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
provider_data = st.none() | st.builds(ProviderData, provider=texts, api=texts, model=texts, payload=json_values)
text_parts = st.builds(TextPart, text=texts, provider_data=provider_data)
contents = {"sha256": texts, "media_type": texts, "size": st.integers(0), "name": st.none() | texts}
parts = st.one_of(
    text_parts,
    st.builds(ReasoningPart, text=texts, provider_data=provider_data),
    st.builds(
        ToolCallPart,
        id=texts,
        name=texts,
        arguments=st.dictionaries(texts, json_values, max_size=3),
        invalid_arguments=st.none() | texts,
        provider_data=provider_data,
    ),
    st.builds(
        ToolResultPart,
        id=texts,
        name=texts,
        parts=st.lists(text_parts, max_size=2).map(tuple),
        is_error=st.booleans(),
        provider_data=provider_data,
    ),
    st.builds(ImagePart, provider_data=provider_data, **contents),
    st.builds(FilePart, provider_data=provider_data, **contents),
)
messages = st.builds(Message, role=st.sampled_from(Role), parts=st.lists(parts, max_size=4).map(tuple))


@given(messages)
def test_a_message_survives_its_json_form(message: Message) -> None:
    assert message_from_json(loads(dumps(message_to_json(message)))) == message


@given(messages)
def test_a_message_survives_the_form_that_it_has_in_events(message: Message) -> None:
    assert message_from_json(loads(dumps(message))) == message


def test_fields_that_are_none_are_left_out_but_not_those_of_opaque_data() -> None:
    data = ProviderData(provider="p", api="a", model="m", payload=None)
    part = ToolCallPart(id="1", name="f", arguments={"x": None, "parts": [{"y": None}]}, provider_data=data)
    form = message_to_json(Message(role=Role.ASSISTANT, parts=(TextPart(text="hi"), part)))
    assert form["parts"][0] == {"text": "hi", "type": "text"}
    assert form["parts"][1]["arguments"] == {"x": None, "parts": [{"y": None}]}
    assert form["parts"][1]["provider_data"]["payload"] is None
    assert "invalid_arguments" not in form["parts"][1]


def test_fields_that_are_not_known_are_ignored() -> None:
    data = {"provider": "p", "api": "a", "model": "m", "payload": [1], "later": 1}
    form = {"role": "user", "later": 1, "parts": [{"type": "text", "text": "hi", "later": {}, "provider_data": data}]}
    part = message_from_json(form).parts[0]
    assert part == TextPart(text="hi", provider_data=ProviderData(provider="p", api="a", model="m", payload=[1]))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {},
        {"type": "nope", "text": "x"},
        {"type": ["text"], "text": "x"},
        {"type": "text"},
        {"type": "text", "text": 5},
        {"type": "text", "text": None},
        {"type": "text", "text": "x", "provider_data": "p"},
        {"type": "text", "text": "x", "provider_data": {"provider": "p"}},
        {"type": "tool_call", "id": "1", "name": "f", "arguments": []},
        {"type": "tool_call", "id": 1, "name": "f", "arguments": {}},
        {"type": "tool_result", "id": "1", "name": "f", "parts": "x"},
        {"type": "tool_result", "id": "1", "name": "f", "parts": [{"type": "text"}]},
        {"type": "tool_result", "id": "1", "name": "f", "parts": [], "is_error": 1},
        {"type": "image", "sha256": "0", "media_type": "image/png", "size": "large"},
        {"type": "image", "sha256": "0", "media_type": "image/png", "size": True},
    ],
)
def test_an_invalid_part_is_refused(value: Any) -> None:
    with pytest.raises(JsonError):
        part_from_json(value)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"role": "user"}, {"role": "user", "parts": {}}, {"role": "x", "parts": []}]
)
def test_an_invalid_message_is_refused(value: Any) -> None:
    with pytest.raises(JsonError):
        message_from_json(value)


def test_text_and_tool_calls_are_picked_from_the_parts() -> None:
    call = ToolCallPart(id="1", name="f", arguments={})
    message = Message(
        role=Role.ASSISTANT, parts=(ReasoningPart(text="hm"), TextPart(text="a"), call, TextPart(text="b"))
    )
    assert message.text == "ab"
    assert message.tool_calls == (call,)

"""What chat templates are given."""

from __future__ import annotations

import json

import pytest
from afk_provider_local.conversation import chat_messages

from afkcli.plugin import Message, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart, text_message


def test_questions_in_a_row_are_one_message_because_templates_refuse_two() -> None:
    said = [(Role.USER, "one"), (Role.USER, "two"), (Role.ASSISTANT, "a"), (Role.USER, "three")]
    messages = chat_messages([text_message(role, text) for role, text in said])
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "one\n\ntwo"),
        ("assistant", "a"),
        ("user", "three"),
    ]


def test_nothing_empty_is_sent() -> None:
    thought = Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="I think"),))
    result = ToolResultPart(id="x", name="look", parts=(TextPart(text=" "),))
    forms = chat_messages([thought, Message(role=Role.TOOL, parts=(result,))])
    assert [form["content"] for form in forms] == ["(no text)", "(no output)"]


@pytest.mark.parametrize("came", ["{'a': 1}", "[1]", '{"a": 1', "text"])
def test_arguments_that_were_no_object_are_sent_as_json_because_templates_parse_them(came: str) -> None:
    call = ToolCallPart(id="x", name="look", arguments={}, invalid_arguments=came)
    (form,) = chat_messages([Message(role=Role.ASSISTANT, parts=(call,))])
    assert json.loads(form["tool_calls"][0]["function"]["arguments"]) == {"invalid_arguments": came}

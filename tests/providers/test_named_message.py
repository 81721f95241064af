"""Which message of a request an error names, in the words of servers, and which message of the conversation that is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afkcli.core.contract.messages import (
    Message,
    ModelRequest,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_message,
)
from afkcli.providers.chat import chat_message_at
from afkcli.providers.error_bodies import read_error
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.origin import Origin
from afkcli.providers.tool_names import ToolNames

ORIGIN = Origin(provider="openai", api="chat", model="m", server="http://h/v1")


def openai(message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}


def anthropic(message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


SAID: dict[str, tuple[Any, NamedMessage | None]] = {
    "openai's parameter": (openai("expected a string, got null", "messages.[3].content"), NamedMessage("messages", 3)),
    "openai's words": (openai("Missing parameter: 'messages[3].tool_calls[0].id'."), NamedMessage("messages", 3)),
    "the responses api": (openai("Invalid value", "input[5]"), NamedMessage("input", 5)),
    "a part of the responses api": (openai("Invalid value", "input[5].content[1]"), NamedMessage("input", 5, 1)),
    "anthropic's message": (anthropic("messages.3: all messages must have content"), NamedMessage("messages", 3)),
    "anthropic's block": (anthropic("messages.3.content.1.thinking: required"), NamedMessage("messages", 3, 1)),
    "bedrock": ({"message": "The text at messages.3.content.0 is blank."}, NamedMessage("messages", 3, 0)),
    "google": (
        [{"error": {"code": 400, "message": "* Request.contents[2].parts: must not be empty", "status": "INVALID"}}],
        NamedMessage("contents", 2),
    ),
    "fastapi": (
        {"detail": [{"type": "missing", "loc": ["body", "messages", 3, "content"], "msg": "Field required"}]},
        NamedMessage("messages", 3),
    ),
    "vllm": (
        {"object": "error", "code": 400, "message": "[{'loc': ('body', 'messages', 3, 'content'), 'msg': 'required'}]"},
        NamedMessage("messages", 3),
    ),
    "arrows": (openai("body -> messages -> 3 -> content -> 1: required"), NamedMessage("messages", 3, 1)),
    "groq": (openai("'messages.2' : for 'role:assistant' ('messages.2.content' : no)"), NamedMessage("messages", 2)),
    "moonshot": (openai("the message at position 8 with role 'assistant' is empty"), NamedMessage("messages", 8)),
    "deepseek": (openai("Failed to deserialize the JSON: messages[3]: missing field"), NamedMessage("messages", 3)),
    "a pointer": (openai("/messages/3/content: must be string"), NamedMessage("messages", 3)),
    "a parameter that is no message": (openai("too many", "max_tokens"), None),
    "numbers of something else": (openai("your messages resulted in 9 tokens; input: 5000, messages, 3 of them"), None),
    "a name that ends alike": (openai("unknown field chat_messages[3] or tool-messages.4"), None),
}


@pytest.mark.parametrize("case", SAID)
def test_the_message_that_an_error_names_is_read(case: str) -> None:
    body, named = SAID[case]
    assert read_error(400, {}, json.dumps(body).encode()).named == named


CALLS = [ToolCallPart(id=id_, name="look", arguments={}) for id_ in ("a", "b")]
RESULTS = [ToolResultPart(id=call.id, name=call.name, parts=(TextPart(text="seen"),)) for call in CALLS]
SPOKEN = [
    text_message(Role.USER, "one"),
    Message(role=Role.ASSISTANT, parts=tuple(CALLS)),
    Message(role=Role.TOOL, parts=tuple(RESULTS)),
    text_message(Role.ASSISTANT, "two"),
    text_message(Role.USER, "three"),
]
SYSTEM = text_message(Role.SYSTEM, "Be brief.")


@pytest.mark.parametrize(
    ("named", "index"),
    [
        (NamedMessage("messages", 0), None),
        (NamedMessage("messages", 1), 0),
        (NamedMessage("messages", 2), 1),
        (NamedMessage("messages", 3), 2),
        (NamedMessage("messages", 4), 2),
        (NamedMessage("messages", 5), 3),
        (NamedMessage("messages", 6), 4),
        (NamedMessage("messages", 7), None),
        (NamedMessage("messages", 5, 1), None),
        (NamedMessage("input", 1), None),
        (NamedMessage("contents", 0), 0),
        (NamedMessage("contents", 2), 2),
        (NamedMessage("contents", 4), 4),
        (NamedMessage("contents", 5), None),
    ],
)
def test_a_message_of_chat_completions_is_found_in_the_conversation(named: NamedMessage, index: int | None) -> None:
    request = ModelRequest(model="m", messages=[SYSTEM, *SPOKEN])
    assert chat_message_at(request, ToolNames.of(request), ORIGIN, named) == index


def test_messages_that_the_user_s_own_field_replaces_are_not_looked_for() -> None:
    request = ModelRequest(model="m", messages=SPOKEN, extra={"messages": []})
    assert chat_message_at(request, ToolNames.of(request), ORIGIN, NamedMessage("messages", 0)) is None

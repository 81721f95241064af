"""Which message of the conversation the Messages API names: neighbours of one role are one message there."""

from __future__ import annotations

import pytest
from afk_provider_anthropic import Settings
from afk_provider_anthropic.answer import AnswerReader
from afk_provider_anthropic.request import request_prefix
from afk_provider_anthropic.settings import server_from

from afkcli.plugin import (
    Message,
    ModelRequest,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_message,
)
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.tool_names import ToolNames

CALL = ToolCallPart(id="a", name="look", arguments={})
RESULT = ToolResultPart(id="a", name="look", parts=(TextPart(text="seen"),))
SPOKEN = [
    text_message(Role.SYSTEM, "Be brief."),
    text_message(Role.USER, "one"),  # a question without an answer
    text_message(Role.USER, "two"),
    Message(role=Role.ASSISTANT, parts=(TextPart(text="hm"), CALL)),
    Message(role=Role.TOOL, parts=(RESULT,)),
    Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="thought of another server"),)),
    text_message(Role.USER, "three"),
]


@pytest.mark.parametrize(
    ("named", "index"),
    [
        (NamedMessage("messages", 0), None),
        (NamedMessage("messages", 0, 0), 0),
        (NamedMessage("messages", 0, 1), 1),
        (NamedMessage("messages", 1), 2),
        (NamedMessage("messages", 1, 1), 2),
        (NamedMessage("messages", 2, 0), 3),
        (NamedMessage("messages", 3), 4),
        (NamedMessage("messages", 3, 0), 4),
        (NamedMessage("messages", 4), 5),
        (NamedMessage("messages", 5), None),
        (NamedMessage("contents", 1), None),
    ],
)
def test_a_message_is_found_by_its_place(named: NamedMessage, index: int | None) -> None:
    request = ModelRequest(model="m", messages=SPOKEN)
    server = server_from(Settings(base_url="http://127.0.0.1:1", api_key="k"))
    names = ToolNames.of(request)
    reader = AnswerReader(server, request, names, request_prefix(request, names))
    assert reader.message_at(named) == index

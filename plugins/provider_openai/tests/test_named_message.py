"""Which message of the conversation a server names: an answer may be several items, and two questions one message."""

from __future__ import annotations

import pytest
from afk_provider_openai import Settings
from afk_provider_openai.chat import ChatReader
from afk_provider_openai.responses import ResponsesReader
from afk_provider_openai.settings import server_from

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

CALLS = [ToolCallPart(id=id_, name="look", arguments={}) for id_ in ("a", "b")]
RESULTS = [ToolResultPart(id=call.id, name=call.name, parts=(TextPart(text="seen"),)) for call in CALLS]
SPOKEN = [
    text_message(Role.SYSTEM, "Be brief."),
    text_message(Role.USER, "one"),
    Message(role=Role.ASSISTANT, parts=(TextPart(text="hm"), *CALLS)),
    Message(role=Role.TOOL, parts=tuple(RESULTS)),
    Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="nothing to send"),)),
    text_message(Role.USER, "two"),
]


@pytest.mark.parametrize(
    ("position", "index"), [(0, None), (1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 4), (8, None)]
)
def test_an_item_is_found_in_the_conversation(position: int, index: int | None) -> None:
    request = ModelRequest(model="m", messages=SPOKEN)
    reader = ResponsesReader(
        server_from(Settings(base_url="http://h/v1", api="responses")), request, ToolNames.of(request)
    )
    assert reader.message_at(NamedMessage("input", position)) == index
    assert reader.message_at(NamedMessage("messages", position)) is None


@pytest.mark.parametrize(("position", "index"), [(1, 0), (2, 2), (3, 3), (4, None)])
@pytest.mark.parametrize("field", ["messages", "contents"])
def test_a_message_behind_questions_in_a_row_is_found(field: str, position: int, index: int | None) -> None:
    spoken = [
        text_message(Role.SYSTEM, "Be brief."),
        text_message(Role.USER, "one"),
        text_message(Role.USER, "two"),
        text_message(Role.ASSISTANT, "answer"),
        text_message(Role.USER, "three"),
    ]
    request = ModelRequest(model="m", messages=spoken)
    reader = ChatReader(server_from(Settings(base_url="http://h/v1")), request, ToolNames.of(request))
    place = position if field == "messages" else position - 1
    assert reader.message_at(NamedMessage(field, place)) == index

"""Chunks of Chat Completions, and what the openai plugin reads in them and sends back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from afk_provider_openai import Settings, afk_provider
from afk_provider_openai.chat import ChatReader, request_body
from afk_provider_openai.settings import server_from

from afkcli.plugin import (
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Role,
    ToolCallDelta,
    ToolSpec,
    text_message,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import ModelServer
from tests.provider_faults.raw import RawServer

QUESTION = text_message(Role.USER, "q")
TOOLS = [
    ToolSpec(name=name, description="d", parameters={"type": "object"}) for name in ("look", "find", "get_weather")
]
REQUEST = ModelRequest(model="m", messages=[QUESTION], tools=TOOLS)
URL = "http://127.0.0.1:1/v1"


def read(*chunks: object, request: ModelRequest = REQUEST, **settings: Any) -> tuple[list[ModelEvent], ModelResponse]:
    reader = ChatReader(server_from(Settings(base_url=URL, **settings)), request, ToolNames.of(request))
    events = list(reader.feed([chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]))
    assert reader.finished
    return [*events, *reader.close()], reader.response()


def delta(finish: str | None = None, index: int = 0, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def pieces(*calls: dict[str, Any]) -> dict[str, object]:
    return delta(tool_calls=list(calls))


def piece(arguments: Any = "", **fields: Any) -> dict[str, Any]:
    function = {"arguments": arguments} if arguments is not ... else {}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return {"function": function, **fields}


def calls_of(response: ModelResponse) -> list[tuple[str, Any]]:
    return [(call.name, call.invalid_arguments or call.arguments) for call in response.message.tool_calls]


def shown_calls(events: Sequence[ModelEvent]) -> list[tuple[str, str]]:
    """Return name and arguments of each call as the events tell them."""
    found: dict[str, tuple[str, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            found[event.id] = (event.name, found.get(event.id, ("", ""))[1] + event.arguments)
    return list(found.values())


END = delta("tool_calls")
A, B = '{"a": 1}', '{"b": 2}'


def sent(
    *parts: Any, results: Sequence[Any] = (), model: str = "m", url: str = URL, **fields: Any
) -> list[dict[str, Any]]:
    messages = [QUESTION, Message(role=Role.ASSISTANT, parts=parts)]
    messages += [Message(role=Role.TOOL, parts=tuple(results))] if results else []
    server = server_from(Settings(base_url=url))
    request = ModelRequest(model=model, messages=[*messages, QUESTION], **fields)
    body: list[dict[str, Any]] = request_body(server, request, ToolNames.of(request))["messages"]
    return body


CHAT_ANSWER = (
    'data: {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
STREAM = {"Content-Type": "text/event-stream"}


def ask(server: ModelServer | RawServer, *requests: ModelRequest, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=server.base_url, api="chat", **settings))
        try:
            return [event for request in requests or (REQUEST,) async for event in provider.stream(request)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


HALVES = ["\ud83d", "\ude00"]
"""The halves of one character, as JSON escapes cut it."""

"""What the openai SDK sends of a call is the JSON that LiteLLM gives it, without a comparison with each type."""

from __future__ import annotations

import asyncio
import typing
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from afk_provider_litellm import Settings, afk_provider, library, sdk

from afkcli.plugin import ImagePart, Message, ModelRequest, Role, TextPart, ToolCallPart, ToolResultPart, ToolSpec
from afkcli.testing.model_server import ModelServer, Step

PIXEL = b"\x89PNG\r\n\x1a\n\x00 not much of a picture"


def messages() -> list[Message]:
    """Return a message of each role, one with an image."""
    image = ImagePart(sha256="a" * 64, media_type="image/png", size=len(PIXEL))
    return [
        Message(role=Role.SYSTEM, parts=(TextPart(text="Be short."),)),
        Message(role=Role.USER, parts=(TextPart(text="What is “this”?\x85"), image)),
        Message(
            role=Role.ASSISTANT,
            parts=(TextPart(text=""), ToolCallPart(id="call_1", name="files.read", arguments={"from_": 1, "x": None})),
        ),
        Message(role=Role.TOOL, parts=(ToolResultPart(id="call_1", name="files.read", parts=(TextPart(text="a"),)),)),
    ]


def ask(server: ModelServer, **fields: Any) -> None:
    async def run() -> None:
        provider = afk_provider(Settings(base_url=server.base_url, api_key="some-key"))
        tools = [ToolSpec(name="files.read", description="d", parameters={"type": "object", "properties": {}})]
        request = ModelRequest(
            model="openai/m", messages=messages(), tools=tools, content=lambda sha256: PIXEL, **fields
        )
        try:
            _ = [event async for event in provider.stream(request)]
        finally:
            await provider.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"options": {"temperature": 0.5, "stop": ["END"], "seed": 7, "max_output_tokens": 9}},
        {"output_schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
        {"extra": {"tool_choice": "auto", "metadata": {"a": "b"}, "logit_bias": {"1": 2}}},
    ],
    ids=["plain", "options", "schema", "extra"],
)
def test_the_same_is_sent_as_the_sdk_would_have_made_of_it(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    model_server.steps = [Step(text="one"), Step(text="two")]

    ask(model_server, **fields)
    monkeypatch.setattr(sdk, "is_json", lambda value: False)
    ask(model_server, **fields)

    as_given, as_made = model_server.bodies
    assert as_given == as_made
    assert list(as_given) == list(as_made)


def test_no_message_is_compared_with_the_types_of_the_sdk(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.load()
    from openai._utils import _transform

    def compared(*arguments: object, **options: object) -> None:
        raise AssertionError("a message was compared")

    monkeypatch.setattr(_transform, "_async_transform_recursive", compared)
    model_server.steps = [Step(text="one")]

    ask(model_server)

    assert len(model_server.bodies) == 1


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: "a"}, b"bytes", datetime.now(UTC), openai.NOT_GIVEN, {"a": [{"b": {1, 2}}]}, iter(())],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_left_to_the_sdk(value: object) -> None:
    assert not sdk.is_json({"messages": [value]})


def test_the_types_of_a_request_rename_no_field() -> None:
    from openai.types.chat import completion_create_params

    seen: set[int] = set()

    def renamed(kind: Any) -> list[str]:
        if id(kind) in seen:
            return []
        seen.add(id(kind))
        marks = [mark for mark in getattr(kind, "__metadata__", ()) if mark.alias or mark.format]
        parts = list(typing.get_args(kind))
        if hasattr(kind, "__total__"):  # a TypedDict
            parts += typing.get_type_hints(kind, include_extras=True).values()
        return [*map(repr, marks), *(found for part in parts for found in renamed(part))]

    assert renamed(completion_create_params.CompletionCreateParamsStreaming) == []
    assert len(seen) > 50

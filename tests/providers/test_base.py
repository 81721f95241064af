"""`BaseProvider`: a provider that writes nothing but its name and its `stream`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from afkcli.plugin import (
    BaseProvider,
    Capabilities,
    FilePart,
    FinishReason,
    Message,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    TextPart,
    ToolSpec,
    text_message,
)
from afkcli.testing.provider_contract import ProviderContract


class Fixed(BaseProvider):
    name = "fixed"
    default_model = "m"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield TextDelta("yes")
        yield ModelResponse(text_message(Role.ASSISTANT, "yes"), FinishReason.STOP)


class TestFixed(ProviderContract):
    model = "m"

    def make_provider(self) -> Fixed:
        return Fixed()


def request(*messages: Message, tools: tuple[ToolSpec, ...] = ()) -> ModelRequest:
    return ModelRequest(model="m", messages=messages, tools=tools)


async def listed(provider: BaseProvider) -> list[ModelInfo]:
    return list(await provider.list_models())


def test_the_defaults_know_nothing_and_list_the_default_model() -> None:
    import asyncio

    class Nameless(Fixed):
        default_model = None

    assert Fixed().capabilities("m") == Capabilities()
    assert asyncio.run(listed(Fixed())) == [ModelInfo(id="m")]
    assert asyncio.run(listed(Nameless())) == []


def test_the_token_estimate_grows_with_messages_tools_and_files() -> None:
    import asyncio

    def count(made: ModelRequest) -> int:
        return asyncio.run(Fixed().count_tokens(made))

    short = text_message(Role.USER, "hi")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    pdf = FilePart(sha256="0" * 64, media_type="application/pdf", size=1_000_000, name="a.pdf")

    assert 0 < count(request(short)) < 30
    assert count(request(text_message(Role.USER, "word " * 800))) > 1000
    assert count(request(short, tools=(ToolSpec(name="t", description="d" * 400, parameters=schema),))) > 100
    assert count(request(Message(role=Role.USER, parts=(TextPart(text="hi"), pdf)))) > 50_000


def test_a_subclass_without_stream_cannot_be_made() -> None:
    class Silent(BaseProvider):
        name = "silent"

    with pytest.raises(TypeError, match="stream"):
        Silent()  # type: ignore[abstract]

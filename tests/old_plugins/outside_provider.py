"""A provider with a wire form of its own, written for afk 0.1: a line of JSON each way over TCP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from afkcli.core.errors import ErrorKind, MissingKeyError, ProviderError
from afkcli.core.jsonform import JsonError, dumps, loads_object
from afkcli.core.messages import (
    FinishReason,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    text_message,
)
from afkcli.core.protocols import Capabilities, ModelInfo, Price
from afkcli.core.result import Usage

from afkcli import hookimpl
from afkcli.providers.failures import connection_failure, masked

AFK_HOOKS = 1


@dataclass
class Settings:
    port: int = field(default=0, metadata={"env": "OUTSIDE_PORT"})
    key: str = field(default="", metadata={"secret": True, "env": "OUTSIDE_KEY"})


class LineProvider:
    name = "outside"
    default_model = "m"

    def __init__(self, settings: Settings) -> None:
        if not settings.key:
            raise MissingKeyError("the provider 'outside' has no key; set OUTSIDE_KEY")
        self._settings = settings

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._settings.port)
        except OSError as error:
            what, detail = connection_failure("outside", error)
            raise ProviderError(f"{what}: {detail}", kind=ErrorKind.NETWORK) from None
        try:
            lines = [[message.role.value, message.text] for message in request.messages]
            writer.write(f"{dumps({'key': self._settings.key, 'model': request.model, 'lines': lines})}\n".encode())
            said = ""
            while line := await reader.readline():
                try:
                    event = loads_object(line)
                except JsonError as error:
                    raise ProviderError(f"outside sent a bad line: {error}", kind=ErrorKind.TRUNCATED) from None
                if "error" in event:
                    raise ProviderError(
                        masked(f"outside refused: {event['error']}", [self._settings.key]), kind=ErrorKind.AUTH
                    )
                if event.get("end"):
                    yield ModelResponse(
                        message=text_message(Role.ASSISTANT, said),
                        finish_reason=FinishReason.STOP,
                        usage=Usage(input_tokens=3, output_tokens=2, total_tokens=5),
                    )
                    return
                said += event["text"]
                yield TextDelta(event["text"])
        finally:
            writer.close()

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(images=False, files=False, price=Price(input=0.0, output=0.0))

    async def list_models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(id="m")]

    async def count_tokens(self, request: ModelRequest) -> int:
        return sum(len(text(message).split()) for message in request.messages)

    async def prepare(self) -> None:
        os.environ.get("OUTSIDE_PORT")

    async def aclose(self) -> None:
        pass


def text(message: Message) -> str:
    return message.text


@hookimpl
def afk_provider(settings: Settings) -> LineProvider:
    return LineProvider(settings)

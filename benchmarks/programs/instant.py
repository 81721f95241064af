"""A plugin file whose model answers at once and builds no request body: what is left is a turn without its body.

With BENCH_SDK set it imports the openai SDK and makes a client first, as a turn does that asks a real model.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from afkcli.core.contract.messages import (
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    text_message,
)
from afkcli.core.contract.protocols import Capabilities, ModelInfo
from afkcli.hookspecs import hookimpl

AFK_HOOKS = 1


class InstantProvider:
    name = "instant"
    default_model = "instant"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        yield TextDelta("word")
        yield ModelResponse(message=text_message(Role.ASSISTANT, "word"), finish_reason=FinishReason.STOP)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def list_models(self) -> list[ModelInfo]:
        return []

    async def count_tokens(self, request: ModelRequest) -> int:
        return 0

    async def prepare(self) -> None:
        if os.environ.get("BENCH_SDK"):
            await asyncio.to_thread(_make_client)

    async def aclose(self) -> None:
        """Nothing is open."""


def _make_client() -> None:
    import openai

    openai.AsyncOpenAI(max_retries=0)


@hookimpl
def afk_provider(settings: object) -> InstantProvider:
    return InstantProvider()

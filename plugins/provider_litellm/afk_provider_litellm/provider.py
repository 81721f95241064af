"""The provider: one call is one request through LiteLLM, its stream read to the end marker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx

from afk_provider_litellm import models
from afk_provider_litellm.answer import Answer
from afk_provider_litellm.call import Call
from afk_provider_litellm.exchange import Exchange
from afk_provider_litellm.library import load
from afk_provider_litellm.request import arguments
from afk_provider_litellm.route import Route
from afk_provider_litellm.settings import Settings, checked
from afkcli.plugin import (
    Capabilities,
    ErrorKind,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ProviderError,
    Role,
    attached_parts,
    dumps,
    label,
)
from afkcli.providers.attached import base64_content, estimated
from afkcli.providers.chat import chat_messages, chat_tool
from afkcli.providers.tool_names import ToolNames

BYTES_PER_TOKEN = 4
WRITE_SECONDS = 60.0


class LiteLLMProvider:
    """`provider.litellm`."""

    name = "litellm"

    def __init__(self, settings: Settings) -> None:
        self.default_model: str | None = settings.default_model or None
        self._settings = checked(settings)
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Make one model call; see `afkcli.plugin.Provider.stream`.

        Raises:
            ProviderError: the call failed, or its stream ended without the model's finish reason.
        """
        litellm = await asyncio.to_thread(load)
        route = await self._route(litellm, request.model)
        names = ToolNames.of(request)
        answer = Answer(names, route)
        call = Call(litellm, Exchange(self._http_client(), self._timeout(), _attached(request)), route)
        try:
            await call.open(arguments(self._settings, route, request, names))
            while (chunk := await call.read()) is not None:
                for event in answer.chunk(chunk):
                    call.answered = True
                    yield event
            if not call.finished:
                raise call.truncated()
        finally:
            await call.aclose()
        yield answer.response()

    def capabilities(self, model: str) -> Capabilities:
        """Return what LiteLLM's own table says of a model; nothing for those of a server of one's own."""
        return Capabilities() if self._settings.base_url else models.capabilities(model)

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models of the providers whose keys are in the environment, as LiteLLM lists them."""
        litellm = await asyncio.to_thread(load)
        names = await asyncio.to_thread(litellm.get_valid_models)
        return [ModelInfo(id=name) for name in sorted(set(names))]

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return an estimate, four bytes of the JSON of messages and tools to a token."""
        request, attached = estimated(request)
        names = ToolNames.of(request)
        sent = [*chat_messages(request, names), *(chat_tool(tool, names) for tool in request.tools)]
        return -(-len(dumps(sent).encode()) // BYTES_PER_TOKEN) + attached

    async def prepare(self) -> None:
        """Import LiteLLM, off the event loop."""
        await asyncio.to_thread(load)
        self._http_client()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _route(self, litellm: Any, model: str) -> Route:
        settings = self._settings
        try:
            found = await asyncio.to_thread(
                litellm.get_llm_provider,
                model=model,
                api_base=settings.base_url or None,
                api_key=settings.api_key.strip() or None,
            )
        except Exception:
            raise ProviderError(
                f"litellm knows no provider of the model {model!r}; name it as PROVIDER/MODEL, as in "
                "litellm/groq/llama-3.3-70b-versatile",
                kind=ErrorKind.NOT_FOUND,
            ) from None
        bare, provider = found[0], found[1]
        return Route(
            provider=provider,
            model=bare,
            prefix=model.removesuffix(bare),
            missing_keys=() if settings.api_key else tuple(litellm.validate_environment(model)["missing_keys"]),
            settings=settings,
        )

    def _http_client(self) -> httpx.AsyncClient:
        """Return the client of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = httpx.AsyncClient(timeout=self._timeout()), loop
        return self._client

    def _timeout(self) -> httpx.Timeout:
        # Reading is timed by `Call`, which tells the first byte from the later ones.
        return httpx.Timeout(None, connect=self._settings.connect_timeout, write=WRITE_SECONDS)


def _attached(request: ModelRequest) -> dict[str, bytes]:
    """Return what the request to the server has to hold: the images and files of the user's messages, in base64."""
    asked = [message for message in request.messages if message.role is Role.USER]
    return {label(part): base64_content(request, part).encode() for part in attached_parts(asked)}

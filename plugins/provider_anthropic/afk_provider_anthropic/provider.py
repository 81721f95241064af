"""The provider: one call is one request, its stream read to the end marker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from afk_provider_anthropic import models
from afk_provider_anthropic.answer import AnswerReader
from afk_provider_anthropic.connection import Connection
from afk_provider_anthropic.native import MIN_TRIGGER, WORDS
from afk_provider_anthropic.request import PATH, counted_body, origin, request_body, request_prefix
from afk_provider_anthropic.settings import Settings, server_from
from afk_provider_anthropic.structured import fitted
from afkcli.plugin import (
    Capabilities,
    ErrorKind,
    JsonObject,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ProviderData,
    ProviderError,
    SentRequest,
    dumps,
    replace,
)
from afkcli.providers.answer_stream import answer_events
from afkcli.providers.attached import estimated
from afkcli.providers.connection import MAX_LIST_BYTES
from afkcli.providers.native_context import NativeContext
from afkcli.providers.tool_names import ToolNames

if TYPE_CHECKING:
    from afk_provider_anthropic.batches import Batches

BYTES_PER_TOKEN = 4
NO_SUCH_ENDPOINT = (404, 405, 501)
COUNT_PATH = f"{PATH}/count_tokens"
MODELS_PATH = "/v1/models?limit=1000"
MAX_PAGES = 20
"""Of a list of models; more are of a server that repeats itself."""


class AnthropicProvider:
    """`provider.anthropic`: the Messages API, at Anthropic or anywhere."""

    name = "anthropic"

    def __init__(self, settings: Settings) -> None:
        self.default_model: str | None = settings.default_model or None
        self._server = server_from(settings)
        self._connection = Connection(self._server)
        self._native: NativeContext | None = None

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Make one model call; see `afkcli.plugin.Provider.stream`.

        Raises:
            ProviderError: the call failed, or its stream ended without its end marker.
        """
        if request.native_context_from is None:
            return self._stream(request)
        if self._native is None:
            self._native = NativeContext(self._server.name, WORDS)
        return self._native.events(request, self._stream)

    async def _stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        body, reader = self._call(request)
        async with aclosing(answer_events(self._connection, PATH, body, reader)) as events:
            async for event in events:
                yield event

    async def preview(self, request: ModelRequest) -> SentRequest:
        """Return what `stream` would send; see `afkcli.plugin.PreviewingProvider`."""
        return await self._connection.preview(PATH, self._call(request)[0])

    def capabilities(self, model: str) -> Capabilities:
        """Return what is known of a model: the API's options alone where its name is not a Claude model's."""
        known = models.capabilities(model)
        compacts = (claude := models.claude(model)) is not None and claude.compacts
        if compacts and self._server.is_anthropic:  # another server says itself what it does not take
            known = replace(known, native_context_from=MIN_TRIGGER)
        return replace(known, sold_by=self._server.url)

    def takes_compaction(self, model: str, data: ProviderData) -> bool:
        """Return whether a compaction came from this server and model."""
        return origin(self._server, model).own(data) is not None

    def batches(self) -> Batches:
        """Return the batches of the server; see `afkcli.plugin.BatchingProvider`."""
        from afk_provider_anthropic.batches import Batches  # not at the top: few runs use them

        return Batches(self._connection, self._server, self._call)

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models that the server lists, by name; `ProviderError` if it cannot be asked, or gives no list."""
        found: dict[str, ModelInfo] = {}
        path, seen = MODELS_PATH, {""}
        for _ in range(MAX_PAGES):
            page = await self._connection.get_json(path, MAX_LIST_BYTES)
            found |= {info.id: info for info in self._connection.models(page)}
            last = page.get("last_id") if isinstance(page, dict) and page.get("has_more") is True else None
            if not isinstance(last, str) or last in seen:
                break
            seen.add(last)
            path = f"{MODELS_PATH}&{urlencode({'after_id': last})}"
        return sorted(found.values(), key=lambda info: info.id)

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return the server's own count; where it has none, an estimate: four bytes of the request's JSON to a token.

        Raises:
            ProviderError: the server could not be asked.
        """
        request = fitted(request)
        body = counted_body(request_body(self._server, request, ToolNames.of(request)))
        try:
            counted = await self._connection.post_json(COUNT_PATH, body)
        except ProviderError as error:
            if error.status not in NO_SUCH_ENDPOINT and error.kind is not ErrorKind.NOT_FOUND:
                raise
            counted = None
        tokens = counted.get("input_tokens") if isinstance(counted, dict) else None
        if isinstance(tokens, int):
            return tokens
        request, attached = estimated(request)
        body = counted_body(request_body(self._server, request, ToolNames.of(request)))
        return -(-len(dumps(body).encode()) // BYTES_PER_TOKEN) + attached

    async def prepare(self) -> None:
        """Import the SDK and make the client."""
        await self._connection.client()

    async def aclose(self) -> None:
        await self._connection.aclose()

    def _call(self, request: ModelRequest) -> tuple[JsonObject, AnswerReader]:
        request = fitted(request)
        names = ToolNames.of(request)
        body = request_body(self._server, request, names)
        return body, AnswerReader(self._server, request, names, request_prefix(request, names))

"""The provider: one call is one request, its stream read to the end marker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from afk_provider_openai.connection import Connection
from afk_provider_openai.models import has_structured_outputs, is_reasoning_model, options_of, sees_images
from afk_provider_openai.settings import Settings, server_from
from afk_provider_openai.structured import fitted
from afkcli.plugin import (
    Capabilities,
    ErrorKind,
    JsonObject,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ProviderData,
    ProviderError,
    SentRequest,
    dumps,
)
from afkcli.providers.answer_stream import Reader, answer_events
from afkcli.providers.attached import estimated
from afkcli.providers.chat import without_opaque
from afkcli.providers.connection import MAX_LIST_BYTES
from afkcli.providers.native_context import NativeContext
from afkcli.providers.tool_names import ToolNames

if TYPE_CHECKING:
    from afk_provider_openai.batches import Batches

BYTES_PER_TOKEN = 4
MIN_COMPACT_THRESHOLD = 1000
"""The least `compact_threshold` that the Responses API takes."""
REFUSED = (400, 422)


class OpenAIProvider:
    """`provider.openai`: the Responses API at OpenAI, Chat Completions anywhere."""

    name = "openai"

    def __init__(self, settings: Settings) -> None:
        self.default_model: str | None = settings.default_model or None
        self._server = server_from(settings)
        self._connection = Connection(self._server)
        self._plain_models: set[str] = set()
        self._native: NativeContext | None = None

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Make one model call; see `afkcli.plugin.Provider.stream`.

        Raises:
            ProviderError: the call failed, or its stream ended without its end marker.
        """
        if request.native_context_from is None:
            return self._stream(request)
        if self._native is None:
            self._native = NativeContext(self._server.name, ("context_management", "compact"))
        return self._native.events(request, self._stream)

    async def _stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        path, body, reader = self._call(request)
        if request.model in self._plain_models:
            body, _ = without_opaque(body)
        try:
            async with aclosing(answer_events(self._connection, path, body, reader)) as events:
                async for event in events:
                    yield event
            return
        except ProviderError as error:
            body, left_out = without_opaque(body)
            field = next((name for name in left_out if error.status in REFUSED and name in str(error)), None)
            if field is None:
                raise
        self._plain_models.add(request.model)
        yield ModelWarning(
            "field_refused",
            f"{self._server.name} refused the field {field!r}, which it had sent itself; sent again without it",
        )
        _, _, reader = self._call(request)
        async with aclosing(answer_events(self._connection, path, body, reader)) as events:
            async for event in events:
                yield event

    async def preview(self, request: ModelRequest) -> SentRequest:
        """Return what `stream` would send; see `afkcli.plugin.PreviewingProvider`."""
        path, body, _ = self._call(request)
        if request.model in self._plain_models:
            body, _ = without_opaque(body)
        return await self._connection.preview(path, body)

    def capabilities(self, model: str) -> Capabilities:
        """Return what is known of a model: for those of other servers the options that their API has."""
        server = self._server
        options = options_of(server, model)
        takes_schema = None if server.settings.structured_output else False
        compacts_from = MIN_COMPACT_THRESHOLD if server.api == "responses" else None
        if not server.has_openai_models:
            return Capabilities(
                options=options,
                sold_by=server.url,
                structured_output=takes_schema,
                native_context_from=compacts_from,
            )
        # On Azure the name is that of a deployment, which says nothing of what it costs.
        sold_by = server.url if server.is_openai else None
        sees = sees_images(model)
        return Capabilities(
            tools=True,
            images=sees,
            files=sees,
            reasoning=is_reasoning_model(model),
            structured_output=takes_schema is None and has_structured_outputs(model),
            options=options,
            sold_by=sold_by,
            native_context_from=compacts_from,
        )

    def takes_compaction(self, model: str, data: ProviderData) -> bool:
        """Return whether a compaction came from this API, server and model."""
        if self._server.api != "responses":
            return False
        from afk_provider_openai.responses_request import origin_of

        return origin_of(self._server, model).own(data) is not None

    async def compact(self, request: ModelRequest) -> ModelResponse:
        """Have the server make a compaction of the messages of a request.

        Raises:
            ProviderError: the call failed; `not_found` if the server has no endpoint for it.
        """
        server = self._server
        if server.api == "chat":
            raise ProviderError(
                f"{server.name} makes no compactions: Chat Completions has none", kind=ErrorKind.NOT_FOUND
            )
        from afk_provider_openai import responses, responses_request

        body = responses_request.compact_body(server, request, ToolNames.of(request))
        answer = await self._connection.post_json(responses.COMPACT_PATH, body)
        made = responses.compacted(server, request.model, answer)
        if made is None:
            raise ProviderError(f"{server.name} answered without a compaction; run again", kind=ErrorKind.TRUNCATED)
        return made

    def batches(self) -> Batches:
        """Return the batches of the server; see `afkcli.plugin.BatchingProvider`."""
        from afk_provider_openai.batches import Batches  # not at the top: few runs use them

        return Batches(self._connection, self._server, self._call)

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models that the server lists, by name; `ProviderError` if it cannot be asked, or gives no list."""
        return self._connection.models(await self._connection.get_json("/models", MAX_LIST_BYTES))

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return an estimate, four bytes of the request's JSON to a token: the API has no count without a call."""
        request, attached = estimated(request)
        _, body, _ = self._call(request)
        return -(-len(dumps(body).encode()) // BYTES_PER_TOKEN) + attached

    async def prepare(self) -> None:
        """Import the SDK and make the client."""
        await self._connection.client()

    async def aclose(self) -> None:
        await self._connection.aclose()

    def _call(self, request: ModelRequest) -> tuple[str, JsonObject, Reader]:
        server = self._server
        request = fitted(server, request)
        names = ToolNames.of(request)
        if server.api == "chat":
            from afk_provider_openai import chat  # not at the top: a run uses one of both

            return chat.PATH, chat.request_body(server, request, names), chat.ChatReader(server, request, names)
        from afk_provider_openai import responses, responses_request

        body = responses_request.request_body(server, request, names)
        return responses.PATH, body, responses.ResponsesReader(server, request, names)

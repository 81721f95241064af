"""The provider: one call is one request through LiteLLM, its stream read to the end marker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Any

import httpx

from afk_provider_litellm import models
from afk_provider_litellm.answer import Answer
from afk_provider_litellm.call import Call
from afk_provider_litellm.exchange import Exchange
from afk_provider_litellm.library import load, loaded
from afk_provider_litellm.request import arguments, is_mistral_route
from afk_provider_litellm.route import Route
from afk_provider_litellm.settings import Settings, checked
from afkcli.plugin import (
    Capabilities,
    ErrorKind,
    ImagePart,
    JsonObject,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ModelWarning,
    ProviderError,
    Role,
    SentRequest,
    attached_parts,
    dumps,
    label,
)
from afkcli.providers.answer_stream import after_answer
from afkcli.providers.attached import base64_content, estimated
from afkcli.providers.base_url import split_base_url
from afkcli.providers.chat import chat_message_at, chat_messages, chat_tool, without_opaque
from afkcli.providers.chat_answer import error_in
from afkcli.providers.http_client import make_http_client
from afkcli.providers.merged_events import EventMerger
from afkcli.providers.network import check_network
from afkcli.providers.origin import Origin
from afkcli.providers.preview import RequestKeeper
from afkcli.providers.provider_errors import ServerToldError
from afkcli.providers.proxies import Proxy
from afkcli.providers.tool_names import ToolNames

BYTES_PER_TOKEN = 4
REFUSED = (400, 422)
WRITE_SECONDS = 60.0


class LiteLLMProvider:
    """`provider.litellm`."""

    name = "litellm"

    def __init__(self, settings: Settings) -> None:
        self.default_model: str | None = settings.default_model or None
        self._settings = checked(settings)
        self._plain_models: set[str] = set()
        self._clients: dict[tuple[str, Proxy | None], httpx.AsyncClient] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Make one model call; see `afkcli.plugin.Provider.stream`.

        Raises:
            ProviderError: the call failed, or its stream ended without the model's finish reason.
        """
        litellm = loaded() or await asyncio.to_thread(load)
        route = await self._route(litellm, request.model)
        names = ToolNames.of(request)
        asked = arguments(self._settings, route, request, names)
        if request.model in self._plain_models:
            asked, _ = without_opaque(asked)
        try:
            async for event in self._attempt(litellm, route, request, names, asked):
                yield event
            return
        except ProviderError as error:
            asked, left_out = without_opaque(asked)
            field = next((name for name in left_out if error.status in REFUSED and name in str(error)), None)
            if field is None:
                raise
        self._plain_models.add(request.model)
        yield ModelWarning(
            "field_refused",
            f"{route.name} refused the field {field!r}, which it had sent itself; sent again without it",
        )
        async for event in self._attempt(litellm, route, request, names, asked):
            yield event

    async def preview(self, request: ModelRequest) -> SentRequest:
        """Return what LiteLLM would send; see `afkcli.plugin.PreviewingProvider`."""
        litellm = loaded() or await asyncio.to_thread(load)
        route = await self._route(litellm, request.model)
        keeper = RequestKeeper(httpx)
        client = make_http_client(httpx, "", self._timeout(), None, transport=keeper.transport)
        query = split_base_url(self._settings.base_url.strip())[1]
        exchange = Exchange(lambda url: (client, None), self._timeout(), query, _attached(request))
        call = Call(litellm, exchange, route, lambda: False)
        try:
            await call.open(arguments(self._settings, route, request, ToolNames.of(request)))
            if keeper.sent() is None:  # for some APIs LiteLLM sends when it is read
                await call.read()
        except ProviderError:
            if keeper.sent() is None:
                raise
        finally:
            await call.aclose()
            await client.aclose()
        sent = keeper.sent()
        if sent is None:
            raise ProviderError(f"LiteLLM sends {route.name} no request over HTTP", kind=ErrorKind.BAD_REQUEST)
        return sent

    async def _attempt(
        self, litellm: Any, route: Route, request: ModelRequest, names: ToolNames, asked: JsonObject
    ) -> AsyncGenerator[ModelEvent, None]:
        taken = [call.id for message in request.messages for call in message.tool_calls]
        think_tags = self._settings.think_tags or request.output_schema is not None
        answer = Answer(names, route, taken=taken, think_tags=think_tags)
        query = split_base_url(self._settings.base_url.strip())[1]
        exchange = Exchange(self._client_of, self._timeout(), query, _attached(request))
        call = Call(litellm, exchange, route, lambda: answer.finished)
        try:
            await call.open(asked)
            async for event in _events(call, answer):
                yield event
                call.progress.saw(event)
                call.progress.saw_unshown(answer.unshown)
            if not call.finished:
                raise call.truncated()
            for event in answer.close():
                yield event
        except ServerToldError as error:
            # What LiteLLM makes of the messages for other APIs is not known here, and so not which one they name.
            if route.provider == "openai" or route.provider in litellm.openai_compatible_providers:
                strict = is_mistral_route(route)
                error.locate(lambda named: chat_message_at(request, names, route.origin, named, strict_roles=strict))
            raise
        finally:
            await call.aclose()
        yield answer.response()

    def capabilities(self, model: str) -> Capabilities:
        """Return what LiteLLM's own table says of a model; nothing for those of a server of one's own."""
        return Capabilities() if self._settings.base_url else models.capabilities(model)

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models of the providers whose keys are in the environment, as LiteLLM lists them."""
        litellm = loaded() or await asyncio.to_thread(load)
        names = await asyncio.to_thread(litellm.get_valid_models)
        return [ModelInfo(id=name) for name in sorted(set(names))]

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return an estimate, four bytes of the JSON of messages and tools to a token."""
        request, attached = estimated(request)
        names = ToolNames.of(request)
        origin = Origin(provider=self.name, api="", model=request.model, server="")
        sent = [*chat_messages(request, names, origin), *(chat_tool(tool, names) for tool in request.tools)]
        return -(-len(dumps(sent).encode()) // BYTES_PER_TOKEN) + attached

    async def prepare(self) -> None:
        """Import LiteLLM, off the event loop."""
        if loaded() is None:
            await asyncio.to_thread(load)

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        if self._loop is asyncio.get_running_loop():
            for client in clients.values():
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

    def _client_of(self, url: httpx.URL) -> tuple[httpx.AsyncClient, Proxy | None]:
        """Return the client of the running event loop for a URL, and the proxy that it goes through.

        Raises:
            ConfigError: the environment names a proxy or certificates that are not usable.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._clients, self._loop = {}, loop
        proxy = check_network(str(url))
        place = (url.scheme, proxy)
        if place not in self._clients:
            self._clients[place] = make_http_client(httpx, str(url), self._timeout(), proxy)
        return self._clients[place], proxy

    def _timeout(self) -> httpx.Timeout:
        # Reading is timed by `Call`, which tells the first byte from the later ones.
        return httpx.Timeout(None, connect=self._settings.connect_timeout, write=WRITE_SECONDS)


async def _events(call: Call, answer: Answer) -> AsyncGenerator[ModelEvent, None]:
    """Yield the events of an answer; an error behind a whole one is a warning."""
    merger = EventMerger()
    try:
        while (chunks := await call.read()) is not None:
            for event in merger.merged(_events_of(chunks, call, answer)):
                yield event
    except ProviderError as error:
        if not (call.finished and answer.is_whole):
            raise
        yield after_answer(str(error))


def _events_of(chunks: Iterable[JsonObject], call: Call, answer: Answer) -> Iterator[ModelEvent]:
    for chunk in chunks:
        yield from answer.chunk(chunk)
        if (told := error_in(chunk)) is not None:
            raise call.reported(told)


def _attached(request: ModelRequest) -> dict[str, bytes]:
    """Return what the request to the server has to hold: the images and files that are sent, in base64.

    They are those of the user's messages, and the images that tools returned.
    """
    asked = list(attached_parts(message for message in request.messages if message.role is Role.USER))
    results = attached_parts(message for message in request.messages if message.role is Role.TOOL)
    sent = [*asked, *(part for part in results if isinstance(part, ImagePart))]
    return {label(part): base64_content(request, part).encode() for part in sent}

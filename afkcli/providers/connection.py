"""The client of a vendor's SDK, and requests over it, their answers read raw.

The SDKs of OpenAI and Anthropic are made alike: their clients have `post` and `get` for calls of one's own, and errors
of the same names. Authentication, URLs, headers and errors are the SDK's; its typed transforms (which walk every
message) and typed events are left out. A plugin gives an `Sdk`; this module imports none.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl

from afkcli.core.contract.errors import ProviderError
from afkcli.core.contract.jsonform import JsonObject, loads
from afkcli.core.contract.protocols import ModelInfo, SentRequest
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import started
from afkcli.providers.base_url import split_base_url
from afkcli.providers.bodies import FILE, BodyTooLongError, unread_encoding
from afkcli.providers.body_json import body_json
from afkcli.providers.event_stream import EventStream
from afkcli.providers.failures import RedirectRefusedError
from afkcli.providers.http_client import bounded_body, make_http_client
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.progress import Progress
from afkcli.providers.provider_errors import ProviderErrors, ServerToldError
from afkcli.providers.request_template import RequestTemplate, template_of

WRITE_SECONDS = 60.0
MAX_TEMPLATES = 16
"""How many heads of requests are kept; a provider has a few addresses, and a few sets of headers."""
MAX_JSON_BYTES = 4 * 1024 * 1024
"""Of a count, for instance: what JSON becomes in memory can be twenty times as large."""

MAX_LIST_BYTES = 16 * 1024 * 1024
"""Of a list of models: a gateway lists thousands, with half a kilobyte about each."""


class Settings(Protocol):
    """What a connection reads of a provider's settings; times are in seconds."""

    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    headers: dict[str, str]


class Server(Protocol):
    """Where requests go: a base URL, which may have a query, and how messages call the server."""

    @property
    def url(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def errors(self) -> ProviderErrors: ...


AnyServer = TypeVar("AnyServer", bound=Server)


class Sdk(FrozenStruct, Generic[AnyServer], kw_only=True):
    """One SDK: how it is imported, its client (made of `client_options`), the headers that a body needs.

    `make_client` is called off the event loop, and is what imports the SDK first. `repeats_heads` says that two
    requests to one address with the same headers differ in their bodies alone: the key of the client does not change,
    and no request is signed. Then the SDK makes the first of them, and the next ones have its head (since 0.2).
    """

    load: Callable[[], ModuleType]
    make_client: Callable[[AnyServer], Any]
    headers: Callable[[JsonObject], Mapping[str, str]] = lambda body: {}
    repeats_heads: bool = False


class Connection(Generic[AnyServer]):
    """The client for one server, made when it is first needed, anew for each event loop."""

    def __init__(self, server: AnyServer, sdk: Sdk[AnyServer]) -> None:
        self._server = server
        self._sdk = sdk
        self._errors = server.errors
        self._client: Any = None
        self._base = ""
        self._making: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._templates: dict[tuple[str, tuple[tuple[str, str], ...]], RequestTemplate] = {}

    async def client(self) -> Any:
        """Return the client of the running event loop; the first call imports the SDK, off the loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client = self._making = None
            self._templates.clear()
            self._loop = loop
        if self._client is not None:
            return self._client
        if self._making is None or self._making.done():  # many runs may begin at once
            self._making = started(asyncio.to_thread(self._sdk.make_client, self._server))
        client = await asyncio.shield(self._making)
        if self._client is None:
            # The SDK takes apart and puts together a path below its base URL, for each request; not a whole address.
            self._client, self._base = client, str(client.base_url).rstrip("/") + "/"
        return self._client

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, body: JsonObject, message_at: Callable[[NamedMessage], int | None]
    ) -> AsyncIterator[EventStream]:
        """Send a request and give the stream of its answer; leaving closes the request.

        Args:
            path: where below the base URL.
            body: the body.
            message_at: returns which message of the request one of the body is, as `ProviderError.message_index`
                counts them; None where that is unsure. Errors within the block name it too.

        Raises:
            ProviderError: the request got no response, or one that is not an answer.
        """
        model = str(body.get("model"))
        settings = self._server.settings
        progress = Progress(settings.first_byte_timeout, settings.idle_timeout)
        try:
            response = await self._send("post", path, model, body, progress)
            try:
                self._check_encoding(response)
                http_error = http_library(self._sdk.load()).HTTPError
                with contextlib.closing(EventStream(self._errors, model, response, http_error, progress)) as stream:
                    yield stream
            finally:
                await response.aclose()
        except ServerToldError as error:
            error.locate(message_at)
            raise

    async def preview(self, path: str, body: JsonObject) -> SentRequest:
        """Return the request that `stream` would send; nothing is sent.

        Raises:
            ProviderError: the SDK sends no such request.

        Since: 0.2.
        """
        from afkcli.providers.preview import RequestKeeper  # not at the top: a run sends its requests

        client = await self.client()
        library, server = http_library(self._sdk.load()), self._server
        keeper = RequestKeeper(library)
        http_client = make_http_client(library, server.url, client.timeout, None, transport=keeper.transport)
        progress = Progress(server.settings.first_byte_timeout, server.settings.idle_timeout)
        copy = client.with_options(http_client=http_client)
        response = await self._send("post", path, str(body.get("model")), body, progress, copy)
        await response.aclose()
        sent = keeper.sent()
        assert sent is not None
        return sent

    async def get_json(self, path: str, limit: int = MAX_JSON_BYTES) -> Any:
        """Return the JSON of a GET request, of at most `limit` bytes; `ProviderError` if there is none."""
        return await self._json("get", path, None, limit)

    def models(self, answer: Any) -> list[ModelInfo]:
        """Return the models of a list that the server answered with; `ProviderError` if it is no list. Since: 0.2."""
        from afkcli.providers.model_list import listed_models  # not at the top: a run asks for no list

        try:
            return listed_models(answer)
        except ValueError as error:
            raise self._errors.no_answer(f"answered the request for its models with something that {error}") from None

    async def post_json(self, path: str, body: JsonObject) -> Any:
        """Return the JSON that a POST request is answered with; `ProviderError` if there is none."""
        return await self._json("post", path, body)

    @contextlib.asynccontextmanager
    async def response(
        self,
        call: Callable[[Any], contextlib.AbstractAsyncContextManager[Any]],
        *,
        seconds: float | None = None,
        once: bool = False,
    ) -> AsyncIterator[Any]:
        """Call a method of the SDK, and give the HTTP library's response, its body unread; leaving closes the request.

        Args:
            call: calls a method of `with_streaming_response` of a resource of the SDK's client, which it gets.
            seconds: how long the answer may take to begin; `first_byte_timeout` of the settings by default.
            once: send it over a connection of its own, so that it leaves at most once. A request on a connection
                that the server has closed meanwhile is sent anew otherwise.

        Raises:
            ProviderError: the request got no response, or one that is not a success.

        Since: 0.2.
        """
        limit = seconds or self._server.settings.first_byte_timeout
        async with self._client_of(once=once) as client, contextlib.AsyncExitStack() as stack:
            answer = await self._answered(stack.enter_async_context(call(client)), "", Progress(limit, limit))
            self._check_encoding(answer.http_response)
            yield answer.http_response

    @contextlib.asynccontextmanager
    async def posted(self, path: str, content: bytes, headers: Mapping[str, str], seconds: float) -> AsyncIterator[Any]:
        """Send JSON in a POST request that leaves at most once, and give the response as `response` does.

        Since: 0.2.
        """
        async with self._client_of(once=True) as client:
            progress = Progress(seconds, seconds)
            response = await self._send_by_sdk(client, "post", path, "", None, headers, progress, content)
            try:
                self._check_encoding(response)
                yield response
            finally:
                await response.aclose()

    @contextlib.asynccontextmanager
    async def _client_of(self, *, once: bool) -> AsyncIterator[Any]:
        client = await self.client()
        if not once:
            yield client
            return
        library, errors = http_library(self._sdk.load()), self._errors
        made = await asyncio.to_thread(make_http_client, library, self._server.url, client.timeout, errors.proxy)
        async with made:
            yield client.with_options(http_client=made)

    def file_at(self, path: str) -> Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]:
        """Return a call for `response` that asks for a file by its path, where the SDK would go to another address.

        Since: 0.2.
        """

        @contextlib.asynccontextmanager
        async def call(client: Any) -> AsyncIterator[Any]:
            response = await client.get(
                self._base + path.lstrip("/"),
                cast_to=http_library(self._sdk.load()).Response,
                stream=True,
                options={"headers": {"accept": FILE}},
            )
            try:
                yield SimpleNamespace(http_response=response)
            finally:
                await response.aclose()

        return call

    async def pieces(self, response: Any, idle_seconds: float) -> AsyncIterator[bytes]:
        """Yield the body of a response as it comes.

        Args:
            response: as `response` gives it.
            idle_seconds: the longest time without a byte.

        Raises:
            ProviderError: it broke off, or nothing came for too long.

        Since: 0.2.
        """
        http_error, chunks = http_library(self._sdk.load()).HTTPError, response.aiter_bytes()
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    piece = await anext(chunks, None)
            except TimeoutError:
                raise self._errors.timeout(f"sent nothing for {idle_seconds:g} s") from None
            except (http_error, OSError, BodyTooLongError):
                raise self._errors.broken("broke off: the connection was lost", answered=False) from None
            if piece is None:
                return
            yield piece

    async def json_of(self, response: Any, path: str, limit: int = MAX_JSON_BYTES) -> Any:
        """Return the JSON of a response to `path`, of at most `limit` bytes; `ProviderError` if there is none.

        Since: 0.2.
        """
        seconds = self._server.settings.first_byte_timeout
        return await self._read_json(response, path, Progress(seconds, seconds), limit)

    async def _json(self, method: str, path: str, body: JsonObject | None, limit: int = MAX_JSON_BYTES) -> Any:
        seconds = self._server.settings.first_byte_timeout
        progress = Progress(seconds, seconds)
        response = await self._send(method, path, str((body or {}).get("model", "")), body, progress)
        return await self._read_json(response, path, progress, limit)

    async def _read_json(self, response: Any, path: str, progress: Progress, limit: int) -> Any:
        try:
            self._check_encoding(response)
            async with asyncio.timeout(progress.remaining):
                return loads(await bounded_body(response, limit))
        except BodyTooLongError as error:
            raise self._errors.no_answer(f"answered {path} with more than afk reads: {error}") from None
        except ValueError:
            raise self._errors.no_answer(f"answered {path} with something that is not JSON") from None
        except TimeoutError:
            raise self._errors.timeout(f"did not answer {path} in time") from None
        except (http_library(self._sdk.load()).HTTPError, OSError) as error:
            raise self._errors.no_connection(error) from None
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        self._templates.clear()
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    async def _send(
        self, method: str, path: str, model: str, body: JsonObject | None, progress: Progress, client: Any = None
    ) -> Any:
        """Return the HTTP library's response, its body unread; the time of `progress` begins here.

        Args:
            client: sends the request; the connection's own by default.
        """
        own = client is None
        client = client or await self.client()
        headers = self._sdk.headers(body) if body is not None else {}
        place = path, tuple(sorted(headers.items()))
        template = self._templates.get(place) if own and body is not None else None
        if template is not None and body is not None:
            return await self._send_by(template, model, body, progress)
        response = await self._send_by_sdk(client, method, path, model, body, headers, progress)
        if own and body is not None and self._sdk.repeats_heads and len(self._templates) < MAX_TEMPLATES:
            made = template_of(http_library(self._sdk.load()), response)
            if made is not None:
                self._templates[place] = made
        return response

    async def _send_by(self, template: RequestTemplate, model: str, body: JsonObject, progress: Progress) -> Any:
        library = http_library(self._sdk.load())
        try:
            async with asyncio.timeout(progress.remaining):
                response = await template.send(body_json(body))
        except library.TimeoutException:
            raise self._unreached() from None
        except TimeoutError:
            raise self._unanswered(progress) from None
        except (library.HTTPError, OSError, RedirectRefusedError) as error:
            raise self._errors.no_connection(error) from None
        if not response.is_success:
            raise self._errors.response(model, response.status_code, response.headers, response.content)
        return response

    async def _send_by_sdk(
        self,
        client: Any,
        method: str,
        path: str,
        model: str,
        body: JsonObject | None,
        headers: Mapping[str, str],
        progress: Progress,
        content: bytes | None = None,
    ) -> Any:
        sdk = self._sdk.load()
        call: Any = client.post if method == "post" else client.get
        path, _, query = path.partition("?")  # beside a query of the base URL one in the path would be lost
        options: dict[str, Any] = {"params": dict(parse_qsl(query))} if query else {}
        if headers:
            options["headers"] = headers
        arguments: dict[str, Any] = {"cast_to": http_library(sdk).Response, "stream": True, "options": options}
        kind: Any = type(client)
        if (body is not None or content is not None) and _takes_content(kind):
            arguments["content"] = body_json(body) if body is not None else content
        elif body is not None or content is not None:
            arguments["body"] = body if body is not None else loads(content or b"")
        return await self._answered(call(self._base + path.lstrip("/"), **arguments), model, progress)

    async def _answered(self, call: Awaitable[Any], model: str, progress: Progress) -> Any:
        """Return what a call of the SDK returns; raise its errors as those of afk."""
        sdk = self._sdk.load()
        try:
            async with asyncio.timeout(progress.remaining):
                return await call
        except TimeoutError:
            raise self._unanswered(progress) from None
        except sdk.APIStatusError as error:
            response = error.response
            raise self._errors.response(model, response.status_code, response.headers, response.content) from None
        except sdk.APITimeoutError:
            raise self._unreached() from None
        except (sdk.APIConnectionError, RedirectRefusedError) as error:
            raise self._errors.no_connection(error) from None

    def _unanswered(self, progress: Progress) -> ProviderError:
        return self._errors.timeout(f"did not answer within {progress.limit:g} s")

    def _unreached(self) -> ProviderError:
        seconds = self._server.settings.connect_timeout
        return self._errors.timeout(f"could not be reached within {seconds:g} s")

    def _check_encoding(self, response: Any) -> None:
        encoding = unread_encoding(response.headers)
        if encoding:
            raise self._errors.no_answer(f"answered in the encoding {encoding!r}, which afk did not ask for")


@cache
def _takes_content(client: type) -> bool:
    """Return whether the `post` of an SDK's client takes the bytes of a body, as its later versions do."""
    return "content" in inspect.signature(client.post).parameters  # type: ignore[attr-defined]


def http_library(sdk: ModuleType) -> ModuleType:
    """Return the HTTP library that the installed SDK uses: `httpx`, or `httpx2` in its later versions."""
    base = sdk.DefaultAsyncHttpxClient.__mro__[1]  # the SDK's default client extends the library's own
    return sys.modules[base.__module__.partition(".")[0]]


def client_options(sdk: ModuleType, server: Server) -> dict[str, Any]:
    """Return the arguments of the SDK's client that are the same for every SDK.

    Raises:
        ConfigError: the environment names a proxy or certificates that are not usable.
    """
    url, query = split_base_url(server.url)
    library = http_library(sdk)
    # Reading is timed by `EventStream`, which tells the first byte from the later ones.
    timeout = sdk.Timeout(None, connect=server.settings.connect_timeout, write=WRITE_SECONDS)
    return {
        "api_key": server.key,
        "base_url": url,
        "default_query": query or None,
        "default_headers": server.settings.headers or None,
        "max_retries": 0,  # retrying is the core's
        "timeout": timeout,
        "http_client": make_http_client(library, url, timeout, server.errors.proxy),
    }

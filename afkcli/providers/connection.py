"""The client of a vendor's SDK, and requests over it, their answers read raw.

The SDKs of OpenAI and Anthropic are made alike: their clients have `post` and `get` for calls of one's own, and errors
of the same names. Authentication, URLs, headers and errors are the SDK's; its typed transforms (which walk every
message) and typed events are left out. A plugin gives an `Sdk`; this module imports none.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.providers.sse import EventParser, EventTooLongError

DRAIN_SECONDS = 0.2
WRITE_SECONDS = 60.0

_NO_STREAM = ("text/html", "application/json")


class Settings(Protocol):
    """What a connection reads of a provider's settings; times are in seconds."""

    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    headers: dict[str, str]


class Server(Protocol):
    """Where requests go. `name` is how messages call the server."""

    @property
    def url(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Settings: ...


AnyServer = TypeVar("AnyServer", bound=Server)
ServerOf = TypeVar("ServerOf", bound=Server, contravariant=True)


class Errors(Protocol[ServerOf]):
    """The functions that make a `ProviderError` of what happened: a plugin's module `errors`."""

    def error_line(self, server: ServerOf, what: str, kind: ErrorKind, detail: str = "") -> str: ...
    def status_error(self, server: ServerOf, model: str, error: Any) -> ProviderError: ...
    def event_error(self, server: ServerOf, model: str, error: Json) -> ProviderError: ...
    def connection_error(self, server: ServerOf, error: BaseException) -> ProviderError: ...
    def timeout_error(self, server: ServerOf, what: str) -> ProviderError: ...
    def broken_stream(self, server: ServerOf, what: str, *, answered: bool) -> ProviderError: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk(Generic[AnyServer]):
    """One SDK: how it is imported, its client (made of `client_options`), its errors, the headers a body needs.

    `make_client` is called off the event loop, and is what imports the SDK first.
    """

    load: Callable[[], ModuleType]
    make_client: Callable[[AnyServer], Any]
    errors: Errors[AnyServer]
    headers: Callable[[JsonObject], Mapping[str, str]] = lambda body: {}


class Connection(Generic[AnyServer]):
    """The client for one server, made when it is first needed, anew for each event loop."""

    def __init__(self, server: AnyServer, sdk: Sdk[AnyServer]) -> None:
        self._server = server
        self._sdk = sdk
        self._errors = sdk.errors
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def client(self) -> Any:
        """Return the client of the running event loop; the first call imports the SDK, off the loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            client = await asyncio.to_thread(self._sdk.make_client, self._server)
            if self._client is None or self._loop is not loop:
                self._client, self._loop = client, loop
        return self._client

    @contextlib.asynccontextmanager
    async def stream(self, path: str, body: JsonObject) -> AsyncIterator[EventStream[AnyServer]]:
        """Send a request and give the stream of its answer; leaving closes the request.

        Raises:
            ProviderError: the request got no response, or one that is no stream.
        """
        model = str(body.get("model"))
        response = await self._send("post", path, model, body)
        try:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in _NO_STREAM:
                raise await self._no_stream(response, kind, model)
            yield EventStream(self._server, self._sdk, response)
        finally:
            await response.aclose()

    async def get_json(self, path: str) -> Any:
        """Return the JSON of a GET request; `ProviderError` if there is none."""
        return await self._json("get", path, None)

    async def post_json(self, path: str, body: JsonObject) -> Any:
        """Return the JSON that a POST request is answered with; `ProviderError` if there is none."""
        return await self._json("post", path, body)

    async def _json(self, method: str, path: str, body: JsonObject | None) -> Any:
        response = await self._send(method, path, str((body or {}).get("model", "")), body)
        try:
            async with asyncio.timeout(self._server.settings.first_byte_timeout):
                await response.aread()
            return response.json()
        except ValueError:
            what = f"{self._server.name} answered {path} with something that is not JSON"
            raise ProviderError(
                self._errors.error_line(self._server, what, ErrorKind.NOT_FOUND), kind=ErrorKind.NOT_FOUND
            ) from None
        except TimeoutError:
            raise self._errors.timeout_error(self._server, f"did not answer {path} in time") from None
        except (http_library(self._sdk.load()).HTTPError, OSError) as error:
            raise self._errors.connection_error(self._server, error) from None
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    async def _send(self, method: str, path: str, model: str, body: JsonObject | None) -> Any:
        """Return the HTTP library's response, its body unread."""
        client = await self.client()
        sdk = self._sdk.load()
        call: Any = client.post if method == "post" else client.get
        arguments: dict[str, Any] = {"cast_to": http_library(sdk).Response, "stream": True}
        if body is not None:
            arguments["body"] = body
            if headers := self._sdk.headers(body):
                arguments["options"] = {"headers": headers}
        seconds = self._server.settings.first_byte_timeout
        try:
            async with asyncio.timeout(seconds):
                return await call(path, **arguments)
        except TimeoutError:
            raise self._errors.timeout_error(self._server, f"did not answer within {seconds:g} s") from None
        except sdk.APIStatusError as error:
            raise self._errors.status_error(self._server, model, error) from None
        except sdk.APITimeoutError:
            seconds = self._server.settings.connect_timeout
            raise self._errors.timeout_error(self._server, f"could not be reached within {seconds:g} s") from None
        except sdk.APIConnectionError as error:
            raise self._errors.connection_error(self._server, error) from None

    async def _no_stream(self, response: Any, kind: str, model: str) -> ProviderError:
        """Return the error for an answer that is no stream: what it says if it is one, else that it is none."""
        if kind == "application/json":
            with contextlib.suppress(ValueError):
                await response.aread()
                body = response.json()
                if isinstance(body, dict) and body.get("error"):
                    return self._errors.event_error(self._server, model, body["error"])
        what = f"{self._server.name} answered with {kind}, not with a stream of events"
        return ProviderError(self._errors.error_line(self._server, what, ErrorKind.NOT_FOUND), kind=ErrorKind.NOT_FOUND)


class EventStream(Generic[AnyServer]):
    """The body of one answer as the data of its events; whoever reads it sets `answered` with the answer's beginning.

    Until then a stream that stalls or breaks has cost nothing, so that it is told as `timeout` or `network`.
    """

    def __init__(self, server: AnyServer, sdk: Sdk[AnyServer], response: Any) -> None:
        self._server = server
        self._errors = sdk.errors
        self._chunks = response.aiter_bytes()
        self._parser = EventParser()
        self._http_error: type[Exception] = http_library(sdk.load()).HTTPError
        self.answered = False

    async def read(self, seconds: float | None = None) -> list[str] | None:
        """Return the data of the events that came in next (maybe none), or None at the end.

        Args:
            seconds: how long to wait; by default as the settings say.

        Raises:
            ProviderError: `truncated` or `network` (see `errors.broken_stream`), or `timeout` before the answer began.
        """
        settings = self._server.settings
        limit = seconds or (settings.idle_timeout if self.answered else settings.first_byte_timeout)
        try:
            async with asyncio.timeout(limit):
                chunk = await anext(self._chunks, None)
            events: list[str] = self._parser.close() if chunk is None else self._parser.feed(chunk)
        except TimeoutError:
            if not self.answered:
                raise self._errors.timeout_error(self._server, f"sent nothing for {limit:g} s") from None
            raise self.broken(f"stalled for {limit:g} s") from None
        except EventTooLongError as error:
            raise self.broken(f"is not usable: {error}") from None
        except (self._http_error, OSError):
            raise self.broken("broke off: the connection was lost") from None
        events = [data for data in events if not data.isspace() and data]  # an empty event keeps the connection alive
        return events if chunk is not None or events else None

    async def drain(self) -> None:
        """Read what is left after the end marker, for a moment, so that the connection can be used again."""
        with contextlib.suppress(ProviderError):
            while await self.read(DRAIN_SECONDS) is not None:
                pass

    def broken(self, what: str) -> ProviderError:
        return self._errors.broken_stream(self._server, what, answered=self.answered)


def http_library(sdk: ModuleType) -> ModuleType:
    """Return the HTTP library that the installed SDK uses: `httpx`, or `httpx2` in its later versions."""
    base = sdk.DefaultAsyncHttpxClient.__mro__[1]  # the SDK's default client extends the library's own
    return sys.modules[base.__module__.partition(".")[0]]


def client_options(sdk: ModuleType, server: Server, *, keeps_connections: bool) -> dict[str, Any]:
    """Return the arguments of the SDK's client that are the same for every SDK."""
    # Reading is timed by `EventStream`, which tells the first byte from the later ones.
    timeout = sdk.Timeout(None, connect=server.settings.connect_timeout, write=WRITE_SECONDS)
    return {
        "api_key": server.key,
        "base_url": server.url,
        "default_headers": server.settings.headers or None,
        "max_retries": 0,  # retrying is the core's
        "timeout": timeout,
        "http_client": _http_client(sdk, server.url, timeout, keeps_connections=keeps_connections),
    }


def _http_client(sdk: ModuleType, url: str, timeout: Any, *, keeps_connections: bool) -> Any:
    """Return the HTTP client.

    It is made here because the one that the SDK makes closes itself in a task when it is dropped, which fails after its
    event loop has ended. For a plain `http://` server it differs in two ways:

    - It loads no certificates, which takes about 20 ms. With an empty context a redirect to https fails instead of
      being trusted.
    - It should keep no connection, which the plugin decides. Some servers (llama.cpp's) close theirs after an answer
      without announcing it, and a request that is sent meanwhile is lost; without TLS a new one costs next to nothing.
    """
    import ssl
    from urllib.request import getproxies

    options: dict[str, Any] = {"base_url": url, "timeout": timeout}
    if not keeps_connections:
        options["limits"] = http_library(sdk).Limits(max_keepalive_connections=0)
    if url.startswith("http://") and not getproxies():
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return sdk.DefaultAsyncHttpxClient(**options)

"""The SDK's client, and one streamed request over it, read raw.

The requests go through `AsyncOpenAI.post`, which the SDK documents for calls of one's own: authentication, URLs,
headers and errors are the SDK's, but its typed transforms (which walk every message) and typed chunks (six times the
cost of their JSON) are left out, as is the import of the resource modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from afk_provider_openai import errors
from afk_provider_openai.settings import Server
from afkcli.core.errors import ErrorKind, ProviderError
from afkcli.core.jsonform import JsonObject
from afkcli.providers.sse import EventParser, EventTooLongError

if TYPE_CHECKING:
    import openai

DRAIN_SECONDS = 0.2
WRITE_SECONDS = 60.0

_NO_STREAM = ("text/html", "application/json")


class Connection:
    """The client for one server, made when it is first needed, anew for each event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: openai.AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def client(self) -> openai.AsyncOpenAI:
        """Return the client of the running event loop; the first call imports the SDK, off the loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            client = await asyncio.to_thread(_make_client, self._server)
            if self._client is None or self._loop is not loop:
                self._client, self._loop = client, loop
        return self._client

    @contextlib.asynccontextmanager
    async def stream(self, path: str, body: JsonObject) -> AsyncIterator[EventStream]:
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
            yield EventStream(self._server, response)
        finally:
            await response.aclose()

    async def get_json(self, path: str) -> Any:
        """Return the JSON of a GET request; `ProviderError` if there is none."""
        response = await self._send("get", path, "", None)
        try:
            async with asyncio.timeout(self._server.settings.first_byte_timeout):
                await response.aread()
            return response.json()
        except ValueError:
            what = f"{self._server.name} answered {path} with something that is not JSON"
            raise ProviderError(
                errors.error_line(self._server, what, ErrorKind.NOT_FOUND), kind=ErrorKind.NOT_FOUND
            ) from None
        except TimeoutError:
            raise errors.timeout_error(self._server, f"did not answer {path} in time") from None
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    async def _send(self, method: str, path: str, model: str, body: JsonObject | None) -> Any:
        """Return the HTTP library's response, its body unread."""
        client = await self.client()
        import openai

        call: Any = client.post if method == "post" else client.get
        arguments: dict[str, Any] = {"cast_to": http_library().Response, "stream": True}
        if body is not None:
            arguments["body"] = body
        seconds = self._server.settings.first_byte_timeout
        try:
            async with asyncio.timeout(seconds):
                return await call(path, **arguments)
        except TimeoutError:
            raise errors.timeout_error(self._server, f"did not answer within {seconds:g} s") from None
        except openai.APIStatusError as error:
            raise errors.status_error(self._server, model, error) from None
        except openai.APITimeoutError:
            seconds = self._server.settings.connect_timeout
            raise errors.timeout_error(self._server, f"could not be reached within {seconds:g} s") from None
        except openai.APIConnectionError as error:
            raise errors.connection_error(self._server, error) from None

    async def _no_stream(self, response: Any, kind: str, model: str) -> ProviderError:
        """Return the error for an answer that is no stream: what it says if it is one, else that it is none."""
        if kind == "application/json":
            with contextlib.suppress(ValueError):
                await response.aread()
                body = response.json()
                if isinstance(body, dict) and body.get("error"):
                    return errors.event_error(self._server, model, body["error"])
        what = f"{self._server.name} answered with {kind}, not with a stream of events"
        return ProviderError(errors.error_line(self._server, what, ErrorKind.NOT_FOUND), kind=ErrorKind.NOT_FOUND)


class EventStream:
    """The body of one answer as the data of its events; whoever reads it sets `answered` with the answer's beginning.

    Until then a stream that stalls or breaks has cost nothing, so that it is told as `timeout` or `network`.
    """

    def __init__(self, server: Server, response: Any) -> None:
        self._server = server
        self._chunks = response.aiter_bytes()
        self._parser = EventParser()
        self._http_error: type[Exception] = http_library().HTTPError
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
                raise errors.timeout_error(self._server, f"sent nothing for {limit:g} s") from None
            raise self.broken(f"stalled for {limit:g} s") from None
        except EventTooLongError as error:
            raise self.broken(f"is not usable: {error}") from None
        except (self._http_error, OSError):
            raise self.broken("broke off: the connection was lost") from None
        return events if chunk is not None or events else None

    async def drain(self) -> None:
        """Read what is left after the end marker, for a moment, so that the connection can be used again."""
        with contextlib.suppress(ProviderError):
            while await self.read(DRAIN_SECONDS) is not None:
                pass

    def broken(self, what: str) -> ProviderError:
        return errors.broken_stream(self._server, what, answered=self.answered)


def http_library() -> ModuleType:
    """Return the HTTP library that the installed SDK uses: `httpx` in major 2, `httpx2` from major 3 on."""
    import openai

    base = openai.DefaultAsyncHttpxClient.__mro__[1]  # the SDK's default client extends the library's own
    return sys.modules[base.__module__.partition(".")[0]]


def _make_client(server: Server) -> openai.AsyncOpenAI:
    import openai

    settings = server.settings
    # Reading is timed by `EventStream`, which tells the first byte from the later ones.
    timeout = openai.Timeout(None, connect=settings.connect_timeout, write=WRITE_SECONDS)
    return openai.AsyncOpenAI(
        api_key=server.key,
        base_url=server.url,
        organization=settings.organization or None,
        project=settings.project or None,
        default_headers=settings.headers or None,
        max_retries=0,  # retrying is the core's
        timeout=timeout,
        http_client=_http_client(server, timeout),
    )


def _http_client(server: Server, timeout: openai.Timeout) -> Any:
    """Return the HTTP client.

    It is made here because the one that the SDK makes closes itself in a task when it is dropped, which fails after its
    event loop has ended. For a plain `http://` server it differs in two ways:

    - It loads no certificates, which takes about 20 ms. With an empty context a redirect to https fails instead of
      being trusted.
    - It keeps no connection. Some servers (llama.cpp's) close theirs after an answer without announcing it, and a
      request that is sent meanwhile is lost; without TLS a new connection costs next to nothing.
    """
    import ssl
    from urllib.request import getproxies

    import openai

    options: dict[str, Any] = {"base_url": server.url, "timeout": timeout}
    if not _keeps_connections(server):
        options["limits"] = http_library().Limits(max_keepalive_connections=0)
    if server.url.startswith("http://") and not getproxies():
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return openai.DefaultAsyncHttpxClient(**options)


def _keeps_connections(server: Server) -> bool:
    return server.url.startswith("https://")

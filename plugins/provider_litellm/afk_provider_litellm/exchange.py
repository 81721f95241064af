"""What a call sends and gets over HTTP, below LiteLLM: once, timed, and not mended.

LiteLLM hides what happens to a stream: it gives every answer a finish reason, leaves out events that are not JSON, cuts
lines at characters that are no line ends, and sends a request again where the connection failed. So its HTTP clients
get `Transport`, which sends the requests of a call through the provider's own client and tells `Exchange` what came
back. Chunks of Chat Completions are read as the server sent them; LiteLLM gets others of its own form in their place.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar

import httpx

from afkcli.plugin import ConfigError, Json, JsonObject, dumps
from afkcli.providers.answer_events import AnswerEvents
from afkcli.providers.bodies import unread_encoding
from afkcli.providers.failures import RedirectRefusedError
from afkcli.providers.progress import Progress
from afkcli.providers.proxies import Proxy
from afkcli.providers.wire import decode_events, readable

DONE = "[DONE]"
PAGE = "text/html"
CHAT_PATH = "/chat/completions"
MAX_ERROR_BYTES = 64 * 1024
_SECRET_HEADERS = ("authorization", "key", "token")

# LiteLLM reads lines by `str.splitlines`, which cuts at these too, and takes an event whose text holds `[DONE]` for the
# end; in JSON they mean the same escaped.
_ESCAPED = {mark: f"\\u{ord(mark[0]):04x}{mark[1:]}" for mark in ("\x85", "\u2028", "\u2029", DONE)}

_CHUNK = (
    b'data: {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": '
    b'[{"index": 0, "delta": {"content": "."}, "finish_reason": null}]}\n\n'
)
"""What LiteLLM gets in the place of the chunks that are read from `Exchange.chunks`."""

ClientOf = Callable[[httpx.URL], tuple[httpx.AsyncClient, Proxy | None]]


class Exchange:
    """One call as it is on the wire.

    `status`, `headers` and `body` are those of a response that is an error, `error` the one that a stream told of,
    `failure` what happened to the connection. `is_chat` says that the answer is in the form of Chat Completions, whose
    chunks are put in `chunks`. `unusable` is what the environment names and cannot be used.

    Args:
        client_of: gives the client for a URL, and the proxy that it goes through.
        timeout: of the request.
        query: what the query of every request has beside its own.
        attached: what the request has to hold, by the names of messages for it.
    """

    def __init__(
        self,
        client_of: ClientOf,
        timeout: httpx.Timeout,
        query: Mapping[str, str],
        attached: Mapping[str, bytes] | None = None,
    ) -> None:
        self.left_out: str | None = None
        self.progress: Progress | None = None
        self.is_unfinished = False
        self._attached = attached or {}
        self._client_of = client_of
        self._query = dict(query)
        self.timeout = timeout
        self.url: httpx.URL | None = None
        self.proxy: Proxy | None = None
        self.status: int | None = None
        self.headers: httpx.Headers | None = None
        self.body = b""
        self.error: Json = None
        self.failure: Exception | None = None
        self.unusable: ConfigError | None = None
        self.encoding = ""
        self.is_page = False
        self.is_chat = False
        self.chunks: list[JsonObject] = []
        self.secrets: list[str] = []
        self._responses: list[httpx.Response] = []

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Send what LiteLLM sends meanwhile as part of this call."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @property
    def _has_failed(self) -> bool:
        found = (self.failure, self.status, self.left_out, self.unusable)
        return self.is_page or bool(self.encoding) or any(item is not None for item in found)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response, its body unread unless it is an error."""
        if self._has_failed:
            raise httpx.NetworkError("a call is one attempt")
        self.left_out = next((name for name, data in self._attached.items() if data not in request.content), None)
        if self.left_out is not None:
            raise httpx.NetworkError(f"{self.left_out} is not in the request")
        response = await self._response_to(request)
        self._responses.append(response)
        if response.is_error:
            self.status, self.headers, self.body = response.status_code, response.headers, response.content
            return httpx.Response(response.status_code, headers=_plain(response.headers), content=self.body)
        self.encoding = unread_encoding(response.headers)
        if self.encoding:
            raise httpx.NetworkError("not an answer")
        self.is_chat = request.url.path.endswith(CHAT_PATH) and b'"stream":true' in request.content.replace(b" ", b"")
        headers = _plain(response.headers)
        if self.is_chat:
            headers = [(name, value) for name, value in headers if name != "content-type"]
            headers.append(("content-type", "text/event-stream"))
        return httpx.Response(response.status_code, headers=headers, stream=_Body(self, response))

    async def _response_to(self, request: httpx.Request) -> httpx.Response:
        self.secrets += [
            value for name, value in request.headers.items() if any(word in name for word in _SECRET_HEADERS)
        ]
        self.secrets += [value for name, value in request.url.params.items() if "key" in name]
        if self._query:
            request.url = request.url.copy_merge_params(self._query)
        self.url = request.url
        request.extensions = {**request.extensions, "timeout": self.timeout.as_dict()}
        request.headers["accept-encoding"] = "identity"
        if request.url.scheme == "http":
            # Some servers (llama.cpp's) close a connection after an answer without announcing it; the next request
            # would be lost.
            request.headers["connection"] = "close"
        try:
            client, self.proxy = self._client_of(request.url)
            return await client.send(request, stream=True)
        except ConfigError as error:
            self.unusable = error
            raise httpx.NetworkError(str(error)) from error
        except (httpx.HTTPError, OSError, RedirectRefusedError) as error:
            self.failure = error
            raise httpx.NetworkError(str(error)) from error

    async def aclose(self) -> None:
        """Close what is still open."""
        for response in self._responses:
            await response.aclose()


_current: ContextVar[Exchange | None] = ContextVar("afk_litellm_exchange", default=None)


def is_in_call() -> bool:
    """Return whether what is sent now is part of a call; see `Exchange.current`."""
    return _current.get() is not None


class Transport(httpx.AsyncBaseTransport):
    """Sends by the current call's `Exchange`; outside of a call as LiteLLM would have sent."""

    def __init__(self, original: Callable[[], httpx.AsyncBaseTransport | None]) -> None:
        self._original = original
        self._other: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _current.get()
        if exchange is not None:
            return await exchange.send(request)
        if self._other is None:
            self._other = self._original() or httpx.AsyncHTTPTransport()
        return await self._other.handle_async_request(request)

    async def aclose(self) -> None:
        if self._other is not None:
            await self._other.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a response; a stream of events in a form that LiteLLM's readers take."""

    def __init__(self, exchange: Exchange, response: httpx.Response) -> None:
        self._exchange = exchange
        self._response = response
        self._events = AnswerEvents()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_events = self._response.headers.get("content-type", "").startswith("text/event-stream")
        try:
            if not is_events and not self._exchange.is_chat:
                async for chunk in self._chunks():
                    self._check_page(chunk)
                    yield chunk
                return
            async for chunk in self._chunks():
                events = self._events.take(chunk)
                self._exchange.is_unfinished = self._events.is_unfinished
                if self._events.is_page:
                    self._check_page(b"<")
                for line in self._lines(events):
                    yield line
                if any(data.startswith(DONE) for data in events):
                    return  # LiteLLM would take it for a finish reason
            for line in self._lines(self._events.rest()):
                yield line
            if self._exchange.error is None:
                self._exchange.error = self._events.error or self._events.stray_error()
        except (httpx.HTTPError, OSError, ValueError) as error:
            self._exchange.failure = error
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        await self._response.aclose()

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_bytes():
            if self._exchange.progress is not None:
                self._exchange.progress.received(len(chunk))
            yield chunk

    def _check_page(self, chunk: bytes) -> None:
        """Raise `ReadError` for a page for people."""
        is_html = self._response.headers.get("content-type", "").startswith(PAGE)
        if chunk.lstrip().startswith(b"<") and (is_html or self._exchange.is_chat):
            self._exchange.is_page = True
            raise httpx.ReadError("not an answer")

    def _lines(self, events: list[str]) -> Iterator[bytes]:
        """Yield what LiteLLM gets for some events; `ValueError` if one begins an object and does not end it.

        For all chunks that came together it gets one: it takes longer for a chunk than everything else.
        """
        end = next((n for n, data in enumerate(events) if data.startswith(DONE)), None)
        for data in events[:end]:
            if self._exchange.is_chat:
                self._exchange.chunks += decode_events(data)
            else:
                yield from self._events_of(data)
        if self._exchange.is_chat and self._exchange.chunks:
            yield _CHUNK
        if end is None and self._events.error is not None:
            self._exchange.error = self._events.error
            raise httpx.ReadError("the server reported an error")

    def _events_of(self, data: str) -> Iterator[bytes]:
        text = readable(data.replace("\n", " "))
        if not text.lstrip().startswith("{"):
            yield f"data: {text}\n\n".encode()
            return
        events = decode_events(text)
        for event in events:
            if event.get("error") and self._exchange.error is None:
                self._exchange.error = event
            line = text if len(events) == 1 else dumps(event)
            for mark, escaped in _ESCAPED.items():
                line = line.replace(mark, escaped)
            yield f"data: {line}\n\n".encode()


def _plain(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Return the headers of a response whose body was decoded already."""
    return [(name, value) for name, value in headers.items() if name not in ("content-encoding", "content-length")]

"""What a call sends and gets over HTTP, below LiteLLM: once, timed, and not mended.

LiteLLM hides what happens to a stream: it gives every answer a finish reason, leaves out events that are not JSON, cuts
lines at characters that are no line ends, and sends a request again where the connection failed. So its HTTP clients
get `Transport`, which sends the requests of a call through the provider's own client and tells `Exchange` what came
back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar

import httpx

from afkcli.plugin import MAX_LINE_BYTES, JsonObject
from afkcli.providers.wire import decode_event

DONE = "[DONE]"
PAGE = "text/html"
MAX_ERROR_BYTES = 64 * 1024
_SECRET_HEADERS = ("authorization", "key", "token")

# LiteLLM reads lines by `str.splitlines`, which cuts at these too, and takes an event whose text holds `[DONE]` for the
# end; in JSON they mean the same escaped.
_ESCAPED = {mark: f"\\u{ord(mark[0]):04x}{mark[1:]}" for mark in ("\x85", "\u2028", "\u2029", DONE)}


class Exchange:
    """One call as it is on the wire.

    `status`, `headers` and `body` are those of a response that is an error, `error_event` the error that a stream
        if self._has_failed:
    """

    def __init__(
        self, client: httpx.AsyncClient, timeout: httpx.Timeout, attached: Mapping[str, bytes] | None = None
    ) -> None:
        self.left_out: str | None = None
        self._attached = attached or {}
        self.client = client
        self.timeout = timeout
        self.url: httpx.URL | None = None
        self.status: int | None = None
        self.headers: httpx.Headers | None = None
        self.body = b""
        self.error_event: JsonObject | None = None
        self.failure: Exception | None = None
        self.is_page = False
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
        return self.is_page or any(found is not None for found in (self.failure, self.status, self.left_out))

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response, its body unread unless it is an error."""
        if self._has_failed:
            raise httpx.NetworkError("a call is one attempt")
        self.left_out = next((name for name, data in self._attached.items() if data not in request.content), None)
        if self.left_out is not None:
            raise httpx.NetworkError(f"{self.left_out} is not in the request")
        self.url = request.url
        self.secrets += [
            value for name, value in request.headers.items() if any(word in name for word in _SECRET_HEADERS)
        ]
        self.secrets += [value for name, value in request.url.params.items() if "key" in name]
        request.extensions = {**request.extensions, "timeout": self.timeout.as_dict()}
        if request.url.scheme == "http":
            # Some servers (llama.cpp's) close a connection after an answer without announcing it; the next request
            # would be lost.
            request.headers["connection"] = "close"
        try:
            response = await self.client.send(request, stream=True)
        except (httpx.HTTPError, OSError) as error:
            self.failure = error
            raise httpx.NetworkError(str(error)) from error
        self._responses.append(response)
        if response.is_error:
            await self._read_error(response)
            return httpx.Response(response.status_code, headers=_plain(response.headers), content=self.body)
        if response.headers.get("content-type", "").startswith(PAGE):
            self.is_page = True
            raise httpx.NetworkError("not an answer")
        return httpx.Response(response.status_code, headers=_plain(response.headers), stream=_Body(self, response))

    async def _read_error(self, response: httpx.Response) -> None:
        self.status, self.headers = response.status_code, response.headers
        with contextlib.suppress(httpx.HTTPError, OSError):
            async for chunk in response.aiter_bytes():
                self.body += chunk
                if len(self.body) >= MAX_ERROR_BYTES:
                    break
        await response.aclose()

    async def aclose(self) -> None:
        """Close what is still open."""
        for response in self._responses:
            await response.aclose()


_current: ContextVar[Exchange | None] = ContextVar("afk_litellm_exchange", default=None)


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
    """The body of a response; a stream of events line by line, fit for LiteLLM's readers."""

    def __init__(self, exchange: Exchange, response: httpx.Response) -> None:
        self._exchange = exchange
        self._response = response
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_events = self._response.headers.get("content-type", "").startswith("text/event-stream")
        try:
            async for chunk in self._response.aiter_bytes():
                if not is_events:
                    yield chunk
                    continue
                for line in self._lines(chunk):
                    if line.startswith(b"data:") and line[5:].strip().startswith(DONE.encode()):
                        return  # LiteLLM would take it for a finish reason
                    yield self._line(line)
            for line in self._held:
                yield line
        except (httpx.HTTPError, OSError, ValueError) as error:
            self._exchange.failure = error
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        await self._response.aclose()

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._held, lines[0]])
            self._held, self._held_bytes = [], 0
        if rest:
            self._held.append(rest)
            self._held_bytes += len(rest)
            if self._held_bytes > MAX_LINE_BYTES:
                raise ValueError(f"an event is longer than {MAX_LINE_BYTES} bytes")
        return lines

    def _line(self, line: bytes) -> bytes:
        """Return a line for LiteLLM; `ValueError` if it is one of data that begins an object and does not end it."""
        text = line.decode("utf-8", "replace")
        data = text.removeprefix("data:").strip()
        if text.startswith("data:") and data.startswith("{"):
            event = decode_event(data)
            if event.get("error") and self._exchange.error_event is None:
                self._exchange.error_event = event
            for mark, escaped in _ESCAPED.items():
                text = text.replace(mark, escaped)
        return f"{text}\n".encode()


def _plain(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Return the headers of a response whose body was decoded already."""
    return [(name, value) for name, value in headers.items() if name not in ("content-encoding", "content-length")]

"""The transport of a provider's HTTP client to a server that is asked directly: one exchange after the other.

`AsyncBaseTransport` is an interface that the HTTP libraries document for this. Their own transport passes a short
answer through a pool, a parser and six asynchronous generators, which is most of what a short turn costs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeAlias

from afkcli.providers.http1 import BadRequestError, BadResponseError, Response, request_head
from afkcli.providers.network_backend import mapped, within
from afkcli.providers.network_connection import Connection, LostRequestError, SocketOption, connect

MAX_CONNECTIONS = 1000
MAX_IDLE = 100
IDLE_SECONDS = 5.0
"""How long a connection is kept for the next request; servers keep theirs for as long at least."""

MAX_LOST = 3
"""How often a request is sent anew that was lost on a connection which the server had closed."""

_READ_BYTES = 64 * 1024

_Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""


def direct_transport(library: ModuleType, *, context: Any, socket_options: Sequence[SocketOption]) -> Any:
    """Return a transport for HTTP/1.1 that asks each server directly, and keeps its connections for a few seconds.

    Args:
        library: `httpx`, or a later version of it.
        context: the TLS context.
        socket_options: set on each connection.

    Since: 0.2.
    """
    base: Any = library.AsyncBaseTransport
    connections = _Connections(library, context, socket_options)
    body_of = _body_class(library, connections)

    class Direct(base):  # type: ignore[misc]  # a class that is known when it is made
        async def handle_async_request(self, request: Any) -> Any:
            connection, response, begun = await _exchanged(library, connections, request)
            assert response.head is not None
            return library.Response(
                response.head.status,
                headers=response.head.fields,
                stream=body_of(connection, response, begun, _timeouts(request).get("read")),
                extensions={
                    "http_version": b"HTTP/" + response.head.version,
                    "reason_phrase": response.head.reason,
                },
            )

        async def aclose(self) -> None:
            await connections.aclose()

    return Direct()


class _Connections:
    """The connections of one client; those that are idle by their origin, the newest last."""

    def __init__(self, library: ModuleType, context: Any, socket_options: Sequence[SocketOption]) -> None:
        self._library = library
        self._context = context
        self._socket_options = socket_options
        self._idle: dict[_Origin, deque[tuple[Connection, float]]] = {}
        self._open: dict[Connection, _Origin] = {}
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def take(self, url: Any, seconds: float | None) -> Connection:
        """Return a connection to the origin of a URL: an idle one, or a new one that is made within so many seconds."""
        await self._free.acquire()
        try:
            origin = url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
            connection = await self._idle_one(origin)
            if connection is None:
                library = self._library
                with mapped(library.ConnectTimeout, library.ConnectError):
                    connection = await within(seconds, self._made(*origin))
                self._open[connection] = origin
        except BaseException:
            self._free.release()
            raise
        return connection

    async def give_back(self, connection: Connection, *, may_follow: bool) -> None:
        """Keep a connection for the next request, or close it."""
        self._free.release()
        origin = self._open.get(connection)  # None: the client was closed meanwhile
        idle = self._idle.setdefault(origin, deque()) if origin is not None and may_follow else None
        if idle is not None and len(idle) < MAX_IDLE:
            idle.append((connection, time.monotonic()))
        else:
            await self._close(connection)

    async def aclose(self) -> None:
        """Close all of them."""
        self._idle.clear()
        for connection in tuple(self._open):
            await self._close(connection)

    async def _idle_one(self, origin: _Origin) -> Connection | None:
        """Return an idle connection to `origin` that the server has not closed, None if there is none."""
        idle = self._idle.get(origin)
        oldest = time.monotonic() - IDLE_SECONDS
        while idle and idle[0][1] < oldest:
            await self._close(idle.popleft()[0])
        while idle:
            connection, _ = idle.pop()
            if not connection.is_readable:
                return connection
            await self._close(connection)
        return None

    async def _close(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        await connection.aclose()

    async def _made(self, scheme: str, host: str, port: int) -> Connection:
        connection = await connect(host, port, self._socket_options)
        if scheme != "https":
            return connection
        self._context.set_alpn_protocols(["http/1.1"])
        return await connection.start_tls(self._context, host)


async def _exchanged(
    library: ModuleType, connections: _Connections, request: Any
) -> tuple[Connection, Response, bytes]:
    """Send a request; return its connection, its response and what has come of the body.

    One that is lost on a connection that the server had closed is sent anew.
    """
    url, timeouts = request.url, _timeouts(request)
    try:
        head = request_head(request.method, url.raw_path, _host_first(request.headers.raw))
    except BadRequestError as error:
        raise library.LocalProtocolError(str(error)) from None
    body = b"".join([piece async for piece in request.stream])
    for left in reversed(range(MAX_LOST + 1)):
        connection = await connections.take(url, timeouts.get("connect"))
        response = Response(request.method)
        try:
            await _send(library, connection, head, body, timeouts.get("write"))
            begun = await _head_of(library, connection, response, timeouts.get("read"))
        except BaseException as error:
            await connections.give_back(connection, may_follow=False)
            if not left or not isinstance(error.__cause__, LostRequestError):
                raise
            continue
        return connection, response, begun
    raise AssertionError("unreachable")


def _timeouts(request: Any) -> Mapping[str, float | None]:
    found: Mapping[str, float | None] = request.extensions.get("timeout") or {}
    return found


def _host_first(fields: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    return (
        fields
        if fields and fields[0][0].lower() == b"host"
        else sorted(fields, key=lambda one: one[0].lower() != b"host")
    )


async def _send(library: ModuleType, connection: Connection, head: bytes, body: bytes, seconds: float | None) -> None:
    """Send a request. A server that takes none of it any more may have answered already, so that is no error here."""
    try:
        connection.put(head + body)
        if not connection.takes_writes:
            await within(seconds, connection.drained())
    except TimeoutError as error:  # which is an `OSError`, too
        raise library.WriteTimeout(str(error)) from error
    except OSError:
        pass


async def _head_of(library: ModuleType, connection: Connection, response: Response, seconds: float | None) -> bytes:
    """Read the head of a response; return what came of its body with it."""
    begun = b""
    while response.head is None:
        begun = await _received(library, connection, response, seconds)
    return begun


async def _received(library: ModuleType, connection: Connection, response: Response, seconds: float | None) -> bytes:
    """Return what comes next of the body of a response."""
    with mapped(library.ReadTimeout, library.ReadError):
        data = await within(seconds, connection.read(_READ_BYTES))
    try:
        if data:
            return response.feed(data)
        response.end()
    except BadResponseError as error:
        raise library.RemoteProtocolError(str(error)) from None
    return b""


def _body_class(library: ModuleType, connections: _Connections) -> Any:
    base: Any = library.AsyncByteStream

    class Body(base):  # type: ignore[misc]  # as above
        def __init__(self, connection: Connection, response: Response, begun: bytes, seconds: float | None) -> None:
            self._connection: Connection | None = connection
            self._response = response
            self._begun = begun
            self._seconds = seconds

        async def __aiter__(self) -> AsyncIterator[bytes]:
            piece, self._begun = self._begun, b""
            while True:
                if piece:
                    yield piece
                if self._response.is_whole or self._connection is None:
                    return
                piece = await _received(library, self._connection, self._response, self._seconds)

        async def aclose(self) -> None:
            connection, self._connection = self._connection, None
            if connection is not None:
                response = self._response
                await connections.give_back(connection, may_follow=response.is_whole and response.may_follow)

    return Body

"""The transport of a provider's HTTP client behind a proxy: the library's pool on a network backend of ours.

The library's own transport makes the same pool, but gives it no network backend. `AsyncBaseTransport` and the
parameters of the pools are interfaces that the libraries document for this.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Iterator, Sequence
from types import ModuleType
from typing import Any

from afkcli.providers.network_backend import make_network_backend
from afkcli.providers.network_connection import SocketOption


def pooled_transport(
    library: ModuleType, *, context: Any, limits: Any, socket_options: Sequence[SocketOption], proxy: Any
) -> Any:
    """Return a transport for HTTP/1.1 over pooled connections.

    Args:
        library: `httpx`, or a later version of it.
        context: the TLS context.
        limits: a `Limits` of the library.
        socket_options: set on each connection.
        proxy: a `Proxy` of the library.

    Since: 0.2.
    """
    core = importlib.import_module(library.__name__.replace("httpx", "httpcore"))
    pool = _pool(core, context, limits, make_network_backend(core, socket_options), proxy)
    base: Any = library.AsyncBaseTransport

    class Pooled(base):  # type: ignore[misc]  # a class that is known when it is made
        async def handle_async_request(self, request: Any) -> Any:
            url = request.url
            sent = core.Request(
                method=request.method,
                url=core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
            with mapped():
                response = await pool.handle_async_request(sent)
            return library.Response(
                response.status,
                headers=response.headers,
                stream=Body(response.stream),
                extensions=response.extensions,
            )

        async def aclose(self) -> None:
            await pool.aclose()

    stream_base: Any = library.AsyncByteStream

    class Body(stream_base):  # type: ignore[misc]  # as above
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            with mapped():
                async for piece in self._stream:
                    yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    @contextlib.contextmanager
    def mapped() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            ours = _as_of(library, error)
            if ours is None:
                raise
            raise ours from error

    return Pooled()


def _pool(core: ModuleType, context: Any, limits: Any, backend: Any, proxy: Any) -> Any:
    options: dict[str, Any] = {
        "ssl_context": context,
        "max_connections": limits.max_connections,
        "max_keepalive_connections": limits.max_keepalive_connections,
        "keepalive_expiry": limits.keepalive_expiry,
        "network_backend": backend,
    }
    url = proxy.url
    options["proxy_url"] = core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    options["proxy_auth"] = proxy.raw_auth
    if url.scheme.startswith("socks"):
        return core.AsyncSOCKSProxy(**options)
    if url.scheme == "https":
        options["proxy_ssl_context"] = proxy.ssl_context
    return core.AsyncHTTPProxy(**options, proxy_headers=proxy.headers.raw)


def _as_of(library: ModuleType, error: Exception) -> Exception | None:
    """Return the library's error for one of the pool, which has the same name; None for any other error."""
    for kind in type(error).__mro__:
        ours = getattr(library, kind.__name__, None)
        if kind.__module__.startswith("httpcore") and isinstance(ours, type) and issubclass(ours, library.HTTPError):
            made: Exception = ours(str(error))
            return made
    return None

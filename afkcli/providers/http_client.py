"""The HTTP client of a provider, made with the HTTP library that its SDK uses.

It is made here, and not by the SDK, because an SDK's own client reads proxies and certificates from the environment in
its own way, closes itself in a task when it is dropped (which fails after its event loop has ended), and loses the
status of an error whose body breaks off.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from types import ModuleType
from typing import Any

from afkcli.core.contract.errors import ConfigError
from afkcli.providers.bodies import BodyTooLongError, unread_encoding
from afkcli.providers.certificates import tls_context
from afkcli.providers.network import needs_certificates
from afkcli.providers.proxies import Proxy
from afkcli.providers.redirects import guarded_transport
from afkcli.providers.request_template import SENDER
from afkcli.providers.transport import pooled_transport

MAX_ERROR_BYTES = 64 * 1024
ERROR_BODY_SECONDS = 10.0
"""How long the body of an error is waited for: its status is there already."""

KEEPALIVE_SECONDS = 60


def make_http_client(library: ModuleType, url: str, timeout: Any, proxy: Proxy | None, *, transport: Any = None) -> Any:
    """Return an `AsyncClient` of `library` for the server at `url`, which keeps its connections for a few seconds.

    It sends by `transport` if there is one.

    Some servers (llama.cpp's) close theirs after an answer without announcing it; a request that is lost by that is
    sent anew (see `direct_transport`). Behind a proxy no connection to a plain server is kept.

    Raises:
        ConfigError: the environment names certificates, or a proxy, that are not usable.

    Since: 0.2.
    """
    transport = transport or _transport(library, url, proxy)
    return _client_class(library)(
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,  # they are followed by the transport
        headers={"accept-encoding": "identity"},
        transport=guarded_transport(library, transport),
    )


def _transport(library: ModuleType, url: str, proxy: Proxy | None) -> Any:
    context, options = _context(library, url, proxy), _keepalive()
    if proxy is None:
        # Not at the top: what asks no server needs no parser.
        from afkcli.providers.direct_transport import direct_transport

        return direct_transport(library, context=context, socket_options=options)
    limits = _limits(library, keeps_connections=url.startswith("https:"))
    named = _proxy(library, proxy)
    return pooled_transport(library, context=context, limits=limits, socket_options=options, proxy=named)


async def bounded_body(response: Any, size: int) -> bytes:
    """Return the body of a response.

    Raises:
        BodyTooLongError: it is longer than `size` bytes.

    Since: 0.2.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > size:
            raise BodyTooLongError(f"a body is longer than {size // 1024 // 1024} MB")
    return bytes(body)


def _client_class(library: ModuleType) -> Any:
    base: Any = library.AsyncClient

    class Client(base):  # type: ignore[misc]  # a class that is known when it is made
        """Reads the body of an error itself, as far as it comes: the status is what decides."""

        async def send(self, request: Any, **options: Any) -> Any:
            response = await super().send(request, **{**options, "follow_redirects": False})
            if response.is_success or response.is_closed:
                response.extensions[SENDER] = self.send
                return response
            headers = [
                (name, value)
                for name, value in response.headers.multi_items()
                if name not in ("content-length", "transfer-encoding", "content-encoding")
            ]
            body = await _error_body(library, response)
            if encoding := unread_encoding(response.headers):
                body = f"a body in the encoding {encoding!r}, which afk did not ask for".encode()
            return library.Response(response.status_code, headers=headers, content=body, request=request)

    return Client


async def _error_body(library: ModuleType, response: Any) -> bytes:
    """Return what comes of the body of an error in time, at most `MAX_ERROR_BYTES`."""
    body = bytearray()
    with contextlib.suppress(library.HTTPError, OSError, TimeoutError, BodyTooLongError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
    with contextlib.suppress(library.HTTPError, OSError):
        await response.aclose()
    return bytes(body[:MAX_ERROR_BYTES])


def _context(library: ModuleType, url: str, proxy: Proxy | None) -> ssl.SSLContext:
    """Return the TLS context; for a plain server an empty one: no redirect leads it to https.

    Loading the certificates takes about 20 ms.
    """
    return tls_context(library) if needs_certificates(url, proxy) else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _proxy(library: ModuleType, proxy: Proxy) -> Any:
    try:
        return library.Proxy(url=proxy.url)
    except (ValueError, library.InvalidURL) as error:
        raise ConfigError(f"{proxy.variable} is not the URL of a proxy: {error}; correct it") from None


def _limits(library: ModuleType, *, keeps_connections: bool) -> Any:
    return library.Limits(max_connections=1000, max_keepalive_connections=100 if keeps_connections else 0)


def _keepalive() -> list[tuple[int, int, int]]:
    """Return socket options by which a connection survives the minutes for which a model may think."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    names = (name for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL") if hasattr(socket, name))
    return [*options, *((socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_SECONDS) for name in names)]

"""The messages of a server of streamable HTTP, by the SDK's own transport with a client that bounds what comes in.

A redirect is followed only within the server's origin, so the headers go nowhere else. The SDK would also follow one
from http to https; it is given an error instead.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from afk_tools_mcp.bodies import bounded_body
from afk_tools_mcp.guard import MAX_MESSAGE_BYTES, Guard, GuardedReader, GuardedWriter
from afk_tools_mcp.settings import ServerSettings
from afkcli.providers.failures import RedirectRefusedError
from afkcli.providers.redirects import next_request

if TYPE_CHECKING:
    from httpx2 import AsyncByteStream, Response
    from mcp.client._transport import TransportStreams

CONNECT_SECONDS = 10.0

SSE_SECONDS = 2.0
SSE_BYTES = 1024
"""How long, and how far, a server's event stream is read to tell which transport it is."""


@dataclass
class Status:
    """How the server answered the last request: an error in words, because the SDK does not tell.

    `gone` is 404, `wants_key` 401 or 403, `redirect` a redirect that is not followed.
    """

    said: str = ""
    gone: bool = False
    wants_key: bool = False
    redirect: RedirectRefusedError | None = None


@asynccontextmanager
async def http_streams(settings: ServerSettings, guard: Guard, status: Status) -> AsyncIterator[TransportStreams]:
    """Yield the SDK's streams of the messages of an HTTP server; `status` gets the HTTP status of a refused request."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def check(response: Response) -> None:
        if response.request.method == "POST":
            failed = response.status_code >= 400
            status.said = f"HTTP {response.status_code} {response.reason_phrase}".strip() if failed else ""
            status.gone = response.status_code == 404
            status.wants_key = response.status_code in (401, 403)
        refused = _refused_redirect(response)
        if response.request.method == "POST":
            status.redirect = refused
        # Bodies of other statuses are read whole, or not at all.
        kind = response.headers.get("content-type", "").lower()
        streamed = response.status_code == 200 and kind.startswith("text/event-stream")
        packed = response.headers.get("content-encoding", "identity").lower()
        body = cast("AsyncByteStream", response.stream)
        # The stream of a GET is for what the server says unasked, now and then.
        idle = None if response.request.method == "GET" else settings.idle_limit(is_stream=streamed)
        response.stream = bounded_body(body, is_stream=streamed, packed=packed, idle=idle)

    # For reading there are the limits of the start, of the calls, and of the time without progress.
    timeout = httpx2.Timeout(CONNECT_SECONDS, read=None)
    headers = {"accept-encoding": "identity", **settings.request_headers()}  # what is bounded is what is unpacked
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"response": [check]}) as client,
        streamable_http_client(settings.url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams,
    ):
        yield GuardedReader(streams[0], guard), GuardedWriter(streams[1], guard)


async def is_sse_server(settings: ServerSettings) -> bool:
    """Return whether an address is one of the transport before streamable HTTP, whose GET begins with `endpoint`."""
    import httpx2

    headers = {**settings.request_headers(), "accept": "text/event-stream", "accept-encoding": "identity"}
    begun = b""
    try:
        async with (
            asyncio.timeout(SSE_SECONDS),
            httpx2.AsyncClient(headers=headers, timeout=CONNECT_SECONDS) as client,
            client.stream("GET", settings.url) as response,
        ):
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                return False
            async for chunk in response.aiter_raw(1024):
                begun += chunk
                if b"\n" in begun or len(begun) > SSE_BYTES:
                    break
    except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, OSError):
        return False
    return re.match(rb"event: ?endpoint\r?\n", begun) is not None


def _refused_redirect(response: Response) -> RedirectRefusedError | None:
    """Return why a redirect is not followed, None where it is or there is none; the SDK gets an error instead."""
    import httpx2

    if not response.has_redirect_location:
        return None
    try:
        next_request(httpx2, response.request, response.status_code, response.headers["location"])
    except RedirectRefusedError as error:
        del response.headers["location"]
        response.status_code = 400
        return error
    return None

"""The head of a request that an SDK has made, for the next one to the same place: only the body is another.

An SDK makes each request anew from its options, headers, platform and settings. That takes a third of all the work of a
short turn, and its result is the same for each call of a provider whose key does not change, but for the body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

SENDER = "afk.send"
"""The extension of a response that has the `send` of the client that it came by."""


class RequestTemplate:
    """What is the same for all requests to one address with the same options.

    Args:
        library: the HTTP library.
        request: one that the SDK made, as it was sent.
        send: sends a request by the client of the first.

    Since: 0.2.
    """

    def __init__(self, library: ModuleType, request: Any, send: Callable[..., Awaitable[Any]]) -> None:
        self._library = library
        self._method = request.method
        self._url = request.url
        self._headers = [field for field in request.headers.raw if field[0].lower() != b"content-length"]
        self._extensions = request.extensions
        self._send = send

    async def send(self, body: bytes) -> Any:
        """Send a request with `body`; return the response, its body unread unless it is that of an error."""
        request = self._library.Request(
            self._method, self._url, headers=self._headers, content=body, extensions=self._extensions
        )
        return await self._send(request, stream=True)


def template_of(library: ModuleType, response: Any) -> RequestTemplate | None:
    """Return the template of the request that was answered with `response`, None where each has a head of its own.

    A key for idempotency belongs to one request (draft-ietf-httpapi-idempotency-key-header).

    Since: 0.2.
    """
    send = response.extensions.get(SENDER)
    if send is None or any("idempotency" in name for name in response.request.headers):
        return None
    return RequestTemplate(library, response.request, send)

"""The request that would be sent, taken from below an HTTP client, in the place of a network."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from afkcli.core.contract.protocols import SentRequest

_ANSWER = b"data: [DONE]\n\n"


class RequestKeeper:
    """Keeps the last request that was sent by its `transport`, and answers it with an empty stream of events.

    Args:
        library: the HTTP library of the client, `httpx` or `httpx2`.

    Since: 0.2.
    """

    def __init__(self, library: ModuleType) -> None:
        self._request: Any = None
        keeper = self
        base: Any = library.AsyncBaseTransport

        class Keeping(base):  # type: ignore[misc]  # a class that is known when it is made
            async def handle_async_request(self, request: Any) -> Any:
                await request.aread()
                keeper._request = request
                headers = {"content-type": "text/event-stream"}
                return library.Response(200, headers=headers, content=_ANSWER, request=request)

        self.transport: Any = Keeping()

    def sent(self) -> SentRequest | None:
        """Return the request; None if there was none."""
        request = self._request
        if request is None:
            return None
        return SentRequest(
            method=request.method,
            url=str(request.url),
            headers=dict(request.headers),
            body=request.content.decode("utf-8", "replace"),
        )

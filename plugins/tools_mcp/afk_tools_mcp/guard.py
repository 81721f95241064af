"""The guard between a server and the SDK: a server that floods is cut off before it is stored.

The SDK answers every request of a server and starts a task for each message, however many there are. So nothing but
answers and requests gets through to it, and only so many.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCMessage

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Of one message of a server; eighty times what the model is given of a result."""

MAX_VALUES = 500_000
"""How many objects, arrays and texts one message may have: an empty object takes 64 bytes, and two in the JSON."""

ALLOWANCE = 20_000.0
ALLOWANCE_PER_SECOND = 2_000.0
"""Unrequested messages, and kilobytes of them: the limit at once, and the limit for each second."""

REQUEST_BYTES = 20 * 1024
"""What a request of a server counts, beside its size: answering it is that much more work than dropping a message."""

MAX_OPEN_REQUESTS = 32
"""Requests of a server that wait for it to read their answers."""

LIST_CHANGED = "notifications/tools/list_changed"


class Weight:
    """Counts the values of one message as its bytes come in, before they are made."""

    def __init__(self) -> None:
        self._values = 0

    def add(self, data: bytes, *, is_stream: bool = False) -> bool:
        """Count some bytes, and return whether they are few enough; in a stream an empty line ends a message."""
        if is_stream and b"\n\n" in data.replace(b"\r", b""):
            self._values = 0
        texts = (data.count(b'"') - data.count(b'\\"')) // 2
        self._values += data.count(b"[") + data.count(b"{") + texts
        return self._values <= MAX_VALUES


class FloodError(Exception):
    """A server sends more than is taken from it; the message says what."""


class Guard:
    """Counts what a server sends without being asked, and what it does not read."""

    def __init__(self) -> None:
        self.list_changed = False
        self._allowance = ALLOWANCE
        self._at = time.monotonic()
        self._open: set[str | int] = set()

    def spend(self, size: int) -> None:
        """Count one message, or a part of one, of `size` bytes that was not requested; `FloodError` for too many."""
        now = time.monotonic()
        self._allowance = min(ALLOWANCE, self._allowance + (now - self._at) * ALLOWANCE_PER_SECOND)
        self._at = now
        self._allowance -= 1 + size / 1024
        if self._allowance < 0:
            raise FloodError("it sends more messages than afk takes")

    def passes(self, message: JSONRPCMessage, size: int = 0) -> bool:
        """Whether the SDK gets a message of `size` bytes; `FloodError` for one too many.

        Notifications end here: nothing is made of them, but of the one that tells that the list of tools has changed.
        """
        method = getattr(message, "method", None)
        if method is None:
            return True
        request = getattr(message, "id", None)
        if request is None:
            self.spend(size)
            self.list_changed = self.list_changed or method == LIST_CHANGED
            return False
        self.spend(size + REQUEST_BYTES)
        self._open.add(request)
        if len(self._open) > MAX_OPEN_REQUESTS:
            raise FloodError("it sends requests and does not read the answers")
        return True

    def answered(self, message: JSONRPCMessage) -> None:
        """Count a message that went to the server."""
        request = getattr(message, "id", None)
        if request is not None and not hasattr(message, "method"):
            self._open.discard(request)


class GuardedReader:
    """The SDK's side of the stream of what a server sends."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], guard: Guard) -> None:
        self._stream, self._guard = stream, guard

    async def receive(self) -> SessionMessage | Exception:
        while True:
            item = await self._stream.receive()
            if isinstance(item, Exception) or self._guard.passes(item.message):
                return item

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        import anyio

        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class GuardedWriter:
    """The SDK's side of the stream of what goes to a server."""

    def __init__(self, stream: WriteStream[SessionMessage], guard: Guard) -> None:
        self._stream, self._guard = stream, guard

    async def send(self, item: SessionMessage, /) -> None:
        await self._stream.send(item)
        self._guard.answered(item.message)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

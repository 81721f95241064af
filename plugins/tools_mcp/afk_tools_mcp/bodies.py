"""The bodies of an HTTP server's answers: bounded in size, in values, and in the time without progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from afk_tools_mcp.guard import MAX_MESSAGE_BYTES, MAX_VALUES, Weight
from afkcli.plugin import JsonError, loads_object
from afkcli.providers.sse import EventParser, EventTooLongError

if TYPE_CHECKING:
    from httpx2 import AsyncByteStream

PAUSE_BYTES = 256 * 1024
PAUSE_SECONDS = 0.005
"""A stream without end is read at no more than 50 MB a second, so that it leaves room for the rest of the run."""

_PING_BYTES = 200


class Patience:
    """How long a server may still take until the next piece of an answer that has begun.

    Progress is a piece of JSON, or a message in an event stream. No progress is what only keeps the connection alive:
    comments, blanks, empty events, bytes of an event that does not end, pings, and the same message again. The time
    runs from the first progress on: before that the limit of the call is the only one, because a tool may work in
    silence.

    Args:
        seconds: the limit; None for none.
        is_stream: whether the answer is an event stream.
    """

    def __init__(self, seconds: float | None, *, is_stream: bool) -> None:
        self._seconds = seconds
        self._parser = EventParser() if is_stream else None
        self._last = ""
        self._since: float | None = None

    def took(self, chunk: bytes) -> None:
        """Take what came next."""
        if self._seconds is not None and self._is_progress(chunk):
            self._since = asyncio.get_running_loop().time()

    @property
    def until(self) -> float | None:
        """When it ends, on the clock of the running event loop; None for never."""
        return None if self._seconds is None or self._since is None else self._since + self._seconds

    def _is_progress(self, chunk: bytes) -> bool:
        if self._parser is None:
            return bool(chunk.strip())
        try:
            events = self._parser.feed(chunk)
        except EventTooLongError:  # the SDK refuses it, too
            return False
        new = [data for data in events if data.strip() and data != self._last and not _is_ping(data)]
        self._last = new[-1] if new else self._last
        return bool(new)


def _is_ping(data: str) -> bool:
    if len(data) > _PING_BYTES or '"ping"' not in data:
        return False
    try:
        return loads_object(data).get("method") == "ping"
    except JsonError:
        return False


def bounded_body(stream: AsyncByteStream, *, is_stream: bool, packed: str, idle: float | None) -> AsyncByteStream:
    """Return the body of an answer: of a bounded length, or, of an event stream, read at a bounded speed.

    A packed one that was not asked for is refused: a few bytes of it can become any number.

    Args:
        stream: the body.
        is_stream: whether it is an event stream.
        packed: its encoding.
        idle: how long it may take without progress, in seconds; None for no limit.
    """
    import httpx2

    failed = httpx2.SSEError if is_stream else httpx2.StreamError  # what the SDK takes for the end of this answer alone

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                if packed != "identity":
                    raise _BadBodyError(f"that is packed by {packed[:20]}, which afk does not take")
                async for chunk in _sized(_timed(stream, idle, is_stream), is_stream):
                    yield chunk
            except _BadBodyError as error:
                raise failed(f"an answer {error}") from None

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


class _BadBodyError(Exception):
    """A body is not read any further; the message says why, behind "an answer"."""


async def _timed(stream: AsyncByteStream, idle: float | None, is_stream: bool) -> AsyncIterator[bytes]:
    patience = Patience(idle, is_stream=is_stream)
    source = aiter(stream)
    while True:
        try:
            async with asyncio.timeout_at(patience.until):
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _BadBodyError(f"that stalled for {idle:g} s") from None
        patience.took(chunk)
        yield chunk


async def _sized(chunks: AsyncIterator[bytes], is_stream: bool) -> AsyncIterator[bytes]:
    size = pause = 0
    weight = Weight()
    async for chunk in chunks:
        if not weight.add(chunk, is_stream=is_stream):
            raise _BadBodyError(f"of more than {MAX_VALUES} values")
        size += len(chunk)
        pause += len(chunk)
        if not is_stream and size > MAX_MESSAGE_BYTES:
            raise _BadBodyError(f"of more than {MAX_MESSAGE_BYTES // 1024 // 1024} MB")
        if is_stream and pause >= PAUSE_BYTES:
            pause = 0
            await asyncio.sleep(PAUSE_SECONDS)
        yield chunk

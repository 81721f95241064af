"""The bodies of responses: decoded here in small pieces, so that their size is known before it is in memory.

The HTTP libraries decode what arrived in one go: a gzip of a few megabytes, or one in another, becomes gigabytes. So no
library decodes anything here. Nothing is asked for but `identity`. Servers and gateways that pack an answer all the
same are read as far as Python's own zlib goes, in pieces of `PIECE_BYTES`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from afkcli.core.contract.jsonform import MAX_LINE_BYTES

MAX_STREAM_BYTES = 1024 * 1024 * 1024
"""Of a stream of events. An answer of a million tokens has about 300 MB in the form of Chat Completions."""

MAX_LINES_BYTES = 16 * 1024 * 1024 * 1024
"""Of a file that is read line by line and not kept: the answers of 100,000 requests."""

MAX_BODY_BYTES = MAX_LINE_BYTES
"""Of any other body."""

PIECE_BYTES = 64 * 1024
REST_BYTES = 1024 * 1024
"""After how many decoded bytes the event loop gets its turn."""

MAX_LAYERS = 2
EVENT_STREAM = "text/event-stream"
FILE = "application/binary"
"""What a request accepts whose answer is a file of lines, as the SDKs have it."""

_ZLIB_HEADER = 2  # bytes, which tell zlib's form from raw deflate
_IDENTITY = ("", "identity")
_ZLIB = ("gzip", "x-gzip", "deflate")


class BodyTooLongError(ValueError):
    """A body is longer than what is taken of it."""


def unread_encoding(headers: Mapping[str, str]) -> str:
    """Return the encoding of a body that is not read, "" where it is read.

    Since: 0.2.
    """
    names = _layers(headers)
    unknown = next((name for name in names if name not in _ZLIB), "")
    return unknown or (", ".join(names) if len(names) > MAX_LAYERS else "")


def bound(library: ModuleType, response: Any, accepts: str = "") -> Any:
    """Return a response whose body is decoded piece by piece and has a longest length; `accepts` is what was asked for.

    A body in an encoding that is not read raises the library's `DecodingError` at its first byte, before the library
    decodes any of it.
    """
    layers = _layers(response.headers)
    is_unread = bool(layers) and bool(unread_encoding(response.headers))
    if layers and not is_unread:
        del response.headers["content-encoding"]
        response.headers.pop("content-length", None)
    is_stream = response.headers.get("content-type", "").lower().startswith(EVENT_STREAM)
    limit = MAX_LINES_BYTES if accepts == FILE else MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES
    response.stream = _bound_class(library)(response.stream, None if is_unread else Decoder(layers, limit))
    return response


@cache
def _bound_class(library: Any) -> Any:
    base: Any = library.AsyncByteStream

    class Bound(base):  # type: ignore[misc]  # a class that is known when it is made
        def __init__(self, source: Any, decoder: Decoder | None) -> None:
            self._source = source
            self._decoder = decoder  # None: it is in an encoding that is not read

        async def __aiter__(self) -> AsyncIterator[bytes]:
            decoder, since_rest = self._decoder, 0
            if decoder is None:
                raise library.DecodingError("an encoding that is not read")
            try:
                async for chunk in self._source:
                    for piece in decoder.feed(chunk):
                        yield piece
                        since_rest += len(piece)
                        if decoder.unpacks and since_rest > REST_BYTES:
                            since_rest = 0
                            await asyncio.sleep(0)
            except zlib.error as error:
                raise library.DecodingError(str(error)) from error

        async def aclose(self) -> None:
            await self._source.aclose()

    return Bound


class Decoder:
    """Takes a body as it arrives and gives its pieces; `layers` are its encodings in the order of their making."""

    def __init__(self, layers: list[str], limit: int) -> None:
        self._layers = [_Layer(name) for name in reversed(layers)]
        self._sizes = [0] * (len(layers) + 1)
        self._limit = limit

    @property
    def unpacks(self) -> bool:
        """Whether pieces can be much larger than what they are made of."""
        return bool(self._layers)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the pieces that a chunk makes.

        Raises:
            BodyTooLongError: the body is longer than the limit, in one of its layers.
            zlib.error: it is damaged.
        """
        yield from self._pass(0, chunk)

    def _pass(self, number: int, data: bytes) -> Iterator[bytes]:
        self._sizes[number] += len(data)
        if self._sizes[number] > self._limit:
            raise BodyTooLongError(f"a body is longer than {self._limit // 1024 // 1024} MB")
        if number == len(self._layers):
            yield data
            return
        for piece in self._layers[number].feed(data):
            yield from self._pass(number + 1, piece)


class _Layer:
    """One encoding. `deflate` is zlib's form by the standard, and raw deflate from some servers."""

    def __init__(self, name: str) -> None:
        self._is_deflate = name == "deflate"
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS if self._is_deflate else zlib.MAX_WBITS | 16)
        self._head: bytes | None = b""
        """What came until it is known which form of deflate it is; None afterwards."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not (self._inflate.eof and self._is_deflate):
            if self._inflate.eof:  # a gzip body may have several members
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield from self._inflated(data)
            data = self._inflate.unused_data

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                if not self._is_deflate or self._head is None:
                    raise
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
                piece = self._inflate.decompress(self._head + data, PIECE_BYTES)
            if self._head is not None:
                self._head = self._head + data if len(self._head + data) < _ZLIB_HEADER else None
            data = self._inflate.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < PIECE_BYTES:
                return


def _layers(headers: Mapping[str, str]) -> list[str]:
    names = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    return [name for name in names if name not in _IDENTITY]

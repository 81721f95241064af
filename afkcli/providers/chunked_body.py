"""Chunks of a response's body that arrived together, made one chunk.

A model server sends each event in a chunk of its own (RFC 9112, section 7.1). The HTTP libraries pass every chunk
through all of their layers by itself, which takes longer than reading what is in it. So the chunks are joined where
the bytes come in: what one read of the socket brought becomes one chunk. What is not a chunked body passes as it is,
and so does all that is not understood here: the library judges it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

FRAME_BYTES = 32
"""How much longer than what was fed in the joined chunk can be, at most."""

_MAX_HEAD = 128 * 1024
_MAX_FRAME = 8 * 1024
"""Of the line before a chunk; what is longer is left to the library."""

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[ \t]*chunked[ \t]*\r?\n", re.IGNORECASE)
_FIRST_FRAME = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\r\n]*|[ \t]*)\r\n")
_NEXT_FRAME = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})(?:;[^\r\n]*|[ \t]*)\r\n")


class ChunkJoiner:
    """Takes the bytes of one connection as they arrive, and gives the same responses with fewer chunks.

    Since: 0.2.
    """

    def __init__(self) -> None:
        self._take: Callable[[bytes], bytes] = self._of_head
        self._held = b""
        self._left = 0
        self._frame = _FIRST_FRAME

    def begin(self) -> None:
        """Expect the head of a response next: a request was written."""
        self._take, self._held = self._of_head, b""

    def feed(self, data: bytes) -> bytes:
        """Return what to pass on for bytes that arrived; empty where these were only a part of what frames a chunk."""
        return self._take(data)

    def rest(self) -> bytes:
        """Return what was held back, when nothing more comes."""
        rest, self._held = (self._held if self._take == self._of_body else b""), b""
        return rest.removeprefix(b"\r\n") if self._frame is _NEXT_FRAME else rest

    def _as_it_is(self, data: bytes) -> bytes:
        return data

    def _of_head(self, data: bytes) -> bytes:
        held, self._held = self._held, b""
        head, start = held + data, 0
        searched = max(0, len(held) - 2)
        while (end := _HEAD_END.search(head, searched)) is not None:
            status = _STATUS.match(head, start)
            code = int(status[1]) if status is not None else 0
            if not 100 <= code < 200 or code == 101:
                return self._after_head(data, end.end() - len(held), code, _CHUNKED.search(head, start, end.end()))
            start = searched = end.end()  # the head of the response itself follows
        if len(head) - start > _MAX_HEAD:
            self._take = self._as_it_is
        else:
            self._held = head[start:]
        return data

    def _after_head(self, data: bytes, length: int, code: int, chunked: re.Match[bytes] | None) -> bytes:
        """Take what follows the head of a response, which is `length` bytes of `data`."""
        if chunked is None or code in (0, 101, 204, 304):
            self._take = self._as_it_is
            return data
        self._take, self._frame, self._left = self._of_body, _FIRST_FRAME, 0
        return data[:length] + self._of_body(data[length:])

    def _of_body(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, left, frame, end = 0, self._left, self._frame, len(data)
        tail = b""
        while at < end:
            if left:
                piece = data[at : at + left]
                pieces.append(piece)
                at += len(piece)
                left -= len(piece)
                continue
            found = frame.match(data, at)
            if found is None:
                tail = self._unframed(data[at:], frame)
                break
            left = int(found[1], 16)
            if not left:
                self._take = self._as_it_is
                tail = data[found.start(1) :]
                break
            at, frame = found.end(), _NEXT_FRAME
        self._left, self._frame = left, frame
        body = b"".join(pieces)
        return b"%x\r\n%b\r\n%b" % (len(body), body, tail) if body else tail

    def _unframed(self, data: bytes, frame: re.Pattern[bytes]) -> bytes:
        """Hold back the beginning of what frames a chunk; return what cannot become it, for the library to judge."""
        line = data.removeprefix(b"\r\n") if frame is _NEXT_FRAME else data  # it was sent already
        if b"\n" not in line and len(line) <= _MAX_FRAME:
            self._held = data
            return b""
        self._take = self._as_it_is
        return line

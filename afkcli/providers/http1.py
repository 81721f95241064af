"""HTTP/1.1 as a client speaks it (RFC 9112): the head of a request, and one response as its bytes arrive.

The HTTP libraries have parsers of their own, which take an object for each chunk and pass it through several layers: a
short answer cost more there than everything that is done with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

MAX_HEAD_BYTES = 100 * 1024
"""Of the head of a response, and of the trailers behind a body in chunks."""

_MAX_FRAME = 8 * 1024
"""Of the line before a chunk."""

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS = re.compile(rb"HTTP/(1\.[01]) ([0-9]{3})(?: (.*))?", re.DOTALL)
_FIELD = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[^\x00\s](?:[^\x00\r\n\x0b\x0c]*[^\x00\s])?)?")
_FIRST_FRAME = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\r\n]*|[ \t]*)\r\n")
_NEXT_FRAME = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})(?:;[^\r\n]*|[ \t]*)\r\n")
_WITHOUT_BODY = (204, 304)

Fields = Sequence[tuple[bytes, bytes]]


class BadRequestError(ValueError):
    """A request cannot be written."""


class BadResponseError(ValueError):
    """Bytes that are no response, or one that ended too early."""


def request_head(method: str, target: bytes, fields: Fields) -> bytes:
    """Return the head of a request; `BadRequestError` for a header that cannot be sent. Since: 0.2."""
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target)]
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequestError(f"the header {name.decode('ascii', 'replace')!r} has characters that cannot be sent")
        lines.append(b"%b: %b" % (name, value))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


class Head(NamedTuple):
    """The head of a response."""

    version: bytes
    status: int
    reason: bytes
    fields: Fields

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field, in lower case, those of a list one by one."""
        found = (value for field, value in self.fields if field.lower() == name)
        return [item.strip().lower() for value in found for item in value.split(b",")]


class Response:
    """One response: `head` once it is there, `is_whole` when nothing more belongs to it.

    `may_follow` says whether the connection can serve another request afterwards.

    Since: 0.2.
    """

    def __init__(self, method: str) -> None:
        self.head: Head | None = None
        self.is_whole = False
        self.may_follow = False
        self._has_body = method != "HEAD"
        self._held = b""
        self._left = 0
        self._frame = _FIRST_FRAME
        self._take: Callable[[bytes], bytes] = self._of_head

    def feed(self, data: bytes) -> bytes:
        """Take bytes that arrived, and return what they have of the body.

        Raises:
            BadResponseError: they are no response.
        """
        return self._take(data)

    def end(self) -> None:
        """Take the end of the connection; `BadResponseError` if the response is not whole then."""
        self.may_follow = False
        if self.head is None:
            raise BadResponseError("the server closed the connection without a response")
        if not self.is_whole and self._take != self._until_end:
            raise BadResponseError("the server closed the connection before the end of the body")
        self.is_whole = True

    def _of_head(self, data: bytes) -> bytes:
        data = self._held + data
        while (end := _HEAD_END.search(data)) is not None:
            head, data = _head(data[: end.start()]), data[end.end() :]
            if not 100 <= head.status < 200 or head.status == 101:
                self.head, self._held = head, b""
                self._begin_body(head)
                return self._take(data)
        if len(data) > MAX_HEAD_BYTES:
            raise BadResponseError("the head of the response is too long")
        self._held = data
        return b""

    def _begin_body(self, head: Head) -> None:
        """Find out how the body ends (RFC 9112, section 6.3)."""
        self.may_follow = head.version == b"1.1" and b"close" not in head.values(b"connection")
        coding, lengths = head.values(b"transfer-encoding"), set(head.values(b"content-length"))
        if not self._has_body or head.status in _WITHOUT_BODY or head.status == 101:
            self._end_of_body(b"")
        elif coding:
            if coding != [b"chunked"]:
                raise BadResponseError("the body has a transfer encoding that was not asked for")
            self._take = self._in_chunks
        elif lengths:
            [length] = lengths if len(lengths) == 1 else [b""]
            if not length.isdigit() or len(length) > 20:
                raise BadResponseError("the length of the body is not a number")
            self._left, self._take = int(length), self._of_length
            if not self._left:
                self._end_of_body(b"")
        else:
            self.may_follow, self._take = False, self._until_end

    def _until_end(self, data: bytes) -> bytes:
        return data

    def _of_length(self, data: bytes) -> bytes:
        body, rest = data[: self._left], data[self._left :]
        self._left -= len(body)
        if not self._left:
            self._end_of_body(rest)
        return body

    def _in_chunks(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            found = self._frame.match(data, at)
            if found is None:
                self._hold(data[at:])
                break
            self._left, self._frame, at = int(found[1], 16), _NEXT_FRAME, found.end()
            if not self._left:
                self._take = self._of_trailers
                self._of_trailers(data[at:])
                break
        return b"".join(pieces)

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of what frames a chunk."""
        line = data.removeprefix(b"\r\n") if self._frame is _NEXT_FRAME else data
        if b"\n" in line or len(line) > _MAX_FRAME:
            raise BadResponseError("the body is not in chunks as it should be")
        self._held = data

    def _of_trailers(self, data: bytes) -> bytes:
        data = b"\n" + self._held + data  # a blank line ends them, also where there are none
        end = _HEAD_END.search(data)
        if end is not None:
            self._end_of_body(data[end.end() :])
        elif len(data) > MAX_HEAD_BYTES:
            raise BadResponseError("what follows the body is too long")
        else:
            self._held = data[1:]
        return b""

    def _end_of_body(self, rest: bytes) -> None:
        self.is_whole, self._held, self._take = True, b"", self._behind
        self._behind(rest)

    def _behind(self, data: bytes) -> bytes:
        """Take what no request was made for: the connection is of no more use."""
        self.may_follow = self.may_follow and not data
        return b""


def _head(data: bytes) -> Head:
    first, *lines = data.split(b"\n")
    status = _STATUS.fullmatch(first.removesuffix(b"\r"))
    if status is None:
        raise BadResponseError("what the server sent is no response of HTTP/1.1")
    return Head(status[1], int(status[2]), status[3] or b"", _fields(lines))


def _fields(lines: Iterable[bytes]) -> Fields:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        line = line.removesuffix(b"\r")
        if line[:1] in (b" ", b"\t") and fields:  # an old way to continue a line
            name, value = fields.pop()
            line = b"%b: %b %b" % (name, value, line.strip())
        found = _FIELD.fullmatch(line)
        if found is None:
            raise BadResponseError("the response has a header that cannot be read")
        fields.append((found[1], found[2]))
    return fields

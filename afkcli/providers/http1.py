"""HTTP/1.1 as a client speaks it (RFC 9112): the head of a request, and one response as its bytes arrive.

Responses are parsed by `httptools`, which is llhttp, the parser of Node.js. The HTTP libraries have a parser in Python,
which makes an object of each chunk: for a short answer that cost more than everything that is done with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_FRAMING_BYTES = 100 * 1024
"""How much may come that is not of the body before the next piece of it does: a head, lines before chunks, trailers."""

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[^\x00\s](?:[^\x00\r\n\x0b\x0c]*[^\x00\s])?)?")
_SWITCHES = 101
_WITHOUT_BODY = (_SWITCHES, 204, 304)

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
        self._ends_with_connection = False
        self._reason = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._framing = 0
        self._refused_for = ""
        self.on_body = self._pieces.append
        self._parser: Any = HttpResponseParser(self)
        # What servers send and h11 takes, too. Both a length and chunks: the chunks count.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,  # lines that go on, and control characters
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    def feed(self, data: bytes) -> bytes:
        """Take bytes that arrived, and return what they have of the body.

        Raises:
            BadResponseError: they are no response.
        """
        if self.is_whole:
            self.may_follow = False  # no request was made for them
            return b""
        self._parse(data)
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._framing = 0 if body else self._framing + len(data)
        if self._framing > MAX_FRAMING_BYTES and not self.is_whole:
            raise BadResponseError("the head of the response, or what frames its body, is too long")
        return body

    def end(self) -> None:
        """Take the end of the connection; `BadResponseError` if the response is not whole then."""
        self.may_follow = False
        if self.head is None:
            raise BadResponseError("the server closed the connection without a response")
        if not self.is_whole and not self._ends_with_connection:
            raise BadResponseError("the server closed the connection before the end of the body")
        self.is_whole = True

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.may_follow = False
            if not self.is_whole:
                raise BadResponseError(f"not a response of HTTP/1.1: {self._refused_for or error}") from None
        if self.is_whole:
            self._parser = None  # which has references to the methods below

    def _refuse(self, reason: str) -> NoReturn:
        """Stop the parser, in what it calls."""
        self._refused_for = reason
        raise BadResponseError(reason)

    # -- what the parser calls -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_whole:
            self._refuse("more than one response")
        self._reason, self._fields = b"", []  # what came was informational

    def on_status(self, part: bytes) -> None:
        self._reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if name[-1:] in b" \t" or b"\0" in value:
            self._refuse("a header that cannot be read")
        if self.head is None:  # otherwise it is a trailer
            self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(f"version {version}")
        if 100 <= status < 200 and status != _SWITCHES:
            return
        self.head = Head(version.encode("ascii"), status, self._reason, self._fields)
        if not self._has_body:
            self.is_whole = True
            self._refuse("what follows is no body")
        if status not in _WITHOUT_BODY:
            self._check_body(self._fields)

    def on_message_complete(self) -> None:
        if self.head is None:  # it is informational: how many of them may come is a matter of time
            self._framing = 0
        else:
            self.is_whole, self.may_follow = True, self._parser.should_keep_alive()

    def _check_body(self, fields: Fields) -> None:
        """Find out whether the body ends with the connection (RFC 9112, section 6.3), and refuse other encodings.

        The parser knows, but does not tell. Without `chunked` it would read a body until the end of the connection.
        """
        codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
        if codings and codings != [b"chunked"]:
            self._refuse("the body has a transfer encoding that was not asked for")
        self._ends_with_connection = not codings and all(name.lower() != b"content-length" for name, _ in fields)

"""Responses of HTTP/1.1, however they arrive: the head, where the body ends, and whether the connection can be kept."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.providers.http1 import MAX_FRAMING_BYTES, BadRequestError, BadResponseError, Response, request_head

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, *, cuts: tuple[int, ...] = (), method: str = "POST") -> tuple[Response, bytes]:
    """Return the response that bytes become which arrive in pieces, and its body; then the connection ends."""
    response, body, start = Response(method), b"", 0
    for cut in (*sorted(cuts), len(data)):
        if data[start:cut]:
            body += response.feed(data[start:cut])
        start = max(start, cut)
    if not response.is_whole:
        response.end()
    return response, body


def by_library(data: bytes, method: str = "POST") -> tuple[int, bytes]:
    """Return the status and the body that the library's parser finds in the same bytes."""
    peer = h11.Connection(our_role=h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("host", "x"), ("content-length", "0")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    peer.receive_data(b"")
    status, body = 0, b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, body


CHUNKS = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\n\r\n"
WHOLE = {
    "of a length": OK + b"content-length: 5\r\n\r\nhello",
    "of length 0": OK + b"Content-Length: 0\r\n\r\n",
    "in chunks": OK + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "in chunks, in capitals": OK + b"Transfer-Encoding:   Chunked  \r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "in chunks and of a length": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "with trailers": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\nc: d\r\n\r\n",
    "until the end": OK + b"content-type: text/plain\r\n\r\nhello\r\n\r\nworld",
    "of an older version": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "behind an early hint": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    + OK
    + b"content-length: 5\r\n\r\nhello",
    "without a reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi",
    "with an empty reason": b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nhi",
    "without content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "with a line that goes on": OK + b"x: a\r\n  b\r\ncontent-length: 2\r\n\r\nhi",
    "with lines that end in a line feed alone": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi",
    "of an error": b"HTTP/1.1 500 Oh, No\r\ncontent-length: 2\r\n\r\nhi",
    "in chunks with spaces": OK + b"transfer-encoding: chunked\r\n\r\n5  \r\nhello\r\n0 \r\n\r\n",
    "in chunks with zeros": OK + b"transfer-encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n",
    "of a length and in chunks": OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n" + CHUNKS,
    "in chunks behind an empty field": OK + b"transfer-encoding: chunked\r\nx:\r\n\r\n" + CHUNKS,
    "with an empty trailer": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na:\r\n\r\n",
    "with a length on a line that goes on": OK + b"content-length:\r\n 2\r\n\r\nhi",
    "with a control character": OK + b"x: a\x01b\r\ncontent-length: 2\r\n\r\nhi",
    "with bytes that are not ASCII": b"HTTP/1.1 200 \xe9\r\nx: \xe9\xff\r\ncontent-length: 2\r\n\r\nhi",
    "not changed, of a length": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "without content, in chunks": b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
    "with an offer of another protocol": OK + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi",
    "behind an early hint with a length": b"HTTP/1.1 103 Early Hints\r\ncontent-length: 3\r\n\r\n"
    + OK
    + b"content-length: 5\r\n\r\nhello",
    "with an empty field": OK + b"x:\r\ncontent-length: 2\r\n\r\nhi",
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_a_response_is_what_the_library_finds_however_it_arrives(data: bytes, size: int) -> None:
    response, body = read(data, cuts=tuple(range(size, len(data), size)))
    assert response.head is not None
    assert (response.head.status, body) == by_library(data)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.sets(st.integers(0, 400)))
def test_chunks_are_joined_wherever_they_are_cut(chunks: list[bytes], cuts: set[int]) -> None:
    frames = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    data = OK + b"transfer-encoding: chunked\r\n\r\n" + frames + b"0\r\n\r\n"
    response, body = read(data, cuts=tuple(cut for cut in cuts if cut < len(data)))
    assert body == b"".join(chunks)
    assert response.is_whole
    assert response.may_follow


BAD = {
    "nothing": b"",
    "a page": b"<html>\n\n",
    "another version": b"HTTP/2 200\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a head that ends": OK + b"content-length",
    "a field without a colon": OK + b"content length 5\r\n\r\nhello",
    "a field with a zero": OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "another length": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "a length that is no number": OK + b"content-length: five\r\n\r\nhello",
    "a negative length": OK + b"content-length: -5\r\n\r\nhello",
    "a body that ends": OK + b"content-length: 6\r\n\r\nhello",
    "chunks that end": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhel",
    "chunks without an end": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunks without a length": OK + b"transfer-encoding: chunked\r\n\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than it says": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "a space behind the name of a field": OK + b"content-length : 5\r\n\r\nhello",
    "a carriage return within a field": OK + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
    "a length with a sign": OK + b"content-length: +5\r\n\r\nhello",
    "a length without digits": OK + b"content-length:\r\n\r\nhello",
    "a length of 30 digits": OK + b"content-length: " + b"9" * 30 + b"\r\n\r\nhello",
    "a chunk's length of 30 digits": OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\nhello",
    "a negative chunk": OK + b"transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "chunks with line feeds alone": OK + b"transfer-encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "chunks in another encoding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "chunks twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "a parameter of chunks": OK + b"transfer-encoding: chunked;q=1\r\n\r\n" + CHUNKS,
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "another encoding": OK + b"transfer-encoding: gzip\r\n\r\nhello",
    "a head without an end": OK + b"x: " + b"y" * 200_000,
    "a frame without an end": OK + b"transfer-encoding: chunked\r\n\r\n5;" + b"y" * 20_000,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_whole_response_is_refused_as_the_library_does(data: bytes) -> None:
    with pytest.raises(BadResponseError):
        read(data)
    if b"without an end" not in data and len(data) < 10_000:
        with pytest.raises(h11.RemoteProtocolError):
            by_library(data)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"content-length: 5, 5\r\n\r\nhello",
        b"HTTP/2.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\t\r\n\r\n" + CHUNKS,
        OK + b"transfer-encoding: chunked\r\n\r\n5;a b=c\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_what_only_the_library_takes_is_refused(data: bytes) -> None:
    """RFC 9110 and 9112 allow both; clients in JavaScript refuse it by the same parser."""
    assert by_library(data) == (200, b"hello") or CHUNKS in data
    with pytest.raises(BadResponseError):
        read(data)


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"HTTP/1.1 100 Continue\r\n", b"x: " + b"y" * 100 + b"\r\n"),
        (OK, b"x: " + b"y" * 100 + b"\r\n"),
        (OK + b"x", b"y"),
        (OK + b"x: ", b"y"),
        (b"HTTP/1.1 200 ", b"y"),
        (b"", b"\r\n"),
        (CHUNKED + b"5;a", b"y"),
        (CHUNKED + b"5;a=", b"y"),
        (CHUNKED + b"5", b" "),
        (CHUNKED, b"0"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", b"x: " + b"y" * 100 + b"\r\n"),
        (CHUNKED + b"5\r\nhello\r\n0\r\nx", b"y"),
    ],
)
def test_what_has_no_end_is_refused_before_it_fills_the_memory(begin: bytes, more: bytes) -> None:
    response = Response("POST")
    response.feed(begin)
    taken = 0
    with pytest.raises(BadResponseError):
        while taken < 3 * MAX_FRAMING_BYTES:
            response.feed(more * (1000 // len(more)))
            taken += 1000 // len(more) * len(more)
    assert taken < 1.1 * MAX_FRAMING_BYTES


def test_chunks_that_arrive_together_become_one_piece() -> None:
    response = Response("POST")
    assert response.feed(CHUNKED + CHUNKS[:12]) == b"hello"
    assert response.feed(CHUNKS[12:30] + b"\r\n1\r\n!\r\n2\r\n?") == b" world!?"
    assert response.feed(b"?\r\n0\r\n\r\n") == b"?"
    assert response.is_whole


@pytest.mark.parametrize("fields", [b"", b"connection: upgrade\r\nupgrade: websocket\r\n"])
def test_another_protocol_is_not_spoken(fields: bytes) -> None:
    response, body = read(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\nhello")
    assert response.head is not None
    assert (response.head.status, body, response.may_follow) == (101, b"", False)


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (OK + b"content-length: 2\r\n\r\nhi", True),
        (OK + b"content-length: 2\r\nconnection: keep-alive\r\n\r\nhi", True),
        (OK + b"content-length: 2\r\nConnection: x, Close\r\n\r\nhi", False),
        (OK + b"content-length: 2\r\n\r\nhi and more", False),
        (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", False),
        (OK + b"\r\nhi", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (OK + b"content-length: 2\r\n\r\nhi" + OK + b"\r\nmore", False),
    ],
)
def test_a_connection_is_kept_where_both_sides_know_its_state(data: bytes, kept: bool) -> None:
    assert read(data)[0].may_follow is kept


def test_a_second_response_is_no_part_of_the_first() -> None:
    response, body = read(OK + b"content-length: 2\r\n\r\nhi" + OK + b"\r\nmore")
    assert (body, response.may_follow) == (b"hi", False)
    assert response.feed(b"and more") == b""


def test_the_answer_to_a_head_request_has_no_body() -> None:
    response, body = read(OK + b"content-length: 5\r\n\r\nhello", method="HEAD")
    assert (response.is_whole, body) == (True, b"")


def test_a_request_is_written() -> None:
    fields = [(b"Host", b"x"), (b"Authorization", b"Bearer a b"), (b"Empty", b"")]
    written = request_head("POST", b"/v1?a=b", fields)
    assert written == b"POST /v1?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a b\r\nEmpty: \r\n\r\n"


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\0b", b" a", b"a ", b"a\nb", b"\n"])
def test_a_header_that_would_change_the_request_is_refused_without_its_value(value: bytes) -> None:
    with pytest.raises(BadRequestError) as caught:
        request_head("POST", b"/", [(b"Authorization", value)])
    assert str(caught.value) == "the header 'Authorization' has characters that cannot be sent"
    with pytest.raises(BadRequestError):
        request_head("POST", b"/", [(b"a: b\r\nc", b"d")])

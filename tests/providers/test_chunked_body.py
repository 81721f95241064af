"""Chunks that arrived together become one; what the HTTP library reads of a response stays the same."""

from __future__ import annotations

from collections.abc import Sequence

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.providers.chunked_body import FRAME_BYTES, ChunkJoiner

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDS = [b"0\r\n\r\n", b"0;x=1\r\nTrailer: 1\r\n\r\n", b"", b"0\r\n", b"zz\r\n", b"\r\n", b"5\n12345\r\n"]
LONG = b"x" * 70_000


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def read(parts: Sequence[bytes], *, exchanges: int = 1) -> list[object]:
    """Return what a client reads of bytes that arrive in parts: statuses, bodies, and the error if there is one."""
    connection = h11.Connection(h11.CLIENT)
    found: list[object] = []
    waiting = list(parts)
    for _ in range(exchanges):
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
        connection.send(h11.EndOfMessage())
        body = b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(waiting.pop(0) if waiting else b"")
                elif isinstance(event, (h11.Response, h11.InformationalResponse)):
                    found.append(event.status_code)
                elif isinstance(event, h11.Data):
                    body += event.data
            found += [body, list(event.headers)]
            if connection.their_state is h11.DONE:
                connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            return [*found, body, type(error).__name__]
    return found


def joined(parts: Sequence[bytes]) -> list[bytes]:
    joiner = ChunkJoiner()
    joiner.begin()
    return [out for part in parts if (out := joiner.feed(part))] + ([rest] if (rest := joiner.rest()) else [])


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, ends, strict=False) if end > start]


class TestJoining:
    def test_chunks_that_came_together_are_one(self) -> None:
        head, body = joined([HEAD, chunked(b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n", end=b"")])
        assert (head, body) == (HEAD, b"1b\r\ndata: 1\n\ndata: 2\n\ndata: 3\n\n\r\n")

    def test_a_chunk_is_passed_on_as_soon_as_a_part_of_it_is_there(self) -> None:
        assert joined([HEAD + b"100\r\ndata"])[0].endswith(b"4\r\ndata\r\n")

    def test_what_is_passed_on_is_hardly_longer_than_what_came(self) -> None:
        for part in (LONG, b"y"):
            joiner = ChunkJoiner()
            joiner.feed(HEAD + b"ffffff\r\n")
            assert len(joiner.feed(part)) <= len(part) + FRAME_BYTES

    def test_a_second_response_on_the_connection_is_joined_too(self) -> None:
        joiner = ChunkJoiner()
        joiner.begin()
        joiner.feed(HEAD + chunked(b"one"))
        joiner.begin()
        assert joiner.feed(HEAD + chunked(b"a", b"b")).endswith(b"2\r\nab\r\n0\r\n\r\n")


class TestSameResponse:
    @given(
        pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=12),
        places=st.lists(st.integers(min_value=0, max_value=2000), max_size=30),
        end=st.sampled_from(ENDS),
    )
    def test_of_a_chunked_body_however_it_arrives(self, pieces: list[bytes], places: list[int], end: bytes) -> None:
        parts = cut(HEAD + chunked(*pieces, end=end), places)
        assert read(joined(parts)) == read(parts)

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n5\r\nabcde\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + HEAD + chunked(b"a", b"b"),
            b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000 + HEAD + chunked(b"a", b"b"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"a", b"b"),
            b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\ntransfer-encoding:chunked\n\n" + chunked(b"a", b"b"),
            b"HTTP/1.1 200 OK\r\nX-A: transfer-encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
            HEAD + b'3;name=value\r\nabc\r\n4 ; x="y"\r\ndefg\r\n0\r\n\r\n',
            HEAD + b"0003\r\nabc\r\n0000\r\n\r\n",
            HEAD + b"+3\r\nabc\r\n0\r\n\r\n",
            HEAD + b"3\r\nabcXX3\r\ndef\r\n0\r\n\r\n",
            HEAD + b"-1\r\nabc\r\n0\r\n\r\n",
            HEAD + b"1_0\r\nabc\r\n0\r\n\r\n",
            HEAD + b"3;" + b"x" * 9_000 + b"\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
            HEAD + b"1\r\na\r\n3;" + b"x" * 9_000 + b"\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
            HEAD + chunked(LONG, b"b", LONG),
            b"not HTTP at all\r\n\r\n",
            b"",
        ],
    )
    def test_of_other_forms_and_of_damaged_ones(self, response: bytes, size: int) -> None:
        if size < 100 and len(response) > 20_000:
            size *= 1_000
        parts = [response[start : start + size] for start in range(0, len(response), size)]
        assert read(joined(parts)) == read(parts)

"""Bodies without end, and bodies that become large: what a server can send instead of an answer."""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Callable, Iterator

from tests.provider_faults.apis import Api
from tests.provider_faults.faults import BROKEN, HOPELESS, REFUSED, RETRIED, SHORT, Fault, Host, Row, Sent
from tests.provider_faults.raw import Peer, Talk

SAID = "one"
MEGABYTE = b"x" * 1024 * 1024
BROKEN_BEFORE = RETRIED
FIRST = {"first_byte_timeout": SHORT}
IDLE = {"idle_timeout": SHORT}
PAUSE = SHORT / 8
"""Seconds between two keep-alives; some come before any limit has passed."""


def head(status: int = 200, kind: str = "text/event-stream", *more: str) -> bytes:
    """Return the head of a response whose body ends with its connection."""
    lines = [f"HTTP/1.1 {status} Odd", f"Content-Type: {kind}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def event(data: object) -> bytes:
    """Return an event; Anthropic's carry their type in the data, too."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def first_piece(api: Api) -> bytes:
    """Return the events of a first piece of text."""
    if api.speaks_messages:
        start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SAID}}
        return event({"type": "message_start", "message": {"model": "m", "usage": {}}}) + event(start) + event(piece)
    if api.name == "responses":
        return event({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": SAID})
    return chunk(role="assistant", content=SAID)


def chunk(**delta: object) -> bytes:
    """Return a chunk of Chat Completions."""
    about = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    return event({**about, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def empty_pieces(api: Api) -> bytes:
    """Return events that say nothing: what servers send while they think, and what only looks like a piece."""
    if api.speaks_messages:
        blank = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}
        return event({"type": "ping"}) + event(blank) + event({"type": "message_delta", "usage": {"output_tokens": 1}})
    if api.name == "responses":
        blank = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": ""}
        return event({"type": "response.in_progress", "response": {}}) + event(blank) + event({"type": "keepalive"})
    return chunk() + chunk(role="assistant") + chunk(content="") + event({"choices": [], "usage": {"total_tokens": 1}})


def padded(line: bytes) -> bytes:
    """Return a line of 32 bytes: two million of them are what a run reads, and are too many to be kept in memory.

    Shorter ones take longer to read, and show the same.
    """
    return line.ljust(31) + b"\n"


def _after(api: Api, begun: bool) -> bytes:
    return head() + (first_piece(api) if begun else b"")


def _endless(piece: Callable[[Api], bytes], *, begun: bool = True, pause: float = 0.0) -> Callable[[Api], Talk]:
    """Return a server that sends a piece for ever, after a first piece of an answer where `begun`."""

    def make(api: Api) -> Talk:
        said = piece(api)
        many = said if pause else said * max(1, 65536 // len(said))

        def talk(peer: Peer) -> None:
            peer.send(_after(api, begun))
            while True:
                peer.send(many)
                if pause:
                    peer.pause(pause)

        return talk

    return make


def _fixed(data: Callable[[Api], bytes], *, hang: bool = False) -> Callable[[Api], Talk]:
    def make(api: Api) -> Talk:
        said = data(api)

        def talk(peer: Peer) -> None:
            peer.send(said)
            if hang:
                peer.hang()

        return talk

    return make


def _body(top: bytes, piece: bytes) -> Callable[[Api], Talk]:
    """Return a server that answers with `top` and a piece for ever."""

    def talk(peer: Peer) -> None:
        peer.send(top)
        while True:
            peer.send(piece)

    return lambda api: talk


@functools.cache
def bomb(layers: int) -> bytes:
    """Return 512 MB of comments in gzip; in more layers 64 times as much in each.

    Made once, because it takes seconds.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    line = (b":" + b"x" * 1023 + b"\n") * 1024
    data = b"".join([*(packer.compress(line) for _ in range(512)), packer.flush()])
    for _ in range(layers - 1):
        data = gzip.compress(data * 64, 9)
    return data


def _packed(status: int, encoding: str, data: Callable[[], bytes]) -> Callable[[Api], Talk]:
    kind = "text/event-stream" if status == 200 else "application/json"

    def make(api: Api) -> Talk:
        said = head(status, kind, f"Content-Encoding: {encoding}") + data()

        def talk(peer: Peer) -> None:
            peer.send(said)
            peer.hang()

        return talk

    return make


def _redirect(peer: Peer) -> None:
    peer.send(head(307, "text/event-stream", "Location: /v1/elsewhere"))
    while True:
        peer.send(MEGABYTE)


def _fault(name: str, raw: Callable[[Api], Talk], row: Row, kind: str, says: str, **fields: object) -> Fault:
    out = SAID if row is BROKEN else ""
    return Fault(name=name, raw=raw, row=row, kind=kind, says=says, host=Host.RAW, out=out, **fields)  # type: ignore[arg-type]


def _in_a_connection() -> Iterator[Fault]:
    """Yield what the shared connection ends, before a reader of one API sees it: first stalls, then floods."""
    yield _fault(
        "JSON that stalls",
        _fixed(lambda api: head(200, "application/json") + b'{"choices": [', hang=True),
        RETRIED,
        "timeout",
        "of an unfinished piece",
        settings=FIRST,
    )
    yield _fault(
        "only comments",
        _endless(lambda api: b": ping\n\n", begun=False, pause=PAUSE),
        RETRIED,
        "timeout",
        f"sent only keep-alives for {SHORT:g} s",
        settings=FIRST,
    )
    flood = "is not usable"
    yield _fault("a flood of comments", _endless(lambda api: padded(b": ping") + b"\n"), BROKEN, "truncated", flood)
    yield _fault("a line without end", _endless(lambda api: b"data: " + MEGABYTE), BROKEN, "truncated", flood)
    yield _fault("an event without end", _endless(lambda api: b"data: xy\n"), BROKEN, "truncated", flood)
    yield _fault("lines that are no events", _endless(lambda api: padded(b"xy")), BROKEN, "truncated", flood)
    yield _fault(
        "JSON without end",
        _body(head(200, "application/json") + b'{"choices": [', b"[],\n" * 16384),
        RETRIED,
        "network",
        flood,
    )
    yield _fault("gzip behind 200", _packed(200, "gzip", lambda: bomb(1)), RETRIED, "network", flood)
    yield _fault("gzip in gzip behind 200", _packed(200, "gzip, gzip", lambda: bomb(2)), RETRIED, "network", flood)
    yield _fault("gzip behind 400", _packed(400, "gzip", lambda: bomb(1)), REFUSED, "bad_request", "(400)")
    yield _fault(
        "gzip in gzip behind 400", _packed(400, "gzip, gzip", lambda: bomb(2)), REFUSED, "bad_request", "(400)"
    )
    for encoding in ("br", "zstd", "gzip, gzip, gzip"):
        yield _fault(
            f"{encoding} behind 200", _packed(200, encoding, lambda: bomb(1)), HOPELESS, "not_found", f"'{encoding}'"
        )
    yield _fault("400 without end", _body(head(400, "text/plain"), MEGABYTE), REFUSED, "bad_request", "(400)")
    yield _fault("401 without end", _body(head(401, "application/json"), MEGABYTE), HOPELESS, "auth", "(401)")
    yield _fault("headers without end", _body(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 8192), RETRIED, "network", "")
    yield _fault("a header without end", _body(b"HTTP/1.1 200 OK\r\nX-A: ", MEGABYTE), RETRIED, "network", "")
    yield _fault(
        "1xx without end",
        _body(b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * 64),
        RETRIED,
        "timeout",
        f"did not answer within {SHORT:g} s",
        settings=FIRST,
    )
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    yield _fault("a chunk extension without end", _body(chunked, MEGABYTE), RETRIED, "network", "")
    yield _fault("a redirect without end", lambda api: _redirect, HOPELESS, "not_found", "redirects more than 5 times")


def _in_an_answer() -> Iterator[Fault]:
    """Yield what depends on how an API's reader takes the pieces of its answer: first stalls, then floods."""
    yield _fault(
        "only comments after a piece",
        _endless(lambda api: b": ping\n\ndata: \n\n", pause=PAUSE),
        BROKEN,
        "truncated",
        f"stalled: only keep-alives for {SHORT:g} s",
        settings=IDLE,
    )
    yield _fault(
        "only empty pieces after a piece",
        _endless(empty_pieces, pause=PAUSE),
        BROKEN,
        "truncated",
        f"stalled: only keep-alives for {SHORT:g} s",
        settings=IDLE,
    )
    yield _fault(
        "a byte at a time",
        _endless(lambda api: b" ", pause=PAUSE),
        BROKEN,
        "truncated",
        "of an unfinished piece",
        settings=IDLE,
    )
    yield _fault(
        "a flood of empty pieces",
        _endless(empty_pieces),
        BROKEN,
        "truncated",
        "the answer of",  # LiteLLM takes so long for each that its time is over first
        settings={"idle_timeout": 20},
    )
    yield _fault(
        "an event of millions of values",
        _fixed(lambda api: _after(api, begun=True) + b'data: {"a": [[]' + b",[]" * 15_000_000 + b"]}\n\n"),
        BROKEN,
        "truncated",
        "more than 500000 values",
    )


ENDLESS_IN_A_CONNECTION = tuple(_in_a_connection())
ENDLESS_IN_AN_ANSWER = tuple(_in_an_answer())
ENDLESS = (*ENDLESS_IN_A_CONNECTION, *ENDLESS_IN_AN_ANSWER)
__all__ = [
    "ENDLESS",
    "ENDLESS_IN_AN_ANSWER",
    "ENDLESS_IN_A_CONNECTION",
    "Sent",
    "bomb",
    "chunk",
    "event",
    "first_piece",
    "head",
]

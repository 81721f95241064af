"""A model server that is never the bottleneck: its answers are bytes made beforehand, sent as fast as they are read.

It runs in the benchmark's own process, which sleeps meanwhile, so that arrivals are on the clock that the start was
read from (`time.monotonic`, one clock for all processes of a host).
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MODEL = "gpt-5.2-mini"

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was read in full: when (`time.monotonic`), and its sender's CPU time by then; both in seconds."""

    at: float
    cpu: float


def answer(deltas: int, *, events_per_chunk: int = 1) -> bytes:
    """Return the whole HTTP response of a streamed Chat Completions answer of `deltas` words.

    Args:
        deltas: how many content deltas it has.
        events_per_chunk: how many events share one chunk of the HTTP body; model servers send each in its own.
    """
    events = [_event({"role": "assistant", "content": ""})]
    events += [_event({"content": f"word{number % 1000} "}) for number in range(deltas)]
    events += [_event({}, finish="stop"), _usage(deltas), b"data: [DONE]\n\n"]
    groups = (events[start : start + events_per_chunk] for start in range(0, len(events), events_per_chunk))
    chunks = (b"".join(group) for group in groups)
    return _HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def pieces(texts: Sequence[str]) -> bytes:
    """Return the whole HTTP response of an answer whose deltas are `texts`, all in one chunk of the body."""
    events = [_event({"role": "assistant", "content": ""}), *(_event({"content": text}) for text in texts)]
    body = b"".join([*events, _event({}, finish="stop"), _usage(1), b"data: [DONE]\n\n"])
    return _HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


class BenchmarkServer:
    """Answers every POST on 127.0.0.1 with the bytes of `answer`, and notes when it arrived."""

    def __init__(self) -> None:
        self.answer = answer(1)
        self.sender = 0
        """The process whose CPU time is noted with its request."""
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    def arrivals(self) -> list[Arrival]:
        """Return the requests that arrived since the last call."""
        return list(iter(self._next_arrival, None))

    def _next_arrival(self) -> Arrival | None:
        with contextlib.suppress(queue.Empty):
            return self._arrivals.get_nowait()
        return None

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for _ in _requests(connection):
                self._arrivals.put(Arrival(time.monotonic(), cpu_seconds(self.sender)))
                connection.sendall(self.answer)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, in seconds; not a number where the system does not tell (Linux does)."""
    spent = [int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(spent) / 1e9 if spent else math.nan


def _requests(connection: socket.socket) -> Iterator[None]:
    """Yield whenever a request was read in full, until the client closes the connection."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            piece = connection.recv(1 << 16)
            if not piece:
                return
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        missing = _content_length(head) - len(body)
        while missing > 0:
            piece = connection.recv(min(missing, 1 << 20))
            if not piece:
                return
            missing -= len(piece)
        yield
        data = b""  # a client that waits for its answer sends nothing after its body


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _data({"choices": [choice], "usage": None})


def _usage(deltas: int) -> bytes:
    usage = {"prompt_tokens": 12, "completion_tokens": deltas, "total_tokens": 12 + deltas}
    return _data({"choices": [], "usage": usage})


def _data(fields: dict[str, object]) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1780000000, "model": MODEL, **fields}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"

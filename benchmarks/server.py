"""A model server that is never the bottleneck: its answers are bytes made beforehand, sent as fast as they are read.

It runs in the benchmark's own process, which sleeps meanwhile, so that arrivals are on the clock that the start was
read from (`time.monotonic`, one clock for all processes of a host).
"""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.answers import answer

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was read in full: when (`time.monotonic`), and its sender's CPU time by then; both in seconds.

    `size` is the size of its body in bytes.
    """

    at: float
    cpu: float
    size: int = 0


class BenchmarkServer:
    """Answers a POST to the path of an API on 127.0.0.1 with `answer`, and notes when it arrived.

    Any other request, such as one that looks for the server or lists its models, gets 404 and is not noted.
    """

    def __init__(self) -> None:
        self.answer = answer(1)
        self.sender = 0
        """The process whose CPU time is noted with its request."""
        self.beside: Mapping[int, float] = {}
        """Processes that work for the sender, with the CPU time that each had before: what they spend more is its."""
        self.on_request: Callable[[socket.socket], object] | None = None
        """What is called with the connection of each request that is noted, before it is answered."""
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    @property
    def origin(self) -> str:
        """The URL without a path, which clients of the Messages API are given."""
        return f"http://127.0.0.1:{self.address[1]}"

    @property
    def base_url(self) -> str:
        """The URL that clients of OpenAI's APIs are given."""
        return f"{self.origin}/v1"

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

    def _cpu_seconds(self) -> float:
        beside = sum(cpu_seconds(pid) - before for pid, before in self.beside.items())
        return cpu_seconds(self.sender) + beside

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for method, path, size in _requests(connection):
                response = self.answer.response(path) if method == "POST" else None
                if response is None:
                    connection.sendall(_NOT_FOUND + (b"" if method == "HEAD" else b"{}"))
                    continue
                self._arrivals.put(Arrival(time.monotonic(), self._cpu_seconds(), size))
                if self.on_request is not None:
                    self.on_request(connection)
                connection.sendall(response)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, in seconds; not a number where the system does not tell (Linux does)."""
    spent = [int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(spent) / 1e9 if spent else math.nan


def _requests(connection: socket.socket) -> Iterator[tuple[str, str, int]]:
    """Yield method, path and size of the body of each request that was read in full, until the client closes."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            piece = connection.recv(1 << 16)
            if not piece:
                return
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        fields = _header_fields(head)
        size = _read_body(connection, body, fields)
        if size is None:
            return
        method, path = head.split(b" ", 2)[:2]
        yield method.decode("latin-1"), path.decode("latin-1"), size
        data = b""  # a client that waits for its answer sends nothing after its body


def _read_body(connection: socket.socket, begun: bytes, fields: dict[bytes, bytes]) -> int | None:
    """Read what is missing of a body; return its size on the wire, or None if it does not come."""
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        end, size = begun, len(begun)
        while not end.endswith(b"0\r\n\r\n"):
            piece = connection.recv(1 << 20)
            if not piece:
                return None
            end, size = end[-5:] + piece, size + len(piece)
        return size
    size = int(fields.get(b"content-length", 0))
    missing = size - len(begun)
    while missing > 0:
        piece = connection.recv(min(missing, 1 << 20))
        if not piece:
            return None
        missing -= len(piece)
    return size


def _header_fields(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    return {name.strip(): value.strip() for name, _, value in lines}

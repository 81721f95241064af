"""A server of bytes: a function writes what it likes to each connection, for ever if it likes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Talk = Callable[["Peer"], None]
"""What a server does with one connection, once its request is there; it ends when the client closes."""


class GoneError(Exception):
    """The client has closed the connection, or the server is closed."""


@dataclass
class Peer:
    """One connection, and the request that came over it: its first line and headers, and its body."""

    socket: socket.socket
    head: bytes
    body: bytes
    closing: threading.Event
    host: str

    def send(self, data: bytes) -> None:
        """Send all of it, or raise `GoneError`."""
        left = memoryview(data)
        while left:
            if self.closing.is_set():
                raise GoneError
            with contextlib.suppress(TimeoutError):
                try:
                    left = left[self.socket.send(left) :]
                except TimeoutError:
                    raise
                except OSError:
                    raise GoneError from None

    def pause(self, seconds: float) -> None:
        """Wait, or raise `GoneError` once the client or the server closes."""
        self.socket.settimeout(min(seconds, 0.5))
        passed = 0.0
        while passed < seconds:
            if self.closing.is_set():
                raise GoneError
            try:
                if not self.socket.recv(1):
                    raise GoneError
            except TimeoutError:
                passed += min(seconds, 0.5)
            except OSError:
                raise GoneError from None
        self.socket.settimeout(0.5)

    def hang(self) -> None:
        """Say nothing more."""
        while True:
            self.pause(0.5)


@dataclass
class RawServer:
    """Its address, and the requests that came."""

    port: int
    peers: list[Peer] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"


@contextmanager
def raw_server(talk: Talk) -> Iterator[RawServer]:
    """Serve every connection by `talk` on a thread of its own."""
    closing = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = RawServer(listener.getsockname()[1])
        listener.settimeout(0.2)

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(GoneError, OSError):
                connection.settimeout(0.5)
                head, body = _request(connection, closing)
                peer = Peer(connection, head, body, closing, server.origin)
                server.peers.append(peer)
                talk(peer)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                peer.pause(5)

        def accept() -> None:
            while not closing.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                    threads.append(thread)
                    thread.start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            closing.set()
            accepting.join()
            for thread in threads:
                thread.join()


def _request(connection: socket.socket, closing: threading.Event) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection, closing)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _more(connection, closing)
    return head, body


def _more(connection: socket.socket, closing: threading.Event) -> bytes:
    while not closing.is_set():
        with contextlib.suppress(TimeoutError):
            data = connection.recv(65536)
            if data:
                return data
            break
    raise GoneError

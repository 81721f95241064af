"""A TCP proxy in front of a PostgreSQL server that can stop to forward, as a network that is cut without a sign."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

LARGE = 16_384


class CuttableProxy:
    """Forwards connections to the socket file of a server; `port` is where it listens on 127.0.0.1."""

    def __init__(self, path: str, *, pause: float = 0.0) -> None:
        self._path = path
        self._pause = pause  # seconds before each large piece
        self._open = threading.Event()
        self._open.set()
        self._is_closed = False
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        self._listening.close()
        self._open.set()
        self._drop()

    def cut(self) -> None:
        """Forward nothing from now on; connections stay open, and new ones get no answer."""
        self._open.clear()

    def mend(self) -> None:
        """Forward again; what was connected before is gone."""
        self._drop()
        self._open.set()

    def _drop(self) -> None:
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.wait()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(self._path)
        except OSError:
            client.close()
            return
        self._sockets += [client, server]
        back = threading.Thread(target=self._forward, args=(server, client), daemon=True)
        back.start()
        self._forward(client, server)
        back.join()
        client.close()
        server.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if len(data) > LARGE:
                    time.sleep(self._pause)
                if self._is_closed:
                    break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

"""A server on a real socket that plays a dialect: it checks a request as the real one would, and answers in bytes."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.dialects.dialect import Dialect, Reply

PIECE_BYTES = 61
"""Streams come in pieces of so many bytes, which cuts lines, escapes and characters."""


class DialectServer:
    """The server of one dialect: it gives the replies of its script in order, to requests that it takes.

    `requests` are the JSON bodies that came, `refusals` what was wrong with those that were not taken.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.requests: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self._replies: list[Reply] = []
        self._http = _HttpServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def script(self, replies: Sequence[Reply]) -> None:
        """Give these replies to the next requests, and forget what came until now."""
        self._replies, self.requests, self.refusals = list(replies), [], []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        """Return the answer to a request."""
        self.requests.append(body)
        problem = self._problem(path, headers, body)
        if problem is None:
            return self._replies.pop(0)
        self.refusals.append(problem)
        return self.dialect.refuse(problem)

    def _problem(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> str | None:
        dialect = self.dialect
        name, key = dialect.key_header
        if path != dialect.path:
            return f"no such path: {path}"
        if headers.get(name) != key:
            return f"no key in the header {name}"
        if body["model"] != dialect.model:
            return f"no such model: {body['model']}"
        if not self._replies:
            return "a request more than the turn has answers"
        return next((problem for check in dialect.checks if (problem := check(body)) is not None), None)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: DialectServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner

    def server_bind(self) -> None:
        # The inherited one looks up the host's name, which can take seconds where the resolver is slow.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the client may leave before the end
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.owner.answer(self.path, headers, body))

    def _send(self, reply: Reply) -> None:
        streamed = reply.headers.get("Content-Type", "").startswith("text/event-stream")
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if streamed:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if not streamed:
            self.wfile.write(reply.body)
            return
        for start in range(0, len(reply.body), PIECE_BYTES):
            piece = reply.body[start : start + PIECE_BYTES]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if reply.breaks_off:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the inherited name)
        """Say nothing: stderr belongs to the test."""

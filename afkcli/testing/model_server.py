"""A model server on a real socket that says what a script tells it to, for tests, benchmarks and plugin authors.

In a test:

    with ModelServer([Step(text=["Hel", "lo"])]) as server:
        ...  # base URL: server.base_url; what it was asked: server.requests

As a process of its own, which prints its base URL as the first line and appends every request to a JSONL file:

    python -m afkcli.testing.model_server --port 0 --script FILE --log requests.jsonl
    python -m afkcli.testing.model_server --reply "Hello there"

It speaks Chat Completions (`/chat/completions`), the Responses API (`/responses`, `/responses/compact`), Anthropic's
Messages API (`/messages`, `/messages/count_tokens`), `/models` and the batches of both (`afkcli.testing.batch_server`),
with any path before these. A script is one step a request, the last one repeated (see `afkcli.testing.model_script`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

from afkcli.testing import model_wire as wire
from afkcli.testing.batch_server import Answer, BatchService
from afkcli.testing.model_script import Fault, ScriptedCall, ScriptedUsage, Step, steps_from_json

__all__ = ["Fault", "ModelServer", "RecordedRequest", "ScriptedCall", "ScriptedUsage", "Step", "steps_from_json"]

WRITE_BYTES = 64 * 1024
POLL_SECONDS = 0.02
COMMENT = b": keep-alive"
LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
MODELS = ("scripted-small", "scripted-large")


class _Api(NamedTuple):
    """One API: how its streamed and its plain answer are written, and the event that reports an error.

    `tells_failure` is true where a streamed answer itself tells that it failed (`Fault.FAILED`).
    """

    answer: Callable[[Step, Mapping[str, Any], int], wire.WireAnswer]
    plain: Callable[[Step, Mapping[str, Any], int], dict[str, Any]]
    error: Callable[[Step], bytes]
    tells_failure: bool = False


APIS = {
    "/chat/completions": _Api(wire.chat_answer, wire.chat_object, wire.chat_error),
    "/responses": _Api(wire.responses_answer, wire.responses_object, wire.responses_error, tells_failure=True),
    "/messages": _Api(wire.messages_answer, wire.messages_object, wire.messages_error),
}
COUNT_PATH = "/messages/count_tokens"
COMPACT_PATH = "/responses/compact"


@dataclass(slots=True, eq=False)
class RecordedRequest:
    """A request as it came in: header names in lower case, `at` in seconds since the epoch.

    `client_left` is set when the client closes the connection before its answer is complete, `done` when the server
    has nothing more to send.
    """

    n: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float
    connection: int
    client_left: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> str:
        names = ("n", "method", "path", "headers", "body", "at", "connection")
        return json.dumps({name: getattr(self, name) for name in names}, ensure_ascii=True)


class ModelServer:
    """The server; `with ModelServer(steps) as server` runs it on a thread of its own.

    Args:
        steps: the script; the default echoes.
        port: the port on 127.0.0.1; 0 takes a free one.
        answer: returns what is said to a request, in place of a script. Since: 0.2.
        log: a file to which every request is appended as a line of JSON before it is answered.
        tls: the context by which it speaks TLS, for clients that are to check its certificate; steps that wait or hang
            need a plain connection.
    """

    def __init__(
        self,
        steps: Sequence[Step] = (),
        *,
        port: int = 0,
        answer: Callable[[RecordedRequest], Step] | None = None,
        log: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._steps: list[Step] = list(steps) or [Step()]
        self._said = 0
        self._answer = answer
        self.batches = BatchService()
        self._log = log
        self._released = threading.Event()
        self._requests: list[RecordedRequest] = []
        self._arrived = threading.Condition(self._lock)
        self._scheme = "http" if tls is None else "https"
        self._http = _HttpServer(("127.0.0.1", port), self, tls)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(POLL_SECONDS,), daemon=True)

    @property
    def base_url(self) -> str:
        """The base URL for a client, `/v1` included."""
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests to a model so far, in order of arrival (those to `/models` and `/count_tokens` are left out)."""
        with self._lock:
            return self._posts()

    @property
    def bodies(self) -> list[Any]:
        """The JSON bodies of the requests so far."""
        return [request.body for request in self.requests]

    def script(self, *steps: Step) -> None:
        """Say `steps` to the next requests, the last one repeated."""
        with self._lock:
            self._steps = list(steps) or [Step()]
            self._said = 0
            self._released.clear()

    def release(self) -> None:
        """Let every step continue that hangs or will hang, until the next `script`."""
        self._released.set()

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> list[RecordedRequest]:
        """Return the requests when there are `count` of them.

        Raises:
            TimeoutError: there are fewer after `timeout` seconds.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._posts()) >= count, timeout):
                raise TimeoutError(f"{len(self._posts())} of {count} requests after {timeout} s")
            return self._posts()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Serve on the calling thread until `close`, or the end of the process."""
        self._http.serve_forever(POLL_SECONDS)

    def close(self) -> None:
        """Stop, closing every open connection."""
        self._released.set()
        if self._thread.is_alive():
            self._http.shutdown()
        self._http.close_connections()
        self._http.server_close()

    def record(self, method: str, path: str, headers: Mapping[str, str], body: Any, port: int) -> RecordedRequest:
        """Record a request and append it to the log."""
        with self._arrived:
            request = RecordedRequest(0, method, path, headers, body, time.time(), port)
            self._requests.append(request)
            request.n = len(self._posts())
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(request.to_json() + "\n")
            self._arrived.notify_all()
        return request

    def _posts(self) -> list[RecordedRequest]:
        posts = (request for request in self._requests if request.method == "POST")
        return [request for request in posts if not _path(request.path).endswith(COUNT_PATH)]

    def step_for(self, request: RecordedRequest) -> Step:
        """Return what is said to a request."""
        return self.next_step() if self._answer is None else self._answer(request)

    def next_step(self) -> Step:
        with self._lock:
            step = self._steps[min(self._said, len(self._steps) - 1)]
            self._said += 1
            return step

    @property
    def released(self) -> bool:
        return self._released.is_set()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model_server: ModelServer, tls: ssl.SSLContext | None) -> None:
        super().__init__(address, _Handler)
        self.model_server = model_server
        if tls is not None:  # hands are shaken with the first read, on the connection's own thread
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._open: set[socket.socket] = set()

    def server_bind(self) -> None:
        # The inherited one looks up the host's name, which can take seconds where the resolver is slow.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _ClientLeft(Exception):  # noqa: N818  (not an error of ours)
    """The client closed the connection while its answer was being sent."""


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, sends the scripted answers, keeps the connection alive in between."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_DELETE(self) -> None:
        if not self._send_batch_answer(b""):
            self._send_json(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_GET(self) -> None:
        if self._send_batch_answer(b""):
            return
        self._record(None).done.set()
        if not _path(self.path).endswith("/models"):
            self._send_json(404, {"error": {"message": f"no such path: {self.path}", "type": "not_found"}})
            return
        models = [{"id": name, "object": "model", "created": wire.CREATED, "owned_by": "afk"} for name in MODELS]
        self._send_json(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        raw = self._body()
        if self._send_batch_answer(raw):
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._record(raw.decode("utf-8", "replace")).done.set()
            self._send_json(400, {"error": {"message": "the body is not JSON", "type": "invalid_request_error"}})
            return
        request = self._record(body)
        if _path(self.path).endswith(COUNT_PATH):
            request.done.set()
            self._send_json(200, wire.counted_tokens(body))
            return
        try:
            self._respond(request, self.server.model_server.step_for(request))
        except (_ClientLeft, ConnectionError):
            request.client_left.set()
            self.close_connection = True
        finally:
            request.done.set()

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send_batch_answer(self, raw: bytes) -> bool:
        """Answer a request to the batch endpoints; return whether it is one."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.model_server.batches.handle(self.command, self.path, headers, raw)
        if answer is None:
            return False
        if answer.status is None:
            self._drop()
            return True
        self._send_file(answer)
        return True

    def _send_file(self, answer: Answer) -> None:
        kind = {"Content-Type": "application/json", "Content-Length": str(len(answer.body))}
        self._send_headers(answer.status or 200, kind | dict(answer.headers))
        self.connection.sendall(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
        if answer.cut:
            self._drop()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the inherited name)
        """Say nothing: stderr belongs to the test."""

    def _record(self, body: Any) -> RecordedRequest:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return self.server.model_server.record(self.command, self.path, headers, body, self.client_address[1])

    def _respond(self, request: RecordedRequest, step: Step) -> None:
        if _path(request.path).endswith(COMPACT_PATH):
            is_made = step.status == 200 and step.body is None
            made = wire.compacted_object(step, request.body, request.n) if is_made else step.body
            self._send_body(step.status, made, step.headers)
            return
        api = next((api for path, api in APIS.items() if _path(request.path).endswith(path)), None)
        if api is None:
            self._send_json(404, {"error": {"message": f"no such path: {self.path}", "type": "not_found"}})
            return
        self._wait(step.delay_headers)
        if step.fault is Fault.HANG_BEFORE_HEADERS:
            self._wait(None)
        if step.fault in (Fault.NO_RESPONSE, Fault.RESET_BEFORE_HEADERS):
            self._drop(reset=step.fault is Fault.RESET_BEFORE_HEADERS)
        elif step.status != 200 or isinstance(step.body, str):
            self._send_body(step.status, step.body, step.headers)
        elif not request.body.get("stream"):
            self._send_json(200, api.plain(step, request.body, request.n))
        else:
            self._stream(step, api, api.answer(step, request.body, request.n))

    def _stream(self, step: Step, api: _Api, answer: wire.WireAnswer) -> None:
        self._send_headers(
            200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"} | dict(step.headers)
        )
        before, after = _split(step, answer)
        self._send_events(step, before, answer.deltas)
        if step.fault_waits:
            self._wait(None)
        if step.fault in _DROPPING:
            if step.fault is Fault.CUT_MID_LINE:
                self._write_chunk(step, (after or [b"data: {"])[0][:-8])
            self._drop(reset=step.fault is Fault.RESET)
            return
        if step.fault is Fault.HANG:
            self._wait(None)
        if step.fault is Fault.MALFORMED:
            self._write_chunk(step, _lines(step, b'data: {"id": "chatcmpl-1", "choices": [{'))
        if step.fault is Fault.INVALID_UTF8:
            self._write_chunk(step, _lines(step, b'data: {"id": "\xff\xfe", "choices": []}'))
            after = [event.replace("\ufffd".encode(), b"\xff") for event in after]
        if step.fault is Fault.ERROR_EVENT or (step.fault is Fault.FAILED and not api.tells_failure):
            self._write_chunk(step, _lines(step, api.error(step)))
        elif step.fault is not Fault.END:
            offset = len(before)
            self._send_events(step, after, [place - offset for place in answer.deltas if place >= offset])
            self._send_tail(step, answer)
        self.connection.sendall(b"0\r\n\r\n")

    def _send_tail(self, step: Step, answer: wire.WireAnswer) -> None:
        done = [answer.done] if answer.done and step.fault is not Fault.NO_DONE else []
        self._write_chunk(step, b"".join(_lines(step, event) for event in [*answer.tail, *done]))

    def _send_events(self, step: Step, events: Sequence[bytes], deltas: Sequence[int]) -> None:
        """Send `events`, waiting before those that are deltas (their places are in `deltas`)."""
        if step.delay_first or step.delay_between:
            places = set(deltas)
            first = True
            for place, event in enumerate(events):
                if place in places:
                    self._wait(step.delay_first if first else step.delay_between)
                    first = False
                self._write_chunk(step, _lines(step, event))
            return
        for data in _packed([_lines(step, event) for event in events], step.events_per_write):
            self._write_chunk(step, data)

    def _write_chunk(self, step: Step, data: bytes) -> None:
        """Send one chunk of the body, in pieces of `step.bytes_per_write` if that is set."""
        if not data:
            return
        size = step.bytes_per_write or len(data)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _wait(self, seconds: float | None) -> None:
        """Wait, or until released where `seconds` is None; `_ClientLeft` if the client does not wait as long."""
        end = None if seconds is None else time.monotonic() + seconds
        server = self.server.model_server
        while not server.released if end is None else (left := end - time.monotonic()) > 0:
            step = POLL_SECONDS if end is None else min(left, POLL_SECONDS)
            if select.select([self.connection], [], [], step)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                raise _ClientLeft

    def _drop(self, *, reset: bool = False) -> None:
        """Close the connection at once, with RST if `reset`."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send_json(self, status: int, value: Mapping[str, Any]) -> None:
        self._send_body(status, value, {})

    def _send_body(self, status: int, body: Mapping[str, Any] | str | None, headers: Mapping[str, str]) -> None:
        data = body or "" if not isinstance(body, Mapping) else json.dumps(body)
        kind = (
            "application/json" if isinstance(body, Mapping) else "text/html" if data.startswith("<") else "text/plain"
        )
        encoded = data.encode()
        self._send_headers(status, {"Content-Type": kind, "Content-Length": str(len(encoded))} | dict(headers))
        self.connection.sendall(encoded)

    def _send_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


_DROPPING = frozenset({Fault.CUT, Fault.CUT_MID_LINE, Fault.RESET})


def _split(step: Step, answer: wire.WireAnswer) -> tuple[list[bytes], list[bytes]]:
    """Return the events before the place of the step's fault, and those after it."""
    if step.fault is None or step.fault in (Fault.NO_DONE, Fault.FAILED):
        return answer.events, []
    end = answer.deltas[step.fault_after] if step.fault_after < len(answer.deltas) else len(answer.events)
    return answer.events[:end], answer.events[end:]


def _path(path: str) -> str:
    """Return a request's path without its query."""
    return path.partition("?")[0]


def _lines(step: Step, event: bytes) -> bytes:
    """Return an event with its line ends, and with a comment before it if the step wants them."""
    text = COMMENT + b"\n\n" + event + b"\n\n" if step.comments else event + b"\n\n"
    return text.replace(b"\n", b"\r\n") if step.crlf else text


def _packed(events: Sequence[bytes], per_write: int) -> Iterator[bytes]:
    """Join events into writes of `per_write` events, or of about `WRITE_BYTES` where it is 0."""
    if per_write:
        for start in range(0, len(events), per_write):
            yield b"".join(events[start : start + per_write])
        return
    pending: list[bytes] = []
    size = 0
    for event in events:
        pending.append(event)
        size += len(event)
        if size >= WRITE_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server as a process: print the base URL, serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m afkcli.testing.model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    says = parser.add_mutually_exclusive_group()
    says.add_argument("--script", type=Path, help="a JSON array of steps")
    says.add_argument("--reply", help="what to say to every request; {n} and {message} are filled in")
    parser.add_argument("--log", type=Path, help="append every request to this JSONL file")
    options = parser.parse_args(arguments)
    steps = [Step(echo=options.reply)] if options.reply is not None else []
    if options.script is not None:
        steps = steps_from_json(options.script.read_text(encoding="utf-8"))
    server = ModelServer(steps, port=options.port, log=options.log)
    print(server.base_url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()

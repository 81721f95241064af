"""Receivers of OpenTelemetry for tests: oteltap, which others wrote, and one that fails as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.free_port import on_free_port

LIMIT = 120  # seconds after which something does not come; never a measure of speed


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span as oteltap decoded it; times are in nanoseconds since the epoch."""

    id: str
    trace: str
    parent: str
    name: str
    kind: int
    start: int
    end: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


@dataclass
class Tap:
    """The running oteltap: what it received, by the lines that it wrote."""

    url: str
    output: Path

    def _received(self) -> list[dict[str, Any]]:
        lines = self.output.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def spans(self) -> list[Span]:
        """Return the spans, by their start and then in the order in which they came."""
        return sorted((_span(item) for item in self._received() if "spanId" in item), key=lambda span: span.start)

    def metrics(self, *names: str) -> dict[str, list[dict[str, Any]]]:
        """Return the points of each metric, as it was sent last: `attributes`, and `count` and `sum`, or `value`.

        It waits until each metric of `names` came: they are sent apart from the spans.
        """
        wait_until(lambda: set(names) <= self._metrics().keys(), lambda: f"{names} in {self._metrics()}")
        return self._metrics()

    def _metrics(self) -> dict[str, list[dict[str, Any]]]:
        return {item["name"]: _points(item) for item in self._received() if "spanId" not in item}

    def wait_for(self, *names: str) -> list[Span]:
        """Wait until a span of each name came, and return all spans."""
        wait_until(lambda: set(names) <= {span.name for span in self.spans()}, lambda: f"{names} in {self.spans()}")
        return self.spans()


def wait_until(is_so: Callable[[], bool], words: Callable[[], str] = lambda: "") -> None:
    """Wait until something is so; fail with the words if it is not within `LIMIT`."""
    deadline = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < deadline, words()
        time.sleep(0.02)


@contextmanager
def tapped(output: Path) -> Iterator[Tap]:
    """Run oteltap on a free port of this machine."""

    def start(port: int) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen([sys.executable, "-u", "-m", "oteltap", "--port", str(port)], stdout=file)

    def is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
        wait_until(lambda: b"Listening" in output.read_bytes() or process.poll() is not None)
        return process.poll() is None

    process, port = on_free_port(start, is_ready)
    try:
        yield Tap(f"http://127.0.0.1:{port}", output)
    finally:
        process.kill()
        process.wait()


def _span(item: dict[str, Any]) -> Span:
    return Span(
        id=item["spanId"],
        trace=item["traceId"],
        parent=item["parentSpanId"],
        name=item["name"],
        kind=item["kind"],
        start=int(item["startTimeUnixNano"]),
        end=int(item["endTimeUnixNano"]),
        status=item["status"]["code"],
        message=item["status"]["message"],
        attributes=_attributes(item["attributes"]),
        events=[(event["name"], _attributes(event["attributes"])) for event in item["events"]],
    )


def _points(item: dict[str, Any]) -> list[dict[str, Any]]:
    [kind] = [item[kind] for kind in ("histogram", "sum", "gauge") if kind in item]
    found = []
    for point in kind["dataPoints"]:
        value = point.get("asInt", point.get("asDouble"))
        found.append(
            {
                "attributes": _attributes(point["attributes"]),
                **({"value": float(value)} if value is not None else {}),
                **({"count": int(point["count"]), "sum": point["sum"]} if "count" in point else {}),
            }
        )
    return found


def _attributes(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: _value(item["value"]) for item in items}


def _value(value: dict[str, Any]) -> Any:
    if "arrayValue" in value:
        return [_value(item) for item in value["arrayValue"]["values"]]
    if "kvlistValue" in value:
        return _attributes(value["kvlistValue"]["values"])
    [(kind, plain)] = value.items()
    return int(plain) if kind == "intValue" else plain


@dataclass
class Receiver:
    """A receiver that answers with `status`, or not at all before `released`; it keeps each body with its path."""

    url: str
    status: int = 200
    hangs: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        """All that came, as bytes: protobuf has texts as they are."""
        return b"".join(body for _, body in self.bodies)

    def resources(self) -> list[dict[str, Any]]:
        """Return the attributes of the resource of each request with spans, decoded by OpenTelemetry's own types."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [
            {item.key: item.value.string_value for item in part.resource.attributes}
            for path, body in self.bodies
            if path.endswith("/v1/traces")
            for part in ExportTraceServiceRequest.FromString(body).resource_spans
        ]


@contextmanager
def receiving(*, status: int = 200, hangs: bool = False) -> Iterator[Receiver]:
    """Run a receiver on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.bodies.append((self.path, body))
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            if receiver.hangs:
                receiver.released.wait(LIMIT)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}", status, hangs)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.released.set()
            server.shutdown()
            thread.join()

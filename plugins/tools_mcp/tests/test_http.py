"""Servers of streamable HTTP: a scripted one on a real socket that misbehaves when it is told to."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import resource
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from afk_tools_mcp import ServerSettings
from afk_tools_mcp.guard import MAX_MESSAGE_BYTES

from afkcli.plugin import ToolError

OBJECT = {"type": "object", "properties": {}}
BIG = MAX_MESSAGE_BYTES + 1024
SESSION = "session-1"
PNG = b"\x89PNG\r\n\x1a\n\x00 and so on"
PICTURE = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}


_NOTE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "method": "notifications/message",
    "params": {"level": "info", "data": "working"},
}


def _event(message: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(message)}\n\n".encode()


class HttpServer(ThreadingHTTPServer):
    """Answers each tool call by the method of its name; `requests` are (method, path, headers), all that came in."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.calls: list[str] = []
        self.stopped = threading.Event()
        self.answer_instead: Callable[[Handler], bool] = lambda handler: False
        self.known_session = SESSION
        self.event_stream = b""
        self.is_modern = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def _record(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers))

    def do_GET(self) -> None:
        self._record()
        if self.server.event_stream:
            self.stream(iter([self.server.event_stream]))
        else:
            self.reply(405)

    def do_DELETE(self) -> None:
        self._record()
        self.reply(200)

    def do_POST(self) -> None:
        self._record()
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.answer_instead(self):
            return
        if "method" not in message:  # the answer to a ping
            self.reply(202)
            return
        method, self.id = message["method"], message.get("id")
        if method == "initialize":
            about = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}}
            result = {**about, "serverInfo": {"name": "scripted", "version": "1"}}
            self.result(result, {"mcp-session-id": SESSION})
        elif self.id is None:
            self.reply(202)
        elif self.server.is_modern:
            self.modern(method, message["params"])
        elif self.headers.get("mcp-session-id") != self.server.known_session:
            self.reply(404)
        elif method == "tools/list":
            names = [name.removeprefix("tool_") for name in dir(self) if name.startswith("tool_")]
            self.result({"tools": [{"name": name, "inputSchema": OBJECT} for name in names]})
        else:
            self.server.calls.append(message["params"]["name"])
            getattr(self, f"tool_{message['params']['name']}")()

    def modern(self, method: str, params: dict[str, Any]) -> None:
        complete = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        results: dict[str, Any] = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
            "tools/list": {"tools": [{"name": "hello", "inputSchema": OBJECT}]},
            "tools/call": {"content": [{"type": "text", "text": "hello"}]},
        }
        if method == "tools/list":
            results[method]["tools"].append({"name": "picture", "inputSchema": OBJECT})
        if params.get("name") == "picture":
            results[method] = {"content": [PICTURE]}
        self.result({**results[method], **complete})

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def result(self, result: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": self.id, "result": result}).encode()
        self.reply(200, body, {"content-type": "application/json", **(headers or {})})

    def text(self, text: str) -> None:
        self.result({"content": [{"type": "text", "text": text}]})

    def stream(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)

    # -- tools ---------------------------------------------------------------------------------------------------------

    def tool_hello(self) -> None:
        self.text("hello")

    def tool_picture(self) -> None:
        self.result({"content": [PICTURE]})

    def tool_streamed(self) -> None:
        answer = {"jsonrpc": "2.0", "id": self.id, "result": {"content": [{"type": "text", "text": "streamed"}]}}
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
        self.stream(iter([f"data: {json.dumps(note)}\n\ndata: {json.dumps(answer)}\n\n".encode()]))

    def tool_hang(self) -> None:
        self.server.stopped.wait()

    def tool_big(self) -> None:
        self.text("x" * BIG)

    def tool_bomb(self) -> None:
        answer = {"jsonrpc": "2.0", "id": self.id, "result": {"content": [{"type": "text", "text": "x" * BIG}]}}
        body = gzip.compress(json.dumps(answer).encode())
        self.reply(200, body, {"content-type": "application/json", "content-encoding": "gzip"})

    def tool_big_event(self) -> None:
        self.stream(iter([b"data: ", b"x" * BIG, b"\n\n"]))

    def tool_endless_events(self) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
        event = f"data: {json.dumps(note)}\n\n".encode() * 100
        self.stream(event for _ in iter(self.server.stopped.is_set, True))

    def tool_endless_comments(self) -> None:
        self.stream(b": still here\n\n" * 1000 for _ in iter(self.server.stopped.is_set, True))

    def tool_large_bomb(self) -> None:
        """A gigabyte, packed into one megabyte of a thousand members."""
        body = gzip.compress(b" " * 2**20, 9) * 1024
        self.reply(200, body, {"content-type": "application/json", "content-encoding": "gzip"})

    def tool_large_stream_bomb(self) -> None:
        self.begin(
            gzip.compress(b": x\n" * 2**24, 9), {"content-type": "text/event-stream", "content-encoding": "gzip"}
        )

    def tool_endless_json(self) -> None:
        self.begin(b'{"jsonrpc": "', {"content-type": "application/json"})
        while not self.server.stopped.is_set():
            self.wfile.write(b"x" * 65536)

    def tool_endless_error(self) -> None:
        self.begin(b'{"error": "', {"content-type": "application/json"}, status=400)
        while not self.server.stopped.is_set():
            self.wfile.write(b"x" * 65536)

    def tool_endless_event(self) -> None:
        self.begin(b"data: ", {"content-type": "text/event-stream"})
        while not self.server.stopped.is_set():
            self.wfile.write(b"x" * 65536)

    def tool_stalled_json(self) -> None:
        self.begin(b'{"jsonrpc": ', {"content-type": "application/json", "content-length": "100"})
        self.server.stopped.wait()

    def tool_blank_json(self) -> None:
        """Blanks, as some servers send them to keep a connection open, in the middle of an answer."""
        self.begin(b'{"jsonrpc": ', {"content-type": "application/json"})
        while not self.server.stopped.wait(0.02):
            self.wfile.write(b" \n")

    def tool_stalled_error(self) -> None:
        self.begin(b'{"error": ', {"content-type": "application/json", "content-length": "100"}, status=400)
        self.server.stopped.wait()

    def begin(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        self.wfile.write(body)
        self.wfile.flush()

    def noted(self, pieces: Callable[[int], bytes]) -> None:
        """Send a message, and then these pieces again and again."""
        self.begin(_event(_NOTE), {"content-type": "text/event-stream"})
        number = 0
        while not self.server.stopped.wait(0.02):
            number += 1
            self.wfile.write(pieces(number))

    def tool_then_comments(self) -> None:
        self.noted(lambda number: b": keep-alive\n\n")

    def tool_then_empty_events(self) -> None:
        self.noted(lambda number: b"event: message\ndata:\n\n")

    def tool_then_pings(self) -> None:
        self.noted(lambda number: _event({"jsonrpc": "2.0", "id": f"p{number}", "method": "ping"}))

    def tool_then_the_same(self) -> None:
        self.noted(lambda number: _event(_NOTE))

    def tool_then_a_long_event(self) -> None:
        self.noted(lambda number: b"data: x" if number == 1 else b"x")

    def tool_then_silence(self) -> None:
        self.begin(_event(_NOTE), {"content-type": "text/event-stream"})
        self.server.stopped.wait()

    def tool_slow(self) -> None:
        """Messages that say something, for longer than a server may be silent, and then the answer."""
        self.begin(b"", {"content-type": "text/event-stream"})
        for number in range(60):
            self.wfile.write(_event({**_NOTE, "params": {"level": "info", "data": number}}))
            self.server.stopped.wait(0.05)
        answer = {"jsonrpc": "2.0", "id": self.id, "result": {"content": [{"type": "text", "text": "slow"}]}}
        self.wfile.write(_event(answer))

    def tool_late(self) -> None:
        """Only comments before the answer: a tool works, and may take the time of the call."""
        self.begin(b"", {"content-type": "text/event-stream"})
        for _ in range(60):
            self.wfile.write(b": working\n\n")
            self.server.stopped.wait(0.05)
        answer = {"jsonrpc": "2.0", "id": self.id, "result": {"content": [{"type": "text", "text": "late"}]}}
        self.wfile.write(_event(answer))

    def tool_cut(self) -> None:
        self.stream(iter([b"data: {"]))

    def tool_broken(self) -> None:
        self.reply(500, b"<html>stack trace</html>", {"content-type": "text/html"})

    def tool_page(self) -> None:
        self.reply(200, b"<html>log in</html>", {"content-type": "text/html"})

    def tool_not_json(self) -> None:
        self.reply(200, b"{", {"content-type": "application/json"})

    def tool_forget_session(self) -> None:
        self.server.known_session = "another one"
        self.text("forgotten")


@pytest.fixture
def web() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def use(use_servers: Any, web: HttpServer, scenario: Any, **settings: Any) -> Any:
    return use_servers({"web": {"url": web.url, **settings}}, scenario)


def test_tools_are_listed_and_called(use_servers: Any, web: HttpServer) -> None:
    async def scenario(bench: Any) -> list[str]:
        return [await bench.call("web.hello"), await bench.call("web.streamed")]

    assert use(use_servers, web, scenario) == ["hello", "streamed"]
    assert web.requests[-1][0] == "DELETE"  # the session is ended


def test_headers_are_sent_with_every_request_and_masked(
    use_servers: Any, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_TOKEN", "token-5566778899")
    web.answer_instead = lambda handler: handler.server.calls == ["hello"] and _say_key(handler)

    def _say_key(handler: Handler) -> bool:
        handler.server.calls.append("said")
        error = {"code": -32000, "message": f"bad key {handler.headers['authorization']}"}
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "error": error}).encode()
        handler.reply(400, body, {"content-type": "application/json"})
        return True

    async def scenario(bench: Any) -> str:
        await bench.call("web.hello")
        return str(await bench.error("web.hello"))

    headers = {"Authorization": "Bearer ${WEB_TOKEN}", "X-Team": "garden"}
    error = use(use_servers, web, scenario, headers=headers)

    assert {request[2]["authorization"] for request in web.requests} == {"Bearer token-5566778899"}
    assert {request[2]["x-team"] for request in web.requests} == {"garden"}
    assert error == "the MCP server 'web' refused: bad key *** (HTTP 400 Bad Request)"


def listing_error(use_servers: Any, web: HttpServer, **settings: Any) -> str:
    async def scenario(bench: Any) -> str:
        with pytest.raises(ToolError) as caught:
            await bench.tools()
        return str(caught.value)

    line: str = use(use_servers, web, scenario, **settings)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_server_is_not_followed(use_servers: Any, web: HttpServer, status: int) -> None:
    with HttpServer() as other:
        web.answer_instead = lambda handler: handler.reply(status, headers={"location": other.url}) is None

        error = listing_error(use_servers, web, headers={"Authorization": "Bearer secret-0123456789"})

        assert other.requests == []
    origins = [server.url.removesuffix("/mcp") for server in (web, other)]
    assert f"redirects from {origins[0]} to {origins[1]} ({status})" in error
    assert f'set url = "{other.url}" in [tools.mcp.servers.web]' in error


def test_https_on_the_same_host_is_another_origin(use_servers: Any, web: HttpServer) -> None:
    there = web.url.replace("http:", "https:")
    web.answer_instead = lambda handler: handler.reply(308, headers={"location": there}) is None

    assert f'set url = "{there}"' in listing_error(use_servers, web)


def test_an_answer_of_millions_of_values_is_refused(use_servers: Any, web: HttpServer) -> None:
    body = b'{"jsonrpc": "2.0", "id": 1, "result": {"a": [[]' + b",[]" * 1_000_000 + b"]}}"
    web.answer_instead = lambda handler: handler.reply(200, body, headers={"content-type": "application/json"}) is None

    assert "more than 500000 values" in listing_error(use_servers, web)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_asks_for_authorization_is_an_error_that_names_the_setting(
    use_servers: Any, web: HttpServer, status: int
) -> None:
    web.answer_instead = lambda handler: handler.reply(status, headers={"www-authenticate": "Bearer"}) is None

    line = listing_error(use_servers, web)

    assert line.startswith(f"the MCP server 'web' at {web.url} asks for authorization (HTTP {status} ")
    assert 'set its token: headers = { Authorization = "Bearer ${NAME}" } in [tools.mcp.servers.web]' in line
    assert line.endswith("afk does not support OAuth yet")


def test_a_refused_key_is_reported(use_servers: Any, web: HttpServer) -> None:
    web.answer_instead = lambda handler: handler.reply(401) is None

    line = listing_error(use_servers, web, headers={"authorization": "Bearer wrong-token-123"})

    assert "check the Authorization header under `headers` in [tools.mcp.servers.web]" in line
    assert "wrong-token-123" not in line


def test_a_key_refused_in_a_call_is_reported(use_servers: Any, web: HttpServer) -> None:
    async def scenario(bench: Any) -> str:
        await bench.tools()
        web.answer_instead = lambda handler: handler.reply(401) is None
        return str(await bench.error("web.hello"))

    assert "asks for authorization (HTTP 401 Unauthorized)" in use_servers({"web": {"url": web.url}}, scenario)


@pytest.mark.parametrize("status", [400, 404, 405, 406])
def test_a_server_of_the_transport_before_says_which_one_it_wants(
    use_servers: Any, web: HttpServer, status: int
) -> None:
    web.answer_instead = lambda handler: handler.reply(status) is None
    web.event_stream = b"event: endpoint\r\ndata: /messages?session=1\r\n\r\n"

    line = listing_error(use_servers, web)

    assert "speaks the older transport HTTP with SSE (protocol 2024-11-05), and afk speaks streamable HTTP" in line


def test_an_event_stream_of_something_else_is_not_called_an_old_server(use_servers: Any, web: HttpServer) -> None:
    web.answer_instead = lambda handler: handler.reply(405) is None
    web.event_stream = b": hello\n\n"

    assert "older transport" not in listing_error(use_servers, web)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32602, "message": "Missing _meta"}}'),
        (400, b"Missing MCP-Protocol-Version header"),
        (404, b"not found"),
        (501, b"<html>no</html>"),
    ],
)
def test_a_server_of_the_newest_protocol_alone_is_asked_in_it(
    use_servers: Any, web: HttpServer, status: int, body: bytes
) -> None:
    """It refuses the handshake in any way, and each request has its version in its headers."""
    web.is_modern = True

    def refuse(handler: Handler) -> bool:
        if handler.headers.get("mcp-protocol-version") == "2026-07-28":
            return False
        kind = "application/json" if body.startswith(b"{") else "text/plain"
        handler.reply(status, body, {"content-type": kind})
        return True

    web.answer_instead = refuse

    async def scenario(bench: Any) -> str:
        return str(await bench.call("web.hello"))

    assert use_servers({"web": {"url": web.url}}, scenario) == "hello"
    methods = [headers.get("mcp-method") for method, _, headers in web.requests if method == "POST"]
    assert methods == ["server/discover", "tools/list", "tools/call"]


@pytest.mark.parametrize("is_modern", [False, True])
def test_an_image_comes_from_servers_of_both_eras(use_servers: Any, web: HttpServer, is_modern: bool) -> None:
    web.is_modern = is_modern
    if is_modern:
        web.answer_instead = lambda handler: (
            handler.headers.get("mcp-protocol-version") != "2026-07-28" and not handler.reply(404)
        )

    async def scenario(bench: Any) -> Any:
        return await (await bench.tools())["web.picture"].output({})

    output = use_servers({"web": {"url": web.url}}, scenario)
    assert list(output.contents.values()) == [PNG]
    assert output.text == f"[image, image/png, {len(PNG)} bytes]"


def test_an_unreachable_server_is_reported(use_servers: Any, web: HttpServer) -> None:
    with HttpServer() as gone:
        url = gone.url

    line = listing_error(use_servers, web, url=url)

    assert line.startswith(f"the connection to the MCP server 'web' at {url} failed: ")


def test_a_server_that_hangs_at_its_start_is_given_up(use_servers: Any, web: HttpServer) -> None:
    web.answer_instead = lambda handler: handler.server.stopped.wait() or True

    line = listing_error(use_servers, web, start_timeout=1)

    assert line == "the MCP server 'web' did not start and list its tools within 1 s"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("hang", "the MCP server 'web' did not answer within 2 s"),
        ("big", "an answer of more than 8 MB"),
        ("bomb", "an answer that is packed by gzip, which afk does not take"),
        ("large_bomb", "an answer that is packed by gzip, which afk does not take"),
        ("large_stream_bomb", "an answer that is packed by gzip, which afk does not take"),
        ("endless_json", "an answer of more than 8 MB"),
        ("endless_error", "HTTP 400 Bad Request"),
        ("endless_event", "exceeded the 8388608 byte limit"),
        ("big_event", "exceeded the 8388608 byte limit"),
        ("endless_events", "it sends more messages than afk takes"),
        ("endless_comments", "the MCP server 'web' did not answer within 2 s"),
        ("cut", "SSE stream ended without a response"),
        ("broken", "Server returned an error response (HTTP 500 Internal Server Error)"),
        ("page", "Unexpected content type: text/html"),
        ("not_json", "Failed to parse JSON response"),
    ],
)
def test_an_answer_that_is_none_fails_that_call(
    use_servers: Any, web: HttpServer, tool: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        await bench.call("web.hello")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error, after = await bench.error(f"web.{tool}"), await bench.call("web.hello")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # kilobytes, the server's too
        return error, after

    settings = {"timeout": 2} if "within 2 s" in said else {}
    error, after = use(use_servers, web, scenario, **settings)

    assert said in error
    assert "\n" not in error
    assert after == "hello"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "tool",
    [
        "stalled_json",
        "blank_json",
        "then_comments",
        "then_empty_events",
        "then_pings",
        "then_the_same",
        "then_a_long_event",
        "then_silence",
    ],
)
def test_an_answer_that_has_begun_and_stalls_fails_that_call(use_servers: Any, web: HttpServer, tool: str) -> None:
    """Whatever keeps the connection alive meanwhile; another call goes on, and the next one is answered."""

    async def scenario(bench: Any) -> tuple[str, str, str]:
        await bench.call("web.hello")
        beside = asyncio.ensure_future(bench.call("web.late"))
        error = await bench.error(f"web.{tool}")
        return error, await beside, await bench.call("web.hello")

    error, beside, after = use(use_servers, web, scenario, idle_timeout=1.0, timeout=60)

    assert "an answer that stalled for 1 s" in error
    assert "\n" not in error
    assert (beside, after) == ("late", "hello")


def test_the_body_of_an_error_that_stalls_fails_that_call(use_servers: Any, web: HttpServer) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        await bench.call("web.hello")
        return await bench.error("web.stalled_error"), await bench.call("web.hello")

    error, after = use(use_servers, web, scenario, idle_timeout=1.0, timeout=60)

    assert "HTTP 400" in error
    assert after == "hello"


@pytest.mark.parametrize("tool", ["slow", "late"])
def test_messages_are_progress_and_a_tool_may_work_before_its_first_one(
    use_servers: Any, web: HttpServer, tool: str
) -> None:
    async def scenario(bench: Any) -> str:
        return str(await bench.call(f"web.{tool}"))

    assert use(use_servers, web, scenario, idle_timeout=2.0) == tool


def test_a_body_of_json_stalls_for_a_minute_at_most_and_a_stream_for_the_time_of_the_call() -> None:
    settings = ServerSettings(url="http://127.0.0.1/mcp")

    assert (settings.idle_limit(is_stream=False), settings.idle_limit(is_stream=True)) == (60.0, None)


def test_idle_timeout_is_for_servers_of_http() -> None:
    with pytest.raises(ValueError, match="`idle_timeout` goes with `url`"):
        ServerSettings(command="true", idle_timeout=1.0)
    with pytest.raises(ValueError, match="`idle_timeout` is 0"):
        ServerSettings(url="http://127.0.0.1/mcp", idle_timeout=0)


def test_a_session_that_the_server_forgot_is_begun_anew_by_the_next_call(use_servers: Any, web: HttpServer) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        await bench.call("web.forget_session")
        error = await bench.error("web.hello")
        web.known_session = SESSION
        return error, await bench.call("web.hello")

    error, after = use(use_servers, web, scenario)

    assert error == "the MCP server 'web' refused: Session terminated (HTTP 404 Not Found)"
    assert after == "hello"


def test_a_server_that_does_not_answer_the_end_of_the_session_is_left(use_servers: Any, web: HttpServer) -> None:
    async def scenario(bench: Any) -> None:
        await bench.call("web.hello")
        web.answer_instead = lambda handler: True
        Handler.do_DELETE, before = lambda handler: handler.server.stopped.wait(), Handler.do_DELETE  # type: ignore
        try:
            await bench.toolset.aclose()
        finally:
            Handler.do_DELETE = before  # type: ignore[method-assign]

    use(use_servers, web, scenario)


def test_the_list_is_kept_as_that_of_a_program_is(use_servers: Any, web: HttpServer, home: Path) -> None:
    async def scenario(bench: Any) -> list[str]:
        return list(await bench.tools())

    first = use(use_servers, web, scenario)
    asked = len(web.requests)

    assert use(use_servers, web, scenario) == first
    assert len(web.requests) == asked

"""The second request of a provider has the head that the SDK made for the first; what becomes of it is the same."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import afk_provider_anthropic
import afk_provider_openai
import pytest

from afkcli.core.contract.errors import ProviderError
from afkcli.plugin import ModelRequest, ModelResponse, Role, text_message
from tests.providers.test_network_backend import serving

BOTH = pytest.mark.parametrize("plugin", [afk_provider_openai, afk_provider_anthropic])

CHAT = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]
MESSAGES: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "model": "m", "usage": {}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]


def response(status: str, body: bytes, *fields: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields])
    return f"{head}\r\n\r\n".encode() + body


def answer_of(plugin: Any) -> bytes:
    events = CHAT if plugin is afk_provider_openai else MESSAGES
    body = "".join(f"event: {one.get('type', 'x')}\ndata: {json.dumps(one)}\n\n" for one in events)
    end = "data: [DONE]\n\n" if plugin is afk_provider_openai else ""
    return response("200 OK", (body + end).encode(), "content-type: text/event-stream")


class Recorder:
    """Answers each request with the next of `responses`; None closes the connection without a word."""

    def __init__(self, *responses: bytes | None) -> None:
        self.heads: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self._responses = list(responses)
        self._lock = threading.Lock()

    def talk(self, connection: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            while len(data) < int(fields["content-length"]):
                data += connection.recv(65536)
            body, data = data[: int(fields["content-length"])], data[int(fields["content-length"]) :]
            with self._lock:
                self.heads.append({"": lines[0], **fields})
                self.bodies.append(json.loads(body))
                said = self._responses.pop(0) if self._responses else None
            if said is None:
                return
            connection.sendall(said)
            if b"connection: close" in said:
                return


@contextmanager
def provider_of(plugin: Any, server: Recorder, **settings: Any) -> Iterator[Any]:
    with serving(server.talk) as port:
        path = "/v1" if plugin is afk_provider_openai else ""
        yield plugin.afk_provider(
            plugin.Settings(api_key="k-12345", base_url=f"http://127.0.0.1:{port}{path}", **settings)
        )


async def ask(provider: Any, text: str = "hello", **more: Any) -> str:
    """Return the text of the answer, or the kind and the words of the error."""
    request = ModelRequest(model="m", messages=[text_message(Role.USER, text)], **more)
    try:
        async with aclosing(provider.stream(request)) as events:
            found = [event async for event in events if isinstance(event, ModelResponse)]
    except ProviderError as error:
        return f"{error.kind}: {error}"
    return found[-1].message.text


async def ask_all(provider: Any, *texts: str) -> list[str]:
    answers = [await ask(provider, text) for text in texts]
    await provider.aclose()
    return answers


@BOTH
def test_the_next_requests_have_the_same_head_and_their_own_body(plugin: Any) -> None:
    server = Recorder(*[answer_of(plugin)] * 3)
    with provider_of(plugin, server, headers={"x-team": "blue"}) as provider:
        assert asyncio.run(ask_all(provider, "one", "two äöü", "three" * 10_000)) == ["hi"] * 3
    first, *others = [
        {name: value for name, value in head.items() if name != "content-length"} for head in server.heads
    ]
    assert first["x-team"] == "blue"
    assert "k-12345" in first.get("authorization", first.get("x-api-key", ""))
    assert others == [first, first]
    texts = [json.dumps(body["messages"][-1], ensure_ascii=False) for body in server.bodies]
    assert ["one" in texts[0], "two äöü" in texts[1], "three" * 10_000 in texts[2]] == [True] * 3


@BOTH
@pytest.mark.parametrize(
    "said",
    [
        response("401 Unauthorized", b'{"error": {"message": "bad key"}}', "content-type: application/json"),
        response("429 Too Many Requests", b'{"error": {"message": "slow down"}}', "retry-after: 7"),
        response("500 Oops", b"<html>a page</html>", "content-type: text/html"),
        response("400 Bad", b'{"error": {"message": "context length exceeded"}}'),
        response("307 Elsewhere", b"", "location: http://example.org/v1"),
        response("200 OK", b"<html>a page</html>", "content-type: text/html"),
        response("200 OK", b"data: {", "content-type: text/event-stream"),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {}\n\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        None,
    ],
)
def test_what_goes_wrong_is_said_in_the_same_words(plugin: Any, said: bytes | None) -> None:
    closing = said if said is None else said.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    asked = []
    for answers_before in (0, 1):
        # More than once: a request that a kept connection loses is sent anew.
        server = Recorder(*[answer_of(plugin)] * answers_before, closing, closing, closing)
        with provider_of(plugin, server, first_byte_timeout=20, idle_timeout=20) as provider:
            answers = asyncio.run(ask_all(provider, *["question"] * (answers_before + 1)))
        asked.append(_without_port(answers[-1]))
    assert asked[0] == asked[1]
    assert ":" in asked[0]


@BOTH
def test_a_server_that_is_gone_is_said_in_the_same_words(plugin: Any) -> None:
    async def run(answers_before: int) -> str:
        closing = answer_of(plugin).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        with provider_of(plugin, Recorder(closing)) as provider:
            for _ in range(answers_before):
                assert await ask(provider) == "hi"
        gone = await ask(provider)
        await provider.aclose()
        return _without_port(gone)

    first, second = asyncio.run(run(0)), asyncio.run(run(1))
    assert first == second
    assert "refused the connection" in second


@BOTH
def test_a_request_that_is_not_answered_in_time_ends_as_the_first_would(plugin: Any) -> None:
    released = threading.Event()

    class Silent(Recorder):
        def talk(self, connection: socket.socket) -> None:
            if self.heads:
                released.wait(30)
                return
            super().talk(connection)
            released.wait(30)  # the second request has no answer

    server = Silent(answer_of(plugin))
    try:
        with provider_of(plugin, server, first_byte_timeout=3, idle_timeout=20) as provider:
            answers = asyncio.run(ask_all(provider, "one", "two"))
    finally:
        released.set()
    assert answers[0] == "hi"
    assert answers[1].startswith("timeout: ")
    assert "did not answer within 3 s" in answers[1]


def test_requests_with_other_headers_have_a_head_of_their_own() -> None:
    server = Recorder(*[answer_of(afk_provider_anthropic)] * 4)
    with provider_of(afk_provider_anthropic, server) as provider:

        async def run() -> None:
            for kind in ("clear_tool_uses_20250919", "compact_20260112", "clear_tool_uses_20250919", None):
                await ask(provider, extra={"context_management": {"edits": [{"type": kind}]}} if kind else {})
            await provider.aclose()

        asyncio.run(run())
    clear, compact, again, nothing = [head.get("anthropic-beta") for head in server.heads]
    assert clear == again
    assert nothing is None
    assert len({clear, compact, nothing}) == 3


@BOTH
def test_another_event_loop_has_a_client_of_its_own(plugin: Any) -> None:
    server = Recorder(*[answer_of(plugin)] * 4)
    with provider_of(plugin, server) as provider:
        for _ in range(2):
            assert asyncio.run(ask_all(provider, "one", "two")) == ["hi", "hi"]


@BOTH
def test_a_preview_has_the_head_of_the_request_and_does_not_send_it(plugin: Any) -> None:
    server = Recorder(*[answer_of(plugin)] * 2)
    with provider_of(plugin, server) as provider:

        async def run() -> Any:
            await ask(provider, "one")
            request = ModelRequest(model="m", messages=[text_message(Role.USER, "two")])
            seen = await provider.preview(request)
            await ask(provider, "three")
            await provider.aclose()
            return seen

        seen = asyncio.run(run())
    assert "two" in json.dumps(seen.body)
    assert len(server.heads) == 2


def _without_port(text: str) -> str:
    return re.sub(r"(127\.0\.0\.1)(:|', )\d+", r"\1", text)

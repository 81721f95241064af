"""What servers that speak the Messages API really send: what is shown, remembered and sent is the same."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from afk_provider_anthropic import Settings, afk_provider
from afk_provider_anthropic.answer import AnswerReader
from afk_provider_anthropic.request import request_body, request_prefix
from afk_provider_anthropic.settings import server_from

from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ProviderData,
    ProviderError,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    text_message,
)
from afkcli.providers.tool_names import ToolNames

QUESTION = text_message(Role.USER, "q")
END = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]
CALLED = [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]


def request(*messages: Message, model: str = "m") -> ModelRequest:
    return ModelRequest(model=model, messages=messages or (QUESTION,))


def events_of(*events: dict[str, Any], asked: ModelRequest | None = None) -> list[ModelEvent]:
    asked = asked or request()
    names = ToolNames.of(asked)
    reader = AnswerReader(server_from(Settings(api_key="k")), asked, names, request_prefix(asked, names))
    seen = list(reader.feed([json.dumps(event) for event in events]))
    return [*seen, *reader.close(), reader.response()]


def start(index: Any, block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def text(index: Any, piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}}


def arguments(index: Any, piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}


def thinking(index: Any, piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "thinking_delta", "thinking": piece}}


def signature(index: Any) -> dict[str, Any]:
    delta = {"type": "signature_delta", "signature": "s"}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def response_of(events: list[ModelEvent]) -> ModelResponse:
    assert isinstance(events[-1], ModelResponse)
    return events[-1]


def shown(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def sent_back(message: Message) -> list[dict[str, Any]]:
    """Return the blocks of an answer as the next request has them."""
    body = request_body(server_from(Settings(api_key="k", cache=False)), request(QUESTION, message, QUESTION), names())
    content: list[dict[str, Any]] = body["messages"][1]["content"]
    return content


def names() -> ToolNames:
    return ToolNames(["f"])


TEXT = {"type": "text", "text": ""}
STOP = {"type": "content_block_stop"}


@pytest.mark.parametrize(
    "events",
    [
        [start(0, TEXT), text(0, "one "), start(0, TEXT), text(0, "two")],
        [start(0, TEXT), text(0, "one "), {**STOP, "index": 0}, start(0, TEXT), text(0, "two"), {**STOP, "index": 0}],
        [start(0, TEXT), start(1, TEXT), text(0, "one "), text(1, "two")],
        [start(1, TEXT), text(1, "one "), start(0, TEXT), text(0, "two")],
        [start(0, TEXT), start(1, TEXT), text(0, "o"), text(1, "n"), text(0, "e "), text(1, "two")],
        [start("0", TEXT), text(0, "one "), text("0", "two")],
        [start(0.0, TEXT), text(0, "one "), text(0.0, "two")],
        [start(None, TEXT), text(None, "one "), text(None, "two")],
        [text(0, "one "), text(0, "two")],
        [text(None, "one two")],
        [start(0, None), text(0, "one two")],
        [start(0, {"type": "text", "text": None}), text(0, None), text(0, "one two"), text(0, None)],
        [start(0, {"text": "one "}), text(0, "two")],
        [start(0, {"type": "text", "text": "one two"})],
        [start(0, TEXT), {**STOP, "index": 0, "content_block": {"type": "text", "text": "one two"}}],
        [{"type": "content_block_delta", "index": 0, "delta": {"text": "one two"}}],
        [start(0, TEXT), text(0, "one two"), {"type": "content_block_delta", "index": 0, "delta": None}],
        [{"type": "message_start", "message": None}, {"type": "ping", "data": None}, text(0, "one two")],
        [{"type": "message_start", "message": {"usage": None, "model": None, "content": []}}, text(0, "one two")],
        [start(0, TEXT), text(0, "one two"), {"type": "message_delta", "delta": None, "usage": None}],
    ],
)  # fmt: skip
def test_a_text_is_remembered_and_sent_as_it_was_shown(events: list[dict[str, Any]]) -> None:
    seen = events_of(*events, *END)

    message = response_of(seen).message
    assert shown(seen) == message.text == "".join(block["text"] for block in sent_back(message))
    assert message.text == "one two"


@pytest.mark.parametrize(
    "events",
    [
        [start(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}}), arguments(0, '{"n": 1}'),
         start(0, {"type": "tool_use", "id": "b", "name": "f", "input": {}}), arguments(0, '{"n": 2}')],
        [start(0, {"type": "tool_use", "id": "a", "name": "f"}), start(1, {"type": "tool_use", "id": "b", "name": "f"}),
         arguments(0, '{"n"'), arguments(1, '{"n"'), arguments(0, ": 1}"), arguments(1, ": 2}")],
        [start(None, {"type": "tool_use", "id": "a", "name": "f"}), arguments(None, '{"n": 1}'),
         start(None, {"type": "tool_use", "id": "b", "name": "f"}), arguments(None, '{"n": 2}')],
        [start(0, {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 1}}),
         start(0, {"type": "tool_use", "id": "b", "name": "f", "input": {"n": 2}})],
        [start(0, {"type": "tool_use", "id": "a", "name": "f"}), arguments(0, {"n": 1}),
         start(1, {"type": "tool_use", "id": "b", "name": "f"}), arguments(1, {"n": 2})],
        [start(0, TEXT), start(0, {"type": "tool_use", "id": "a", "name": "f"}), arguments(0, '{"n": 1}'),
         start(0, {"id": "b", "name": "f", "input": {}}), arguments(0, '{"n": 2}')],
    ],
)  # fmt: skip
def test_calls_are_told_apart_by_their_starts(events: list[dict[str, Any]]) -> None:
    seen = events_of(*events, *CALLED)

    message = response_of(seen).message
    assert [(call.id, call.name, call.arguments) for call in message.tool_calls] == [
        ("a", "f", {"n": 1}),
        ("b", "f", {"n": 2}),
    ]
    for call in message.tool_calls:
        said = "".join(e.arguments for e in seen if isinstance(e, ToolCallDelta) and e.id == call.id)
        assert said == "" or json.loads(said) == call.arguments


@pytest.mark.parametrize("given", [None, "", "  ", "null", "{}"])
def test_no_arguments_are_an_empty_object(given: str | None) -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": None}
    [made] = response_of(events_of(start(0, call), arguments(0, given), *CALLED)).message.tool_calls

    assert (made.arguments, made.invalid_arguments) == ({}, None)


@pytest.mark.parametrize("given", ["[1]", "3", '"text"', "{"])
def test_arguments_that_are_no_object_are_kept_for_the_error(given: str) -> None:
    call = {"type": "tool_use", "id": "a", "name": "f"}
    [made] = response_of(events_of(start(0, call), arguments(0, given), *CALLED)).message.tool_calls

    assert (made.arguments, made.invalid_arguments) == ({}, given)


def test_a_start_that_comes_twice_is_one_call() -> None:
    call = start(0, {"type": "tool_use", "id": "a", "name": "f", "input": {}})
    message = response_of(events_of(call, call, arguments(0, '{"n": 1}'), *CALLED)).message

    assert [made.arguments for made in message.tool_calls] == [{"n": 1}]


def test_thinking_and_text_with_one_index_and_no_starts_are_two_blocks() -> None:
    seen = events_of(thinking(0, "hm "), thinking(0, "so"), text(0, "yes"), *END)

    assert response_of(seen).message.parts == (ReasoningPart(text="hm so"), TextPart(text="yes"))


@pytest.mark.parametrize(
    "events",
    [
        [thinking(0, "hm"), signature(0)],
        [thinking(0, "h"), {**signature(0), "delta": {"type": "thinking_delta", "thinking": "m", "signature": "s"}}],
        [thinking(0, "hm"), signature(1)],
        [start(0, {"type": "thinking", "thinking": "hm", "signature": "s"})],
    ],
)  # fmt: skip
def test_a_signature_is_found_wherever_it_comes(events: list[dict[str, Any]]) -> None:
    message = response_of(events_of(*events, text(1, "yes"), *END)).message

    assert sent_back_with_its_tools(message) == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "yes"},
    ]


def sent_back_with_its_tools(message: Message) -> list[dict[str, Any]]:
    """Return the blocks of an answer as the next request has them, behind what the answer was made behind."""
    server = server_from(Settings(api_key="k", cache=False))
    content: list[dict[str, Any]] = request_body(server, request(QUESTION, message, QUESTION), ToolNames(()))[
        "messages"
    ][1]["content"]
    return content


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (
            {"type": "object", "anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}]},
            {"type": "object", "properties": {"a": {}, "b": {}}},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]}]},
            {"type": "object", "properties": {"a": {"type": "string"}}},
        ),
        (
            {"allOf": [{"type": "object", "properties": {"a": {}}, "required": ["a"]}], "required": ["b"]},
            {"type": "object", "properties": {"a": {}}, "required": ["b", "a"]},
        ),
        (
            {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}]}}},
            {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}]}}},
        ),
    ],
)
def test_choices_at_the_top_of_a_tools_schema_are_not_sent(schema: dict[str, Any], sent: dict[str, Any]) -> None:
    asked = ModelRequest(
        model="m", messages=(QUESTION,), tools=(ToolSpec(name="f", description="d", parameters=schema),)
    )

    assert (
        request_body(server_from(Settings(api_key="k", cache=False)), asked, names())["tools"][0]["input_schema"]
        == sent
    )


HALVES = ("\ud83d", "\ude00")


@pytest.mark.parametrize(
    ("kind", "make"),
    [("text", text), ("reasoning", thinking)],
)
def test_a_character_that_is_cut_in_two_is_joined(kind: str, make: Any) -> None:
    seen = events_of(make(0, f"a{HALVES[0]}"), make(0, f"{HALVES[1]}b"), text(1, "."), *END)

    first = response_of(seen).message.parts[0]
    assert isinstance(first, (TextPart, ReasoningPart))
    assert first.text in ("a\U0001f600b", "a\U0001f600b.")
    assert not any("\ufffd" in event.text for event in seen if isinstance(event, (TextDelta, ReasoningDelta)))


def test_a_character_of_arguments_that_is_cut_in_two_is_joined() -> None:
    call = start(0, {"type": "tool_use", "id": "a", "name": "f"})
    pieces = [arguments(0, '{"n": "' + HALVES[0]), arguments(0, HALVES[1] + '"}')]
    [made] = response_of(events_of(call, *pieces, *CALLED)).message.tool_calls

    assert made.arguments == {"n": "\U0001f600"}


def test_half_a_character_that_nothing_follows_is_shown_as_it_is_remembered() -> None:
    seen = events_of(text(0, "a" + HALVES[0]), *END)

    assert shown(seen) == response_of(seen).message.text == "a\ufffd"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("network_error", ErrorKind.TRUNCATED),
        ("made_up", ErrorKind.TRUNCATED),
        ("tool_use", ErrorKind.TRUNCATED),
        ("error", ErrorKind.TRUNCATED),
    ],
)
def test_an_end_that_is_not_known_to_be_a_success_is_none(reason: str, kind: ErrorKind) -> None:
    with pytest.raises(ProviderError, match=reason) as caught:
        events_of(text(0, "a"), {"type": "message_delta", "delta": {"stop_reason": reason}})

    assert caught.value.kind is kind


def test_a_server_that_fails_before_it_says_anything_is_asked_again() -> None:
    with pytest.raises(ProviderError) as caught:
        events_of({"type": "message_delta", "delta": {"stop_reason": "network_error"}})

    assert caught.value.kind is ErrorKind.OVERLOADED


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", FinishReason.STOP), ("length", FinishReason.LENGTH), ("END_TURN", FinishReason.STOP)],
)
def test_the_words_of_other_apis_for_an_end_are_known(reason: str, finish: FinishReason) -> None:
    seen = events_of(text(0, "a"), {"type": "message_delta", "delta": {"stop_reason": reason}})

    assert response_of(seen).finish_reason is finish


def test_a_block_that_ends_as_something_else_is_noticed() -> None:
    end = {"type": "content_block_stop", "index": 0, "content_block": {"type": "text", "text": "other"}}
    seen = events_of(start(0, TEXT), text(0, "one"), end, *END)

    assert response_of(seen).message.text == shown(seen) == "one"
    assert [event.code for event in seen if isinstance(event, ModelWarning)] == ["answer_differs"]


def test_numbers_in_other_forms_are_read() -> None:
    usage = {"input_tokens": 3.0, "output_tokens": "4", "cache_read_input_tokens": -1}
    told = response_of(events_of(text(0, "a"), {**END[0], "usage": usage})).usage

    assert told is not None
    assert told.input_tokens == 3
    assert min(told.output_tokens, told.cache_read_input_tokens) >= 0
    assert "cache_read_input_tokens" in told.unknown


# What goes back, and where


def thought(**data: Any) -> Message:
    own = {"type": "thinking", "thinking": "t", "signature": "s"}
    names = ToolNames(())
    payload = {"block": own, "prefix": request_prefix(request(), names), **data.pop("payload", {})}
    about = {"provider": "anthropic", "api": "messages", "model": "m", **data}
    part = ReasoningPart(text="t", provider_data=ProviderData(payload=payload, **about))
    return Message(role=Role.ASSISTANT, parts=(part, TextPart(text="a")))


def kinds_at(message: Message, **settings: Any) -> list[str]:
    server = server_from(Settings(api_key="k", **settings))
    body = request_body(server, request(QUESTION, message, QUESTION), ToolNames(()))
    return [block["type"] for block in body["messages"][1]["content"]]


def test_thinking_goes_back_only_to_the_server_and_model_that_signed_it() -> None:
    here, there = "https://api.anthropic.com", "http://127.0.0.1:8080/anthropic"

    assert kinds_at(thought(payload={"server": here})) == ["thinking", "text"]
    assert kinds_at(thought(payload={"server": there}), base_url=f"{there}?key=1") == ["thinking", "text"]
    assert kinds_at(thought(payload={"server": there})) == ["text"]
    assert kinds_at(thought(payload={"server": here}), base_url=there) == ["text"]
    assert kinds_at(thought(payload={"server": here}, model="other")) == ["text"]
    assert kinds_at(thought(payload={"server": here}, provider="openai", api="responses")) == ["text"]


def test_what_version_0_1_stored_goes_back_to_anthropic_alone() -> None:
    assert kinds_at(thought()) == ["thinking", "text"]
    assert kinds_at(thought(), base_url="http://127.0.0.1:8080") == ["text"]


def test_an_id_that_a_server_gives_in_every_step_is_sent_as_many() -> None:
    steps: list[Message] = []
    for n in range(3):
        call = ToolCallPart(id="call_0", name="f", arguments={"n": n})
        result = ToolResultPart(id="call_0", name="f", parts=(TextPart(text=str(n)),))
        steps += [Message(role=Role.ASSISTANT, parts=(call,)), Message(role=Role.TOOL, parts=(result,))]
    body = request_body(server_from(Settings(api_key="k")), request(QUESTION, *steps), names())

    calls = [block for message in body["messages"] for block in message["content"] if block["type"] == "tool_use"]
    results = [block for message in body["messages"] for block in message["content"] if block["type"] == "tool_result"]
    assert len({call["id"] for call in calls}) == 3
    assert [result["tool_use_id"] for result in results] == [call["id"] for call in calls]


@pytest.mark.parametrize("odd", ["call:1/ü", "functions.f:0", "a b", "x" * 65, ""])
def test_ids_are_of_the_form_that_the_api_allows(odd: str) -> None:
    call = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id=odd, name="f", arguments={}),))
    result = Message(role=Role.TOOL, parts=(ToolResultPart(id=odd, name="f", parts=()),))
    messages = request_body(server_from(Settings(api_key="k")), request(QUESTION, call, result), names())["messages"]

    sent = messages[1]["content"][0]["id"]
    assert 0 < len(sent) <= 64
    assert all(char.isascii() and (char.isalnum() or char in "_-") for char in sent)
    assert messages[2]["content"][0]["tool_use_id"] == sent


@pytest.mark.parametrize("odd", ["functions.f:0", "x" * 65, "toolu_1__thought__a+b/c="])
def test_the_id_of_a_server_of_odd_form_goes_back_to_it_alone(odd: str) -> None:
    seen = events_of(start(0, {"type": "tool_use", "id": odd, "name": "f"}), *CALLED)
    call = response_of(seen).message
    result = Message(role=Role.TOOL, parts=(ToolResultPart(id=odd, name="f", parts=()),))

    def sent(model: str = "m", **settings: Any) -> tuple[str, str]:
        server = server_from(Settings(api_key="k", **settings))
        messages = request_body(server, request(QUESTION, call, result, model=model), names())["messages"]
        return messages[1]["content"][0]["id"], messages[2]["content"][0]["tool_use_id"]

    assert sent() == (odd, odd)
    for id_, of_result in (sent(model="other"), sent(base_url="http://127.0.0.1:8080")):
        assert id_ == of_result != odd


def test_a_call_with_an_id_of_an_earlier_step_gets_another() -> None:
    old = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="call_0", name="f", arguments={}),))
    result = Message(role=Role.TOOL, parts=(ToolResultPart(id="call_0", name="f", parts=(TextPart(text="r"),)),))
    seen = events_of(
        start(0, {"type": "tool_use", "id": "call_0", "name": "f"}), *CALLED, asked=request(QUESTION, old, result)
    )

    assert response_of(seen).message.tool_calls[0].id != "call_0"


def test_messages_begin_with_a_user_and_take_turns() -> None:
    said = [text_message(Role.ASSISTANT, "first"), QUESTION, text_message(Role.ASSISTANT, ""), QUESTION, QUESTION]
    messages = request_body(server_from(Settings(api_key="k")), request(*said), names())["messages"]

    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert all(block.get("text") for message in messages for block in message["content"])


# Over the wire


class Raw(BaseHTTPRequestHandler):
    status = 200
    kind = "text/event-stream"
    body = b""
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.status)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def raw() -> Iterator[type[Raw]]:
    class Handler(Raw):
        pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    yield Handler
    server.shutdown()
    server.server_close()


def ask(raw: type[Raw]) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=raw.url))  # type: ignore[attr-defined]
        try:
            return [event async for event in provider.stream(request())]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_a_whole_answer_in_place_of_a_stream_is_taken(raw: type[Raw]) -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "hello"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"n": 1}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 2}
    raw.kind = "application/json"
    raw.body = json.dumps({"type": "message", "content": content, "stop_reason": "tool_use", "usage": usage}).encode()

    seen = ask(raw)

    answer = response_of(seen)
    assert shown(seen) == answer.message.text == "hello"
    assert [call.arguments for call in answer.message.tool_calls] == [{"n": 1}]
    assert (answer.finish_reason, answer.usage and answer.usage.output_tokens) == (FinishReason.TOOL_CALLS, 2)


@pytest.mark.parametrize(
    "noise",
    [
        b"data:\n\n",
        b": keep-alive\n\n",
        b"event: ping\ndata:\n\n",
        b"event: ping\ndata: {}\n\n",
        b"\xef\xbb\xbf",
        b"id: 1\nretry: 3\n\n",
    ],
)
def test_keep_alives_and_a_byte_order_mark_are_no_fault(raw: type[Raw], noise: bytes) -> None:
    middle = b"" if noise == b"\xef\xbb\xbf" else noise
    raw.body = noise + sse(text(0, "a")) + middle + sse(text(0, "b"), *END)

    seen = ask(raw)

    assert shown(seen) == response_of(seen).message.text == "ab"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'event: error\ndata: {"message": "too many", "code": 429}\n\n', ErrorKind.RATE_LIMIT),
        (
            b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "too many"}}\n\n',
            ErrorKind.OVERLOADED,
        ),
        (b'data: {"object": "error", "message": "too many", "code": 400}\n\n', ErrorKind.BAD_REQUEST),
        (b'{"error": {"message": "too many", "type": "invalid_request_error"}}', ErrorKind.BAD_REQUEST),
        (b'[{"error": {"code": 429, "message": "too many", "status": "RESOURCE_EXHAUSTED"}}]', ErrorKind.RATE_LIMIT),
        (b'{"detail": "too many"}', ErrorKind.OVERLOADED),
        (b"error: too many\n\n", ErrorKind.OVERLOADED),
    ],
)
def test_an_error_within_a_200_has_its_kind_and_the_servers_words(raw: type[Raw], body: bytes, kind: ErrorKind) -> None:
    raw.body = body

    with pytest.raises(ProviderError, match="too many") as caught:
        ask(raw)

    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("status", "kind", "body", "expected"),
    [
        (400, "application/json", b'{"error":{"type":"api_error","message":"why"}}', ErrorKind.BAD_REQUEST),
        (400, "application/json", b'{"error":{"message":"Invalid model name why"}}', ErrorKind.NOT_FOUND),
        (400, "application/json", b'{"error":{"message":"Invalid API key: why"}}', ErrorKind.AUTH),
        (422, "application/json", b'{"detail":[{"loc":["body","x"],"msg":"why"}]}', ErrorKind.BAD_REQUEST),
        (503, "text/html", b"<html><title>why</title></html>", ErrorKind.OVERLOADED),
        (429, "application/json", b'[{"error":{"message":"why"}}]', ErrorKind.RATE_LIMIT),
        (529, "application/json", b'{"error":{"type":"overloaded_error","message":"why"}}', ErrorKind.OVERLOADED),
    ],
)  # fmt: skip
def test_an_error_by_its_status_has_its_kind_and_the_servers_words(
    raw: type[Raw], status: int, kind: str, body: bytes, expected: ErrorKind
) -> None:
    raw.status, raw.kind, raw.body = status, kind, body

    with pytest.raises(ProviderError, match="why") as caught:
        ask(raw)

    assert caught.value.kind is expected


@pytest.mark.parametrize(
    "after",
    [
        b"data: {not json\n\n",
        b'data: {"type": "error", "error": {"type": "api_error", "message": "late"}}\n\n',
        b'event: error\ndata: {"message": "late"}\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_what_comes_after_the_stop_reason_costs_nothing_of_the_answer(raw: type[Raw], after: bytes) -> None:
    raw.body = sse(text(0, "a"), END[0]) + after

    assert response_of(ask(raw)).message.text == "a"


def test_an_answer_that_breaks_off_is_truncated(raw: type[Raw]) -> None:
    raw.body = sse(text(0, "a"))

    with pytest.raises(ProviderError) as caught:
        ask(raw)

    assert caught.value.kind is ErrorKind.TRUNCATED


@pytest.mark.parametrize("content", [[{"type": "text", "text": "ok"}], "ok", {"type": "text", "text": "ok"}])
def test_content_that_comes_in_the_start_alone_is_the_answer(content: Any) -> None:
    events = events_of({"type": "message_start", "message": {"content": content}}, *END)
    assert shown(events) == response_of(events).message.text == "ok"


def test_content_in_the_start_that_is_streamed_too_comes_once() -> None:
    first = {"type": "message_start", "message": {"content": [{"type": "text", "text": "ok"}]}}
    events = events_of(first, start(0, {"type": "text", "text": ""}), text(0, "ok"), *END)
    assert shown(events) == response_of(events).message.text == "ok"


@pytest.mark.parametrize("n", [1, 2])
def test_the_end_marker_of_chat_completions_is_one_here_too(n: int) -> None:
    asked = request()
    names = ToolNames.of(asked)
    reader = AnswerReader(server_from(Settings(api_key="k")), asked, names, request_prefix(asked, names))
    ends = [json.dumps(event) for event in (text(0, "ok"), *END[:n])]
    events = [*reader.feed([*ends, "[DONE]"]), *reader.close(), reader.response()]
    assert reader.ended
    assert [type(event).__name__ for event in events] == ["TextDelta", "ModelResponse"]

"""Chat Completions through LiteLLM as other servers speak it: read as the openai plugin reads it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from afk_provider_litellm import Settings, afk_provider

from afkcli.plugin import (
    ErrorKind,
    ImagePart,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ProviderError,
    ReasoningDelta,
    Role,
    TextDelta,
    TextPart,
    ToolResultPart,
    ToolSpec,
    Usage,
    text_message,
)
from afkcli.testing.model_server import ModelServer, Step

QUESTION = text_message(Role.USER, "q")
TOOLS = [ToolSpec(name=name, description="d", parameters={"type": "object"}) for name in ("look", "find")]
REQUEST = ModelRequest(model="openai/m", messages=[QUESTION], tools=TOOLS)
STREAM = {"Content-Type": "text/event-stream"}


def ask(server: ModelServer, *requests: ModelRequest, suffix: str = "", **settings: Any) -> list[ModelEvent]:
    return ask_at(server.base_url + suffix, *requests, **settings)


def ask_at(url: str, *requests: ModelRequest, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=url, api_key="k", **settings))
        try:
            return [event for request in requests or (REQUEST,) async for event in provider.stream(request)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def stream(*chunks: object) -> Step:
    lines = [chunk if isinstance(chunk, str) else f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Step(body="".join(lines), headers=STREAM)


def delta(finish: str | None = None, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def piece(arguments: Any = "", name: str = "", **fields: Any) -> dict[str, Any]:
    return {"function": {"arguments": arguments, **({"name": name} if name else {})}, **fields}


def pieces(*calls: dict[str, Any]) -> dict[str, object]:
    return delta(tool_calls=list(calls))


END = delta("tool_calls")
A, B = '{"a": 1}', '{"b": 2}'


@pytest.mark.parametrize(
    "chunks",
    [
        [pieces(piece(A, "look", index=0, id="x"), piece(B, "find", index=0, id="y"))],
        [pieces(piece("", "look", id="x")), pieces(piece(A)), pieces(piece("", "find", id="y")), pieces(piece(B))],
        [
            pieces(piece(A, index=0, id="x")),
            pieces(piece("", "look", index=0)),
            pieces(piece(B, "find", index=1, id="y")),
        ],
        [pieces(piece(A, "look", index=0, id="x")), pieces(piece(B, "find", index=1, id="x"))],
    ],
)
def test_two_calls_are_two_calls(model_server: ModelServer, chunks: list[dict[str, Any]]) -> None:
    model_server.script(stream(*chunks, END))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert [(call.name, call.arguments) for call in response.message.tool_calls] == [
        ("look", {"a": 1}),
        ("find", {"b": 2}),
    ]
    assert len({call.id for call in response.message.tool_calls}) == 2


def test_reasoning_and_signatures_go_back_to_where_they_came_from(model_server: ModelServer) -> None:
    call = piece(A, "look", index=0, id="functions.look:0", extra_content={"google": {"thought_signature": "s"}})
    model_server.script(stream(delta(reasoning_content="I think"), pieces(call), END))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    result = ToolResultPart(id=response.message.tool_calls[0].id, name="look", parts=(TextPart(text=""),))
    messages = [QUESTION, response.message, Message(role=Role.TOOL, parts=(result,))]
    model_server.script(stream(delta("stop", content="ok")))
    ask(model_server, ModelRequest(model="openai/m", messages=messages, tools=TOOLS))
    _, assistant, tool = model_server.bodies[-1]["messages"]
    assert assistant["reasoning_content"] == "I think"
    assert assistant["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"] == "functions.look:0"
    assert tool["content"] == "(no output)"
    ask(model_server, ModelRequest(model="openai/other", messages=messages, tools=TOOLS))
    assert "I think" not in json.dumps(model_server.bodies[-1])


@pytest.mark.parametrize(
    "body",
    [
        "data:\n\n{ok}{stop}",
        "{ok}data: \n\n: ping\n\n{stop}data: [DONE]\n\n",
        "\ufeff{ok}{stop}",
        "{ok}{stop}data: END\n\n",
        "{whole}",
    ],
)
def test_an_answer_in_another_form_is_read(model_server: ModelServer, body: str) -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}
    lines = {"ok": delta(content="ok"), "stop": delta("stop")}
    for name, chunk in lines.items():
        body = body.replace(f"{{{name}}}", f"data: {json.dumps(chunk)}\n\n")
    body = body.replace("{whole}", json.dumps(whole))
    kind = "application/json" if body.startswith("{") else "text/event-stream"
    model_server.script(Step(body=body, headers={"Content-Type": kind}))
    events = ask(model_server)
    assert isinstance(events[-1], ModelResponse)
    assert events[-1].message.text == "ok" == "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "body",
    [
        'data: {"object": "error", "message": "mark-why", "type": "BadRequestError", "code": 400}\n\n',
        'event: error\ndata: {"message": "mark-why", "code": 400}\n\n',
        'error: {"code": 400, "message": "mark-why"}\n\n',
        '{"error": {"code": 400, "message": "mark-why"}}',
    ],
)
def test_an_error_in_a_stream_is_read_in_any_shape(model_server: ModelServer, body: str) -> None:
    model_server.script(Step(body=body, headers=STREAM))
    with pytest.raises(ProviderError, match="mark-why") as caught:
        ask(model_server)
    assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_reasoning_halves_and_odd_counts_are_read(model_server: ModelServer) -> None:
    usage = {"prompt_tokens": 3.0, "completion_tokens": -1}
    model_server.script(
        stream(
            delta(content="<think>t</think>"),
            delta(content="a\ud83d"),
            delta(content="\ude00"),
            delta("stop"),
            {"choices": [], "usage": usage},
        )
    )
    *events, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.text == "a😀"
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["t"]
    assert response.usage == Usage(input_tokens=3, unknown=("output_tokens", "total_tokens"))


def test_a_field_that_the_server_refuses_is_left_out_with_a_warning(model_server: ModelServer) -> None:
    model_server.script(stream(delta(reasoning_content="I think"), pieces(piece(A, "look", index=0, id="x")), END))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    result = ToolResultPart(id="x", name="look", parts=(TextPart(text="seen"),))
    messages = [QUESTION, response.message, Message(role=Role.TOOL, parts=(result,))]
    refusal = Step(status=400, body={"error": {"message": "Unknown field: reasoning_content"}})
    model_server.script(refusal, stream(delta("stop", content="ok")))
    events = ask(model_server, ModelRequest(model="openai/m", messages=messages, tools=TOOLS))
    assert [event.code for event in events if isinstance(event, ModelWarning)] == ["field_refused"]
    assert "reasoning_content" not in json.dumps(model_server.bodies[-1])


def test_an_end_that_is_not_known_as_a_success_is_none(model_server: ModelServer) -> None:
    model_server.script(stream(delta(content="a"), delta("network_error")))
    with pytest.raises(ProviderError, match="network_error") as caught:
        ask(model_server)
    assert caught.value.kind is ErrorKind.TRUNCATED


def test_the_query_of_the_base_url_goes_with_the_request(model_server: ModelServer) -> None:
    model_server.script(stream(delta("stop", content="ok")))
    ask(model_server, suffix="?api-version=2024-10-21")
    (request,) = model_server.requests
    assert request.path == "/v1/chat/completions?api-version=2024-10-21"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(("model", "index"), [("openai/m", 1), ("groq/m", 1), ("anthropic/m", None)])
def test_the_message_that_a_server_names_is_found_where_its_form_is_known(model: str, index: int | None) -> None:
    spoken = [
        text_message(Role.SYSTEM, "Be brief."),
        QUESTION,
        text_message(Role.ASSISTANT, "a"),
        text_message(Role.USER, "r"),
    ]
    body = {"error": {"message": "messages.2: must not be empty", "type": "invalid_request_error"}}
    with ModelServer([Step(status=400, body=body)]) as server, pytest.raises(ProviderError) as caught:
        ask(server, ModelRequest(model=model, messages=spoken))
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert caught.value.message_index == index


def test_questions_in_a_row_are_one_message(model_server: ModelServer) -> None:
    model_server.script(stream(delta(content="ok"), delta("stop")))
    ask(model_server, ModelRequest(model="openai/m", messages=[QUESTION, text_message(Role.USER, "second")]))
    assert model_server.bodies[0]["messages"] == [{"role": "user", "content": "q\n\nsecond"}]


# what is attached

PNG = b"\x89PNG\r\n\x1a\n\x00 not much of a picture"
IMAGE = ImagePart(sha256="a" * 64, media_type="image/png", size=len(PNG), name="cat.png")


@pytest.mark.parametrize("model", ["openai/m", "groq/m", "anthropic/m"])
def test_an_image_in_the_question_reaches_the_server_whole(model: str) -> None:
    question = Message(role=Role.USER, parts=(TextPart(text="What is it?"), IMAGE))
    request = ModelRequest(model=model, messages=[question], content={IMAGE.sha256: PNG}.__getitem__)
    with ModelServer([Step(text="A cat.")]) as server:
        url = server.base_url if model != "anthropic/m" else server.base_url.removesuffix("/v1")
        *_, response = ask_at(url, request)
        (sent,) = server.bodies[0]["messages"]
    assert isinstance(response, ModelResponse)
    assert response.message.text == "A cat."
    text, image = sent["content"]
    assert text["text"] == "What is it?"
    encoded = base64.b64encode(PNG).decode()
    if model == "anthropic/m":
        assert image["source"] == {"type": "base64", "media_type": "image/png", "data": encoded}
    else:
        assert image["image_url"]["url"] == f"data:image/png;base64,{encoded}"


# numbers


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (
            {"prompt_tokens": 3.0, "completion_tokens": 2.0, "total_tokens": 5.0},
            Usage(input_tokens=3, output_tokens=2, total_tokens=5),
        ),
        ({"prompt_tokens": "3", "completion_tokens": 2}, Usage(input_tokens=3, output_tokens=2, total_tokens=5)),
        (
            {"prompt_tokens": -3, "completion_tokens": 2},
            Usage(output_tokens=2, unknown=("input_tokens", "total_tokens")),
        ),
        (
            {"prompt_tokens": 3.5, "completion_tokens": 2},
            Usage(output_tokens=2, unknown=("input_tokens", "total_tokens")),
        ),
        (
            {"prompt_cache_hit_tokens": 1, "prompt_cache_miss_tokens": 2, "completion_tokens": 2},
            Usage(input_tokens=3, output_tokens=2, total_tokens=5, cache_read_input_tokens=1),
        ),
        (None, None),
        ({}, None),
    ],
)
def test_token_counts_are_read_as_the_server_sent_them(
    model_server: ModelServer, usage: dict[str, Any] | None, wanted: Usage | None
) -> None:
    last = [{"choices": [], "usage": usage}] if usage is not None else []
    model_server.script(stream(delta(content="ok"), delta("stop"), *last))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.usage == wanted, "LiteLLM counts itself where a server tells nothing"


@pytest.mark.parametrize("model", ["openai/m", "anthropic/m"])
def test_a_stream_of_pieces_that_cut_every_character_is_read(model: str) -> None:
    step = Step(text=["caf\u00e9 ", "\U0001f331 \u2028 ", "\u65e5\u672c"], reasoning=["\U0001f914"], bytes_per_write=1)
    with ModelServer([step]) as server:
        url = server.base_url if model == "openai/m" else server.base_url.removesuffix("/v1")
        *events, response = ask_at(url, ModelRequest(model=model, messages=[QUESTION]))
    assert isinstance(response, ModelResponse)
    assert response.message.text == "caf\u00e9 \U0001f331 \u2028 \u65e5\u672c"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == response.message.text
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "\U0001f914"


@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_a_character_cut_in_two_is_joined(model_server: ModelServer, field: str) -> None:
    model_server.script(stream(delta(**{field: "a\ud83d"}), delta(**{field: "\ude00b"}), delta("stop")))
    *events, response = ask(model_server)
    assert "".join(getattr(event, "text", "") for event in events) == "a\U0001f600b"
    assert isinstance(response, ModelResponse)
    assert "".join(getattr(part, "text", "") for part in response.message.parts) == "a\U0001f600b"


def test_a_character_cut_in_two_in_arguments_is_joined(model_server: ModelServer) -> None:
    model_server.script(
        stream(pieces(piece('{"a": "\ud83d', "look", index=0, id="x")), pieces(piece('\ude00"}', index=0)), END)
    )
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.tool_calls[0].arguments == {"a": "\U0001f600"}

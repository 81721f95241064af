"""Chat Completions in particular: the body, the end of the stream, the habits of other servers."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from afk_provider_openai import Settings, afk_provider, connection
from afk_provider_openai.chat import ChatReader, request_body
from afk_provider_openai.settings import server_from
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import TypeAdapter

from afkcli.plugin import (
    ErrorKind,
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Part,
    ProviderError,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    dumps,
    text_message,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import Fault, ModelServer, Step

QUESTION = text_message(Role.USER, "q")
REQUEST = ModelRequest(model="m", messages=[QUESTION])


IMAGE = ImagePart(sha256="a" * 64, media_type="image/png", size=3, name="cat.png")
PDF = FilePart(sha256="b" * 64, media_type="application/pdf", size=3, name="report.pdf")


def attached(*parts: Part) -> ModelRequest:
    content = {IMAGE.sha256: b"png", PDF.sha256: b"pdf"}.__getitem__
    return ModelRequest(model="m", messages=[Message(role=Role.USER, parts=parts)], content=content)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(server: ModelServer, request: ModelRequest = REQUEST, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=server.base_url, **settings))
        try:
            return [event async for event in provider.stream(request)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def read(*chunks: object, **settings: Any) -> list[ModelEvent]:
    server = server_from(Settings(base_url="http://127.0.0.1:1/v1", **settings))
    reader = ChatReader(server, REQUEST, ToolNames([]))
    events = list(reader.feed([dumps(chunk) for chunk in chunks]))
    return [*events, *reader.close(), reader.response()] if reader.finished else events


MOOD: dict[str, Any] = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


class TestASchema:
    def test_is_the_response_format_and_strict_where_it_can_be(self, model_server: ModelServer) -> None:
        ask(model_server, ModelRequest(model="m", messages=[QUESTION], output_schema=MOOD))
        wanted = {"name": "answer", "schema": {**MOOD, "additionalProperties": False}, "strict": True}
        assert model_server.bodies[0]["response_format"] == {"type": "json_schema", "json_schema": wanted}

    def test_is_sent_as_it_is_where_it_cannot(self, model_server: ModelServer) -> None:
        for schema in ({"type": "object"}, {"type": "array"}, {"properties": {"a": {"not": {}}}}):
            ask(model_server, ModelRequest(model="m", messages=[QUESTION], output_schema=schema))
            wanted = {"name": "answer", "schema": schema, "strict": False}
            assert model_server.bodies[-1]["response_format"]["json_schema"] == wanted

    def test_is_not_sent_with_tools_which_other_servers_could_not_call_then(self, model_server: ModelServer) -> None:
        tool = ToolSpec(name="f", description="d", parameters={"type": "object"})
        ask(model_server, ModelRequest(model="m", messages=[QUESTION], tools=[tool], output_schema=MOOD))
        assert "response_format" not in model_server.bodies[0]

    def test_goes_behind_what_extra_says(self, model_server: ModelServer) -> None:
        extra = {"response_format": {"type": "json_object"}}
        ask(model_server, ModelRequest(model="m", messages=[QUESTION], extra=extra, output_schema=MOOD))
        assert model_server.bodies[0]["response_format"] == {"type": "json_object"}

    def test_is_not_in_a_request_without_one(self, model_server: ModelServer) -> None:
        ask(model_server)
        assert "response_format" not in model_server.bodies[0]


def delta(finish: str | None = None, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def body_of(request: ModelRequest, base_url: str = "http://127.0.0.1:1/v1", **settings: Any) -> dict[str, Any]:
    server = server_from(Settings(api_key="k", base_url=base_url, api="chat", **settings))
    return request_body(server, request, ToolNames.of(request))


def test_the_body_is_that_of_the_documented_api() -> None:
    call = ToolCallPart(id="c1", name="files.read", arguments={"path": "ü"})
    result = ToolResultPart(id="c1", name="files.read", parts=(TextPart(text="no such file"),), is_error=True)
    request = ModelRequest(
        model="m",
        messages=[
            text_message(Role.SYSTEM, "s"),
            QUESTION,
            Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="secret thought"), TextPart(text="a"), call)),
            Message(role=Role.TOOL, parts=(result,)),
        ],
        tools=[ToolSpec(name="files.read", description="d", parameters={"type": "object"})],
        options={
            "temperature": 0.5,
            "top_p": 0.5,
            "stop": ["x"],
            "seed": 3,
            "reasoning_effort": "low",
            "max_output_tokens": 9,
            "unknown_option": 1,
        },
        extra={"logit_bias": {"1": 2}, "stream": False},
    )
    assert body_of(request) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q"},
            {
                "role": "assistant",
                "content": "a",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "files__read", "arguments": '{"path":"ü"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "Error: no such file"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "files__read", "description": "d", "parameters": {"type": "object"}},
            }
        ],
        "temperature": 0.5,
        "top_p": 0.5,
        "stop": ["x"],
        "seed": 3,
        "reasoning_effort": "low",
        "max_tokens": 9,
        "logit_bias": {"1": 2},
    }


def test_openai_s_own_server_is_told_the_limit_under_its_new_name() -> None:
    request = ModelRequest(model="m", messages=[QUESTION], options={"max_output_tokens": 9})
    for url in ("", "https://me.openai.azure.com/openai/v1"):
        body = body_of(request, url)
        assert body["max_completion_tokens"] == 9
        assert "max_tokens" not in body


def test_nothing_is_stored_at_openai() -> None:
    assert body_of(REQUEST, "")["store"] is False
    assert "store" not in body_of(REQUEST)


def test_stream_options_can_be_left_out_for_servers_that_refuse_them() -> None:
    assert "stream_options" not in body_of(REQUEST, stream_usage=False)


class TestAttachments:
    def test_images_and_pdf_are_parts_of_the_message(self) -> None:
        [message] = body_of(attached(IMAGE, PDF, TextPart(text="what is it?")))["messages"]
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64_of(b'png')}"}}
        pdf = {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{base64_of(b'pdf')}"}
        assert message["content"] == [image, {"type": "file", "file": pdf}, {"type": "text", "text": "what is it?"}]
        TypeAdapter(ChatCompletionUserMessageParam).validate_python(message)

    def test_a_message_of_texts_alone_is_text_as_every_server_takes_it(self) -> None:
        [message] = body_of(attached(TextPart(text="a file, "), TextPart(text="a question")))["messages"]
        assert message["content"] == "a file, a question"

    def test_other_files_are_refused_clearly(self) -> None:
        with pytest.raises(ProviderError, match=r"song\.mp3 \(audio/mpeg\)") as caught:
            body_of(attached(FilePart(sha256="b" * 64, media_type="audio/mpeg", size=3, name="song.mp3")))
        assert caught.value.kind is ErrorKind.BAD_REQUEST

    def test_a_content_that_is_not_there_is_named(self) -> None:
        with pytest.raises(ProviderError, match=r"cat\.png is not there") as caught:
            body_of(ModelRequest(model="m", messages=[Message(role=Role.USER, parts=(IMAGE,))]))
        assert caught.value.kind is ErrorKind.BAD_REQUEST

    def test_an_image_in_the_result_of_a_tool_follows_all_results_of_the_step(self) -> None:
        results = tuple(
            ToolResultPart(id=id_, name="look", parts=(TextPart(text="here:"), *images))
            for id_, images in (("c1", (IMAGE,)), ("c2", ()), ("c3", (IMAGE, IMAGE)))
        )
        content = {IMAGE.sha256: b"png"}.__getitem__
        calls = Message(
            role=Role.ASSISTANT, parts=tuple(ToolCallPart(id=part.id, name="look", arguments={}) for part in results)
        )
        messages = [QUESTION, calls, Message(role=Role.TOOL, parts=results)]
        body = body_of(ModelRequest(model="m", messages=messages, content=content))
        *_, first, second, third, images = body["messages"]
        assert [sent["role"] for sent in body["messages"]] == ["user", "assistant", "tool", "tool", "tool", "user"]
        assert first["content"] == "here:\n[image cat.png was attached here; it follows after the results]"
        assert second["content"] == "here:"
        assert third["content"].count("it follows after the results") == 2
        assert [part.get("text", part["type"]) for part in images["content"]] == [
            "The image that the call c1 of the tool look returned:",
            "image_url",
            "The 2 images that the call c3 of the tool look returned:",
            "image_url",
            "image_url",
        ]

    @pytest.mark.parametrize(
        ("model", "sees"),
        [
            ("gpt-5.2-mini", True),
            ("gpt-4o", True),
            ("gpt-4.1-mini", True),
            ("gpt-4-turbo", True),
            ("o3", True),
            ("gpt-7", True),
            ("ft:gpt-4o:acme", True),
            ("gpt-4", False),
            ("gpt-4-0613", False),
            ("gpt-3.5-turbo", False),
            ("o3-mini", False),
        ],
    )
    def test_what_an_openai_model_takes_follows_from_its_name(self, model: str, sees: bool) -> None:
        known = afk_provider(Settings(api_key="k")).capabilities(model)
        assert (known.images, known.files) == (sees, sees)

    def test_of_other_servers_nothing_is_known(self) -> None:
        known = afk_provider(Settings(base_url="http://127.0.0.1:1/v1")).capabilities("gpt-4")
        assert (known.images, known.files) == (None, None)


def test_a_stream_without_done_is_whole_once_the_finish_reason_came(model_server: ModelServer) -> None:
    model_server.script(Step(text=["a", "b"], fault=Fault.NO_DONE))
    assert isinstance(ask(model_server)[-1], ModelResponse)


def test_an_error_status_names_the_server_the_model_and_the_next_step(model_server: ModelServer) -> None:
    model_server.script(Step(status=404, body={"error": {"message": "model 'm' not found"}}))
    with pytest.raises(ProviderError, match=r"127\.0\.0\.1:\d+ has no model 'm'.*404.*base_url"):
        ask(model_server)


def test_a_used_up_quota_is_not_something_to_wait_for(model_server: ModelServer) -> None:
    error = {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    model_server.script(Step(status=429, body={"error": error}))
    with pytest.raises(ProviderError) as caught:
        ask(model_server)
    assert caught.value.kind is ErrorKind.AUTH


def test_milliseconds_to_wait_go_before_seconds(model_server: ModelServer) -> None:
    model_server.script(Step(status=429, headers={"retry-after-ms": "250", "Retry-After": "9"}))
    with pytest.raises(ProviderError) as caught:
        ask(model_server)
    assert caught.value.retry_after == 0.25


def test_a_secret_header_is_sent_and_never_shown(model_server: ModelServer) -> None:
    model_server.script(Step(status=400, body={"error": {"message": "bad token hunter2-hunter2"}}))
    with pytest.raises(ProviderError) as caught:
        ask(model_server, headers={"X-Gateway-Token": "hunter2-hunter2"})
    assert model_server.requests[0].headers["x-gateway-token"] == "hunter2-hunter2"
    assert "hunter2" not in str(caught.value)


def test_a_page_instead_of_a_stream_points_to_the_base_url(model_server: ModelServer) -> None:
    model_server.script(Step(body="<html><body>Welcome</body></html>"))
    with pytest.raises(ProviderError, match="base_url") as caught:
        ask(model_server)
    assert caught.value.kind is ErrorKind.NOT_FOUND


@pytest.mark.parametrize(
    ("fault", "kind", "settings"),
    [
        (Fault.HANG_BEFORE_HEADERS, ErrorKind.TIMEOUT, {"first_byte_timeout": 0.2}),
        (Fault.HANG, ErrorKind.TRUNCATED, {"idle_timeout": 0.2}),
    ],
)
def test_silence_is_ended_by_its_own_timeout(
    model_server: ModelServer, fault: Fault, kind: ErrorKind, settings: dict[str, float]
) -> None:
    model_server.script(Step(text=["a", "b"], fault=fault, fault_after=1))
    with pytest.raises(ProviderError, match=r"0\.2 s") as caught:
        ask(model_server, **settings)
    assert caught.value.kind is kind


def test_a_host_that_does_not_exist_is_named() -> None:
    async def run() -> None:
        provider = afk_provider(Settings(base_url="http://no-such-host.invalid/v1"))
        with pytest.raises(ProviderError, match=r"cannot (find the host|reach).*no-such-host\.invalid") as caught:
            await anext(provider.stream(REQUEST))
        assert caught.value.kind is ErrorKind.NETWORK

    asyncio.run(run())


def test_a_body_is_the_same_where_the_sdk_takes_no_bytes(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [text_message(Role.USER, 'a "quoted" \u2028 é 𝄞'), text_message(Role.ASSISTANT, " "), *REQUEST.messages]
    asked = ModelRequest(model="m", messages=said, extra={"top_k": 1e-7})
    ask(model_server, asked)
    monkeypatch.setattr("afkcli.providers.connection._takes_content", lambda client: False)  # as its earlier versions
    ask(model_server, asked)
    one, two = model_server.requests
    assert one.body == two.body
    assert {name: value for name, value in one.headers.items() if name in ABOUT_BODY} == {
        name: value for name, value in two.headers.items() if name in ABOUT_BODY
    }


ABOUT_BODY = ("content-type", "content-length", "accept")


def test_calls_that_begin_at_once_share_one_client(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    real = connection.connection.client_options

    def counted(*arguments: Any) -> dict[str, Any]:
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(connection.connection, "client_options", counted)

    async def run() -> None:
        provider = afk_provider(Settings(base_url=model_server.base_url))

        async def one() -> None:
            await provider.prepare()
            assert [event async for event in provider.stream(REQUEST)]

        await asyncio.gather(*(one() for _ in range(20)))
        await provider.aclose()
        await one()
        await provider.aclose()

    asyncio.run(run())
    assert len(made) == 2
    assert {request.path for request in model_server.requests} == {"/v1/chat/completions"}
    assert len(model_server.requests) == 21


def test_the_next_call_uses_the_same_connection(model_server: ModelServer) -> None:
    async def run() -> None:
        provider = afk_provider(Settings(base_url=model_server.base_url))
        for _ in range(3):
            assert [event async for event in provider.stream(REQUEST)]
        await provider.aclose()

    asyncio.run(run())
    assert len({request.connection for request in model_server.requests}) == 1


def test_a_provider_outlives_its_event_loop(model_server: ModelServer) -> None:
    provider = afk_provider(Settings(base_url=model_server.base_url))

    async def run() -> None:
        assert [event async for event in provider.stream(REQUEST)]

    asyncio.run(run())
    asyncio.run(run())


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(field: str) -> None:
    response = read(delta(**{field: "thought"}), delta("stop"))[-1]
    assert isinstance(response, ModelResponse)
    assert response.message.parts == (ReasoningPart(text="thought"),)


def test_calls_without_number_or_id_and_with_an_object_for_arguments_are_taken() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    events = read(delta(tool_calls=[call, call]), delta("stop"))
    response = events[-1]
    assert isinstance(response, ModelResponse)
    assert [part.arguments for part in response.message.tool_calls] == [{"a": 1}, {"a": 1}]
    assert len({event.id for event in events if isinstance(event, ToolCallDelta)}) == 2
    assert response.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("reason", ["eos", "STOP", "end_turn", "stop_sequence"])
def test_another_word_for_a_success_is_one(reason: str) -> None:
    *_, response = read(delta(content="a"), delta(reason))
    assert isinstance(response, ModelResponse)
    assert response.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("reason", ["network_error", "error", "insufficient_system_resource", "no such word"])
def test_an_end_that_is_not_known_as_a_success_cuts_the_answer(reason: str) -> None:
    with pytest.raises(ProviderError, match=reason) as caught:
        read(delta(content="a"), delta(reason))
    assert caught.value.kind is ErrorKind.TRUNCATED


def test_content_in_parts_is_joined() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read(delta(content=content)) == [TextDelta("ab")]

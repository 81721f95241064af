"""The Responses API in particular: nothing stored, reasoning there and back, the ends of a response."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from afk_provider_openai import Settings, afk_provider
from afk_provider_openai.responses import ResponsesReader
from afk_provider_openai.responses_request import request_body
from afk_provider_openai.settings import server_from
from openai.types.responses import ResponseInputItemParam
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
    ModelWarning,
    ProviderError,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    dumps,
    loads,
    message_from_json,
    text_message,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step

QUESTION = text_message(Role.USER, "q")
TOOL = ToolSpec(name="files.read", description="d", parameters={"type": "object"})


def request(*messages: Message, model: str = "gpt-5.2-mini", **fields: Any) -> ModelRequest:
    return ModelRequest(model=model, messages=messages or (QUESTION,), **fields)


def ask(server: ModelServer, asked: ModelRequest, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=server.base_url, api="responses", **settings))
        try:
            return [event async for event in provider.stream(asked)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def answer(server: ModelServer, asked: ModelRequest) -> Message:
    """Return the answer as it comes back from a thread, that is, through JSON."""
    response = ask(server, asked)[-1]
    assert isinstance(response, ModelResponse)
    return message_from_json(loads(dumps(response.message)))


def body_of(asked: ModelRequest, **settings: Any) -> dict[str, Any]:
    return request_body(server_from(Settings(api_key="k", **settings)), asked, ToolNames.of(asked))


MOOD: dict[str, Any] = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


class TestASchema:
    def test_is_the_format_of_the_text_and_strict_where_it_can_be(self) -> None:
        strict = {"type": "json_schema", "name": "answer", "strict": True}
        wanted = {"format": {**strict, "schema": {**MOOD, "additionalProperties": False}}}
        assert body_of(request(output_schema=MOOD))["text"] == wanted
        loose = {"type": "object", "properties": {"mood": {"type": "string"}}}
        wanted = {"format": {**strict, "schema": loose, "strict": False}}
        assert body_of(request(output_schema=loose))["text"] == wanted

    def test_stands_beside_what_extra_says_of_the_text(self) -> None:
        text = body_of(request(output_schema=MOOD, extra={"text": {"verbosity": "low"}}))["text"]
        assert text["verbosity"] == "low"
        assert text["format"]["name"] == "answer"

    def test_is_not_in_a_request_without_one(self) -> None:
        assert "text" not in body_of(request())


def read(*events: dict[str, Any]) -> list[ModelEvent]:
    server = server_from(Settings(api_key="k"))
    reader = ResponsesReader(server, request(), ToolNames([]))
    seen = list(reader.feed([dumps(event) for event in events]))
    return [*seen, reader.response()] if reader.finished else seen


def completed(**response: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"model": "m", "status": "completed", **response}}


def test_nothing_is_stored_and_the_body_is_that_of_the_documented_api() -> None:
    call = ToolCallPart(id="c1", name="files.read", arguments={"path": "a"})
    result = ToolResultPart(id="c1", name="files.read", parts=(TextPart(text="r"),))
    asked = request(
        text_message(Role.SYSTEM, "s"),
        QUESTION,
        Message(role=Role.ASSISTANT, parts=(TextPart(text="a"), call)),
        Message(role=Role.TOOL, parts=(result,)),
        tools=[TOOL],
        options={"temperature": 1, "top_p": 0.5, "max_output_tokens": 9, "reasoning_effort": "low", "unknown": 1},
        extra={"service_tier": "flex"},
    )
    assert body_of(asked, reasoning_summary="auto") == {
        "model": "gpt-5.2-mini",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "input": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a"},
            {"type": "function_call", "call_id": "c1", "name": "files__read", "arguments": '{"path":"a"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "r"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "files__read",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "temperature": 1,
        "top_p": 0.5,
        "max_output_tokens": 9,
        "reasoning": {"effort": "low", "summary": "auto"},
        "service_tier": "flex",
    }


def test_encrypted_reasoning_goes_back_unchanged_and_in_order(model_server: ModelServer) -> None:
    calls = [ScriptedCall(name="files__read", arguments={"path": path}) for path in "ab"]
    model_server.script(Step(reasoning=["hm", "m"], text=["I ", "read"], tool_calls=calls), Step(text="done"))
    message = answer(model_server, request(tools=[TOOL]))
    results = tuple(
        ToolResultPart(id=call.id, name=call.name, parts=(TextPart(text="x"),)) for call in message.tool_calls
    )
    ask(model_server, request(QUESTION, message, Message(role=Role.TOOL, parts=results), tools=[TOOL]))
    _, reasoning, said, first, second, *outputs = model_server.bodies[1]["input"]
    assert reasoning == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "hmm"}],
        "encrypted_content": "encrypted-1",
    }
    assert said["id"] == "msg_1"
    assert said["content"] == [{"type": "output_text", "text": "I read", "annotations": []}]
    assert [call["arguments"] for call in (first, second)] == ['{"path":"a"}', '{"path":"b"}']
    assert [call["call_id"] for call in (first, second)] == [output["call_id"] for output in outputs]
    assert first["id"] != second["id"]


def test_reasoning_stays_here_where_another_api_is_used(model_server: ModelServer) -> None:
    model_server.script(Step(reasoning="thought", text="answer"))
    message = answer(model_server, request())

    async def run() -> None:
        provider = afk_provider(Settings(base_url=model_server.base_url, api="chat"))
        assert [event async for event in provider.stream(request(QUESTION, message, QUESTION))]
        await provider.aclose()

    asyncio.run(run())
    assert model_server.bodies[1]["messages"][1] == {"role": "assistant", "content": "answer"}


def test_a_model_that_does_not_reason_gets_no_reasoning_and_no_ids(model_server: ModelServer) -> None:
    model_server.script(Step(reasoning="thought", text="answer"))
    message = answer(model_server, request())
    body = body_of(request(QUESTION, message, model="gpt-4o"))
    assert "include" not in body
    assert body["input"][1:] == [{"role": "assistant", "content": "answer"}]


def test_reasoning_that_nothing_followed_is_not_sent(model_server: ModelServer) -> None:
    model_server.script(Step(reasoning="thought", finish_reason="length"))
    message = answer(model_server, request())
    assert body_of(request(QUESTION, message, QUESTION))["input"] == [{"role": "user", "content": "q"}] * 2


def test_the_phase_of_a_message_is_kept() -> None:
    content = [{"type": "output_text", "text": "a", "annotations": []}]
    item = {"id": "msg_1", "type": "message", "role": "assistant", "phase": "commentary", "content": content}
    response = read({"type": "response.output_item.done", "item": item}, completed())[-1]
    assert isinstance(response, ModelResponse)
    assert body_of(request(response.message))["input"] == [item]


def test_text_that_no_delta_said_is_still_streamed() -> None:
    item = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "all of it"}]}
    assert read(completed(output=[item]))[0] == TextDelta("all of it")


def test_a_refusal_is_shown_and_goes_back_as_text() -> None:
    item = {"id": "msg_1", "type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    events = read(
        {"type": "response.refusal.delta", "item_id": "msg_1", "delta": "No."},
        {"type": "response.output_item.done", "item": item},
        completed(),
    )
    assert events[0] == TextDelta("No.")
    assert isinstance(events[-1], ModelResponse)
    assert events[-1].message.parts == (TextPart(text="No."),)


def test_the_paragraphs_of_a_summary_are_told_apart() -> None:
    kind = "response.reasoning_summary"
    events = read(
        {"type": f"{kind}_part.added", "item_id": "rs", "summary_index": 0},
        {"type": f"{kind}_text.delta", "item_id": "rs", "delta": "one"},
        {"type": f"{kind}_part.added", "item_id": "rs", "summary_index": 1},
        {"type": f"{kind}_text.delta", "item_id": "rs", "delta": "two"},
    )
    assert events == [ReasoningDelta("one"), ReasoningDelta("\n\n"), ReasoningDelta("two")]


def test_the_item_of_a_tool_at_openai_goes_back_in_its_place() -> None:
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"query": "x"}}
    message = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "a", "annotations": []}]}
    response = read(completed(output=[search, message]))[-1]
    assert isinstance(response, ModelResponse)
    assert isinstance(response.message.parts[0], ReasoningPart)
    assert body_of(request(response.message))["input"] == [search, message]


def test_a_cut_for_an_unknown_reason_is_a_cut() -> None:
    event = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "new_reason"}}}
    warning, response = read(event)
    assert isinstance(warning, ModelWarning)
    assert "new_reason" in warning.message
    assert isinstance(response, ModelResponse)
    assert response.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", ErrorKind.OVERLOADED),
        ("rate_limit_exceeded", ErrorKind.RATE_LIMIT),
        ("context_length_exceeded", ErrorKind.CONTEXT_LENGTH),
        ("image_content_policy_violation", ErrorKind.CONTENT_FILTER),
        ("invalid_prompt", ErrorKind.BAD_REQUEST),
        ("image_too_large", ErrorKind.BAD_REQUEST),
    ],
)
def test_a_failed_response_is_an_error_of_its_kind(model_server: ModelServer, code: str, kind: ErrorKind) -> None:
    model_server.script(Step(text="half", fault=Fault.FAILED, body={"code": code, "message": "because"}))
    with pytest.raises(ProviderError, match="because") as caught:
        ask(model_server, request())
    assert caught.value.kind is kind


def test_the_tool_calls_of_a_cut_answer_do_not_make_it_whole(model_server: ModelServer) -> None:
    model_server.script(Step(tool_calls=[ScriptedCall(name="f")], finish_reason="length"))
    response = ask(model_server, request())[-1]
    assert isinstance(response, ModelResponse)
    assert response.finish_reason is FinishReason.LENGTH


def test_the_next_call_uses_the_same_connection(model_server: ModelServer) -> None:
    async def run() -> None:
        provider = afk_provider(Settings(base_url=model_server.base_url, api="responses"))
        for _ in range(3):
            assert [event async for event in provider.stream(request())]
        await provider.aclose()

    asyncio.run(run())
    assert len({request.connection for request in model_server.requests}) == 1


class TestAttachments:
    IMAGE = ImagePart(sha256="a" * 64, media_type="image/png", size=3, name="cat.png")
    PDF = FilePart(sha256="b" * 64, media_type="application/pdf", size=3, name="report.pdf")
    FORMS: ClassVar = [
        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,cG5n"},
        {"type": "input_file", "filename": "report.pdf", "file_data": "data:application/pdf;base64,cGRm"},
        {"type": "input_text", "text": "what is it?"},
    ]

    def sent(self, *messages: Message) -> list[Any]:
        content = {self.IMAGE.sha256: b"png", self.PDF.sha256: b"pdf"}.__getitem__
        asked = request(*messages, content=content)
        server = server_from(Settings(base_url="http://127.0.0.1:1/v1", api="responses"))
        sent: list[Any] = request_body(server, asked, ToolNames.of(asked))["input"]
        TypeAdapter(list[ResponseInputItemParam]).validate_python(sent)
        return sent

    def test_images_and_pdf_are_parts_of_the_message(self) -> None:
        parts = (self.IMAGE, self.PDF, TextPart(text="what is it?"))
        assert self.sent(Message(role=Role.USER, parts=parts)) == [{"role": "user", "content": self.FORMS}]

    def test_a_tool_may_show_an_image(self) -> None:
        result = ToolResultPart(id="c", name="look", parts=(self.IMAGE,), is_error=True)
        call = ToolCallPart(id="c", name="look", arguments={})
        sent = self.sent(Message(role=Role.ASSISTANT, parts=(call,)), Message(role=Role.TOOL, parts=(result,)))
        assert sent[1]["output"] == [{"type": "input_text", "text": "Error:"}, self.FORMS[0]]

    def test_other_files_are_refused_clearly(self) -> None:
        song = FilePart(sha256="b" * 64, media_type="audio/mpeg", size=3, name="song.mp3")
        with pytest.raises(ProviderError, match=r"song\.mp3") as caught:
            self.sent(Message(role=Role.USER, parts=(song,)))
        assert caught.value.kind is ErrorKind.BAD_REQUEST

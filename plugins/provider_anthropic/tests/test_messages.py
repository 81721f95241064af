"""The Messages API in particular: the body, thinking there and back, cache marks, the ends of an answer."""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

import pytest
from afk_provider_anthropic import Settings, afk_provider
from afk_provider_anthropic.answer import AnswerReader
from afk_provider_anthropic.request import API_VERSION, SAMPLING_API_VERSION, request_body, request_prefix
from afk_provider_anthropic.settings import server_from
from anthropic.types import CacheControlEphemeralParam, MessageParam
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
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    Usage,
    dumps,
    loads,
    message_from_json,
    text_message,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step

QUESTION = text_message(Role.USER, "q")
TOOL = ToolSpec(name="files.read", description="d", parameters={"type": "object"})
MARK = {"cache_control": {"type": "ephemeral"}}


def request(*messages: Message, model: str = "m", **fields: Any) -> ModelRequest:
    return ModelRequest(model=model, messages=messages or (QUESTION,), **fields)


def ask(server: ModelServer, asked: ModelRequest, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=server.base_url, **settings))
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
    def test_is_the_format_of_the_output(self, model_server: ModelServer) -> None:
        ask(model_server, request(model="claude-sonnet-5-5", output_schema=MOOD))
        wanted = {"type": "json_schema", "schema": {**MOOD, "additionalProperties": False}}
        assert model_server.bodies[0]["output_config"] == {"format": wanted}
        assert "system" not in model_server.bodies[0]

    def test_that_the_api_does_not_take_is_told_in_words(self, model_server: ModelServer) -> None:
        ask(model_server, request(text_message(Role.SYSTEM, "Be brief."), QUESTION, output_schema={"type": "array"}))
        body = model_server.bodies[0]
        assert "output_config" not in body
        assert body["system"][0]["text"] == "Be brief."
        assert body["system"][1]["text"].endswith('{"type":"array"}')

    def test_stands_beside_the_effort_and_what_extra_says(self) -> None:
        asked = request(
            model="claude-opus-5-5",
            output_schema=MOOD,
            options={"reasoning_effort": "low"},
            extra={"output_config": {"task_budget": 1}},
        )
        config = body_of(asked)["output_config"]
        assert config.keys() == {"effort", "format", "task_budget"}

    def test_is_not_in_a_request_without_one(self) -> None:
        assert "output_config" not in body_of(request())


def read(*events: dict[str, Any], asked: ModelRequest | None = None) -> list[ModelEvent]:
    asked = asked or request()
    names = ToolNames.of(asked)
    reader = AnswerReader(server_from(Settings(api_key="k")), asked, names, request_prefix(asked, names))
    seen = list(reader.feed([dumps(event) for event in events]))
    return [*seen, *reader.close(), reader.response()] if reader.finished else seen


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def ended(reason: str = "end_turn", **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "message_delta", "delta": {"stop_reason": reason, **fields}}, {"type": "message_stop"}]


def response_of(events: list[ModelEvent]) -> ModelResponse:
    assert isinstance(events[-1], ModelResponse)
    return events[-1]


def tool_results(message: Message, *texts: str) -> Message:
    results = zip(message.tool_calls, texts, strict=True)
    return Message(
        role=Role.TOOL,
        parts=tuple(ToolResultPart(id=call.id, name=call.name, parts=(TextPart(text=text),)) for call, text in results),
    )


# What is sent


def test_the_body_is_that_of_the_documented_api() -> None:
    call = ToolCallPart(id="c1", name="files.read", arguments={"path": "ü"})
    result = ToolResultPart(id="c1", name="files.read", parts=(TextPart(text="no such file"),), is_error=True)
    asked = request(
        text_message(Role.SYSTEM, "s"),
        QUESTION,
        Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="unsigned thought"), TextPart(text="a"), call)),
        Message(role=Role.TOOL, parts=(result,)),
        tools=[TOOL],
        options={"temperature": 0.5, "top_p": 0.5, "stop": "x", "max_output_tokens": 9, "reasoning_effort": "low"},
        extra={"service_tier": "auto", "stream": False},
    )
    assert body_of(asked, cache=False) == {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "c1", "name": "files__read", "input": {"path": "ü"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c1",
                        "content": [{"type": "text", "text": "no such file"}],
                        "is_error": True,
                    }
                ],
            },
        ],
        "tools": [{"name": "files__read", "description": "d", "input_schema": {"type": "object"}}],
        "temperature": 0.5,
        "top_p": 0.5,
        "stop_sequences": ["x"],
        "output_config": {"effort": "low"},
        "service_tier": "auto",
    }


def test_the_results_of_a_step_are_one_message_and_come_before_what_the_user_says() -> None:
    calls = tuple(ToolCallPart(id=call, name="f", arguments={}) for call in "ab")
    results = [
        Message(role=Role.TOOL, parts=(ToolResultPart(id=call, name="f", parts=(TextPart(text=call),)),))
        for call in "ab"
    ]
    said = [QUESTION, Message(role=Role.ASSISTANT, parts=calls), *results, text_message(Role.USER, "and?")]
    messages = body_of(request(*said))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [piece["type"] for piece in messages[-1]["content"]] == ["tool_result", "tool_result", "text"]


def test_results_come_first_also_where_the_user_spoke_before_them() -> None:
    call = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="a", name="f", arguments={}),))
    messages = body_of(request(QUESTION, call, text_message(Role.USER, "hm"), tool_results(call, "r")))["messages"]
    assert [piece["type"] for piece in messages[-1]["content"]] == ["tool_result", "text"]


def test_neighbours_of_one_role_are_joined_and_blank_texts_left_out() -> None:
    said = [QUESTION, text_message(Role.ASSISTANT, ""), text_message(Role.USER, " \n"), text_message(Role.USER, "r")]
    messages = body_of(request(text_message(Role.SYSTEM, ""), *said), cache=False)
    assert "system" not in messages
    assert messages["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "(no text)"}]},
        {"role": "user", "content": [{"type": "text", "text": "r"}]},
    ]


def test_a_result_without_text_is_sent_as_a_mark() -> None:
    call = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="a", name="f", arguments={}),))
    messages = body_of(request(QUESTION, call, tool_results(call, "")), cache=False)["messages"]
    content = [{"type": "text", "text": "(no output)"}]
    assert messages[-1]["content"] == [{"type": "tool_result", "tool_use_id": "a", "content": content}]


def test_the_id_of_a_call_of_another_provider_is_made_legal_on_both_sides() -> None:
    call = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="call:1/ü", name="f", arguments={}),))
    messages = body_of(request(QUESTION, call, tool_results(call, "r")))["messages"]
    assert messages[1]["content"][0]["id"] == messages[2]["content"][0]["tool_use_id"]
    assert re.fullmatch("[a-zA-Z0-9_-]+", messages[1]["content"][0]["id"])


@pytest.mark.parametrize(
    ("model", "settings", "options", "fields"),
    [
        ("claude-opus-5-5", {}, {}, {}),
        (
            "claude-opus-4-6",
            {},
            {"reasoning_effort": "high"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        ("claude-opus-4-5", {}, {"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        (
            "claude-sonnet-5-5",
            {"thinking_display": "summarized"},
            {},
            {"thinking": {"type": "adaptive", "display": "summarized"}},
        ),
        ("claude-haiku-4-5", {"thinking_display": "summarized"}, {}, {}),
    ],
)
def test_thinking_is_asked_for_as_the_model_knows_it(
    model: str, settings: dict[str, Any], options: dict[str, Any], fields: dict[str, Any]
) -> None:
    body = body_of(request(model=model, options=options), **settings)
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == fields


@pytest.mark.parametrize(
    ("model", "wanted", "sent"),
    [
        ("claude-opus-5-5", {}, 32_000),
        ("claude-3-haiku-20240307", {}, 4_096),
        ("claude-3-haiku-20240307", {"max_output_tokens": 100}, 100),
        ("m", {}, 32_000),
        ("m", {"max_output_tokens": 500_000}, 500_000),
    ],
)
def test_a_limit_of_the_answer_is_always_sent(model: str, wanted: dict[str, int], sent: int) -> None:
    assert body_of(request(model=model), **wanted)["max_tokens"] == sent


class TestAttachments:
    IMAGE = ImagePart(sha256="a" * 64, media_type="image/png", size=3, name="cat.png")
    PDF = FilePart(sha256="b" * 64, media_type="application/pdf", size=3, name="report.pdf")
    SEEN: ClassVar = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}}
    READ: ClassVar = {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
        "title": "report.pdf",
    }

    def sent(self, *messages: Message) -> Any:
        content = {self.IMAGE.sha256: b"png", self.PDF.sha256: b"pdf"}.__getitem__
        sent = body_of(request(*messages, content=content), cache=False)["messages"]
        TypeAdapter(list[MessageParam]).validate_python(sent)
        return sent

    def test_images_and_pdf_are_blocks_of_the_message(self) -> None:
        parts = (self.IMAGE, self.PDF, TextPart(text="what is it?"))
        [message] = self.sent(Message(role=Role.USER, parts=parts))
        assert message["content"] == [self.SEEN, self.READ, {"type": "text", "text": "what is it?"}]

    def test_a_tool_may_show_an_image(self) -> None:
        call = ToolCallPart(id="a", name="look", arguments={})
        result = ToolResultPart(id="a", name="look", parts=(self.IMAGE,))
        messages = self.sent(
            QUESTION, Message(role=Role.ASSISTANT, parts=(call,)), Message(role=Role.TOOL, parts=(result,))
        )
        assert messages[-1]["content"][0]["content"] == [self.SEEN]

    def test_other_files_are_refused_clearly(self) -> None:
        song = FilePart(sha256="b" * 64, media_type="audio/mpeg", size=3, name="song.mp3")
        with pytest.raises(ProviderError, match=r"song\.mp3 \(audio/mpeg\)") as caught:
            self.sent(Message(role=Role.USER, parts=(song,)))
        assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_the_api_s_version_is_the_one_that_takes_the_request(model_server: ModelServer) -> None:
    ask(model_server, request())
    ask(model_server, request(options={"temperature": 0}))
    versions = [asked.headers["anthropic-version"] for asked in model_server.requests]
    assert versions == [API_VERSION, SAMPLING_API_VERSION]


def test_the_key_and_the_headers_are_sent(model_server: ModelServer) -> None:
    ask(model_server, request(), api_key="sk-ant-mine", headers={"X-Gateway": "g"})
    [asked] = model_server.requests
    assert "sk-ant-mine" in (asked.headers.get("authorization", "") + asked.headers.get("x-api-key", ""))
    assert asked.headers["x-gateway"] == "g"
    assert asked.path == "/v1/messages"


# Thinking


def test_thinking_goes_back_unchanged_and_in_order(model_server: ModelServer) -> None:
    calls = [ScriptedCall(name="files__read", arguments={"path": path}) for path in "ab"]
    model_server.script(Step(reasoning=["h\u2028", "m"], text=["I ", "read"], tool_calls=calls), Step(text="done"))
    message = answer(model_server, request(tools=[TOOL]))
    ask(model_server, request(QUESTION, message, tool_results(message, "x", "y"), tools=[TOOL]))
    _, said, results = model_server.bodies[1]["messages"]
    assert said["content"] == [
        {"type": "thinking", "thinking": "h\u2028m", "signature": "signature-1"},
        {"type": "text", "text": "I read"},
        {"type": "tool_use", "id": "toolu_1_0", "name": "files__read", "input": {"path": "a"}},
        {"type": "tool_use", "id": "toolu_1_1", "name": "files__read", "input": {"path": "b"}},
    ]
    assert [result["tool_use_id"] for result in results["content"]] == ["toolu_1_0", "toolu_1_1"]


def test_thinking_that_is_not_shown_goes_back_for_its_signature() -> None:
    start = {"type": "thinking", "thinking": "", "signature": ""}
    events = read(*block(0, start, {"type": "signature_delta", "signature": "sig"}), *ended())
    message = response_of(events).message
    assert body_of(request(QUESTION, message, QUESTION))["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "", "signature": "sig"},
        {"type": "text", "text": "(no text)"},  # the API refuses an answer that ends with thinking
    ]


@pytest.mark.parametrize(
    "start",
    [
        {"type": "redacted_thinking", "data": "encrypted"},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"type": "web_search_result"}]},
    ],
)
def test_a_block_without_a_neutral_form_goes_back_as_it_came(start: dict[str, Any]) -> None:
    message = response_of(read(*block(0, start), *ended())).message
    message = message_from_json(loads(dumps(message)))
    assert message.text == ""
    assert body_of(request(QUESTION, message, QUESTION))["messages"][1]["content"][0] == start


def test_a_call_of_a_tool_that_runs_at_the_server_goes_back_with_its_input() -> None:
    start = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
    events = read(*block(0, start, {"type": "input_json_delta", "partial_json": '{"query": "q"}'}), *ended())
    assert not any(isinstance(event, ToolCallDelta) for event in events)
    sent = body_of(request(QUESTION, response_of(events).message, QUESTION))["messages"][1]["content"]
    assert sent == [{**start, "input": {"query": "q"}}]


def test_thinking_stays_here_after_a_change_of_the_system_prompt_or_the_tools(model_server: ModelServer) -> None:
    model_server.script(Step(reasoning="hm", text="a"))
    system = text_message(Role.SYSTEM, "s")
    message = answer(model_server, request(system, QUESTION, tools=[TOOL]))

    def sent(*messages: Message, **fields: Any) -> list[str]:
        body = body_of(request(*messages, QUESTION, message, QUESTION, **fields), base_url=model_server.base_url)
        return [piece["type"] for piece in body["messages"][1]["content"]]

    assert sent(system, tools=[TOOL]) == ["thinking", "text"]
    assert sent(system, tools=[TOOL], model="another") == ["text"]
    assert sent(text_message(Role.SYSTEM, "t"), tools=[TOOL]) == ["text"]
    assert sent(system) == ["text"]


def test_thinking_that_nobody_signed_is_not_sent() -> None:
    events = read(*block(0, {"type": "thinking"}, {"type": "thinking_delta", "thinking": "hm"}), *ended())
    assert response_of(events).message.parts == (ReasoningPart(text="hm"),)
    assert len(body_of(request(QUESTION, response_of(events).message))["messages"]) == 1


# Prompt caching


def marks(body: dict[str, Any]) -> list[str]:
    """Return where a body is marked."""
    blocks = [(f"tool {i}", tool) for i, tool in enumerate(body.get("tools", ()))]
    blocks += [(f"system {i}", piece) for i, piece in enumerate(body.get("system", ()))]
    for i, message in enumerate(body["messages"]):
        blocks += [(f"message {i}.{j}", piece) for j, piece in enumerate(message["content"])]
    return [place for place, piece in blocks if "cache_control" in piece]


def unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unmarked(item) for name, item in value.items() if name != "cache_control"}
    return [unmarked(item) for item in value] if isinstance(value, list) else value


def test_each_turn_reads_what_the_one_before_wrote(model_server: ModelServer) -> None:
    model_server.script(
        Step(tool_calls=[ScriptedCall(name="files__read", arguments={"path": path}) for path in "abc"]),
        Step(reasoning="hm", text="b"),
        Step(text="c"),
    )
    said = [text_message(Role.SYSTEM, "s"), QUESTION]
    for follow_up in ("results", "text", "text"):
        message = answer(model_server, request(*said, tools=[TOOL]))
        said.append(message)
        said.append(tool_results(message, *"xyz") if follow_up == "results" else text_message(Role.USER, "next"))
    first, second, third = model_server.bodies
    assert marks(first) == ["system 0", "message 0.0"]
    assert marks(second) == ["system 0", "message 0.0", "message 2.2"]
    assert marks(third) == ["system 0", "message 2.2", "message 4.0"]
    for before, after in ((first, second), (second, third)):
        assert marks(before)[-1] in marks(after)
        assert unmarked(after["messages"])[: len(before["messages"])] == unmarked(before["messages"])
        assert {name: before[name] for name in ("system", "tools")} == {
            name: after[name] for name in ("system", "tools")
        }


def test_tools_are_marked_where_there_is_no_system_prompt_and_nothing_is_where_caching_is_off() -> None:
    assert marks(body_of(request(tools=[TOOL, TOOL]))) == ["tool 1", "message 0.0"]
    assert marks(body_of(request(text_message(Role.SYSTEM, "s"), QUESTION, tools=[TOOL]), cache=False)) == []


@pytest.mark.parametrize(("ttl", "mark"), [("5m", {"type": "ephemeral"}), ("1h", {"type": "ephemeral", "ttl": "1h"})])
def test_the_marks_say_how_long_a_cache_lasts(ttl: str, mark: dict[str, str]) -> None:
    body = body_of(request(text_message(Role.SYSTEM, "s"), QUESTION), cache_ttl=ttl)
    marked = [body["system"][0], body["messages"][0]["content"][0]]
    assert [piece["cache_control"] for piece in marked] == [mark, mark]
    TypeAdapter(CacheControlEphemeralParam).validate_python(mark)


# What comes back


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("pause_turn", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
    ],
)
def test_every_stop_reason_has_its_meaning(reason: str, finish: FinishReason) -> None:
    events = read(*block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"}), *ended(reason))
    assert response_of(events).finish_reason is finish
    warned = any(isinstance(event, ModelWarning) for event in events)
    assert warned == (reason in ("model_context_window_exceeded", "pause_turn"))


def test_a_tool_that_runs_at_the_server_is_no_call() -> None:
    start = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
    events = read(*block(0, start), *block(1, {"type": "text", "text": "a"}), *ended("tool_use"))
    assert response_of(events).finish_reason is FinishReason.STOP


def test_a_refusal_says_why() -> None:
    events = read(*ended("refusal", stop_details={"type": "refusal", "explanation": "too cyber"}))
    assert [event.message for event in events if isinstance(event, ModelWarning)] == ["Anthropic refused: too cyber"]


def test_cached_tokens_are_part_of_the_input() -> None:
    start = {"input_tokens": 3, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 7, "output_tokens": 1}
    told = {"output_tokens": 20, "input_tokens": None, "output_tokens_details": {"thinking_tokens": 5}}
    events = read({"type": "message_start", "message": {"model": "m", "usage": start}}, {**ended()[0], "usage": told})
    assert response_of(events).usage == Usage(
        input_tokens=60,
        output_tokens=20,
        total_tokens=80,
        cache_read_input_tokens=50,
        cache_creation_input_tokens=7,
        reasoning_output_tokens=5,
    )


def test_tokens_that_are_cached_for_an_hour_are_counted_apart() -> None:
    written = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}
    start = {"input_tokens": 3, "cache_creation_input_tokens": 7, "cache_creation": written, "output_tokens": 1}
    told = {"output_tokens": 20, "cache_creation_input_tokens": 7}
    events = read({"type": "message_start", "message": {"model": "m", "usage": start}}, {**ended()[0], "usage": told})
    usage = response_of(events).usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_creation_1h_input_tokens) == (10, 7, 5)


def test_usage_without_the_input_is_not_known() -> None:
    assert response_of(read({**ended()[0], "usage": {"output_tokens": 20}})).usage is None


def test_arguments_and_text_that_come_whole_with_the_start_are_taken() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    events = read(*block(0, {"type": "text", "text": "whole"}), *block(1, call), *ended("tool_use"))
    message = response_of(events).message
    assert TextDelta("whole") in events
    assert message.text == "whole"
    assert [part.arguments for part in message.tool_calls] == [{"a": 1}]


def test_events_that_are_not_known_are_passed_over() -> None:
    unknown = [{"type": "ping"}, {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta"}}]
    start, delta, stop = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"})
    assert response_of(read(start, *unknown, {"type": "later"}, delta, stop, *ended())).message.text == "a"


def test_an_answer_is_whole_once_its_stop_reason_came(model_server: ModelServer) -> None:
    model_server.script(Step(text=["a", "b"], fault=Fault.NO_DONE))
    assert isinstance(ask(model_server, request())[-1], ModelResponse)


def test_a_message_stop_without_a_stop_reason_is_no_end() -> None:
    assert read(*block(0, {"type": "text", "text": "a"}), {"type": "message_stop"}) == [TextDelta("a")]


# What goes wrong


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", ErrorKind.OVERLOADED),
        ("api_error", ErrorKind.OVERLOADED),
        ("rate_limit_error", ErrorKind.RATE_LIMIT),
        ("timeout_error", ErrorKind.TIMEOUT),
        ("authentication_error", ErrorKind.AUTH),
        ("permission_error", ErrorKind.AUTH),
        ("billing_error", ErrorKind.AUTH),
        ("not_found_error", ErrorKind.NOT_FOUND),
        ("request_too_large", ErrorKind.CONTEXT_LENGTH),
        ("invalid_request_error", ErrorKind.BAD_REQUEST),
        ("made_up_error", ErrorKind.OVERLOADED),
    ],
)
def test_an_error_in_the_stream_has_its_kind(kind: str, expected: ErrorKind) -> None:
    with pytest.raises(ProviderError, match="why") as caught:
        read({"type": "error", "error": {"type": kind, "message": "why"}})
    assert caught.value.kind is expected


def test_an_error_event_without_its_type_is_an_error() -> None:
    with pytest.raises(ProviderError, match="why"):
        read({"error": {"code": 500, "message": "why", "type": "server_error"}})


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}, ErrorKind.AUTH),
        (
            429,
            {"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}},
            ErrorKind.AUTH,
        ),
        (413, {"type": "request_too_large", "message": "m"}, ErrorKind.CONTEXT_LENGTH),
        (
            400,
            {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 1 + 2"},
            ErrorKind.CONTEXT_LENGTH,
        ),
        (504, {"type": "timeout_error", "message": "m"}, ErrorKind.TIMEOUT),
    ],
)
def test_what_the_body_says_goes_before_the_status(
    model_server: ModelServer, status: int, error: dict[str, Any], expected: ErrorKind
) -> None:
    model_server.script(Step(status=status, body={"type": "error", "error": error}))
    with pytest.raises(ProviderError) as caught:
        ask(model_server, request())
    assert caught.value.kind is expected
    assert len(model_server.requests) == 1


def test_a_secret_header_is_never_shown(model_server: ModelServer) -> None:
    model_server.script(Step(status=400, body={"error": {"message": "bad token hunter2-hunter2"}}))
    with pytest.raises(ProviderError) as caught:
        ask(model_server, request(), headers={"X-Gateway-Token": "hunter2-hunter2"})
    assert "hunter2" not in str(caught.value)


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
        ask(model_server, request(), **settings)
    assert caught.value.kind is kind


def test_a_page_instead_of_a_stream_points_to_the_base_url(model_server: ModelServer) -> None:
    model_server.script(Step(body="<html><body>Welcome</body></html>"))
    with pytest.raises(ProviderError, match="base_url") as caught:
        ask(model_server, request())
    assert caught.value.kind is ErrorKind.NOT_FOUND


# Counting


def count(server: ModelServer, path: str = "", **settings: Any) -> int:
    async def run() -> int:
        provider = afk_provider(Settings(base_url=server.base_url + path, **settings))
        try:
            return await provider.count_tokens(request(text_message(Role.USER, "word " * 100)))
        finally:
            await provider.aclose()

    return asyncio.run(run())


def test_the_server_counts_and_an_estimate_stands_in_where_it_cannot(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = count(model_server)
    assert 100 <= counted < 200
    assert model_server.requests == []
    monkeypatch.setattr("afk_provider_anthropic.provider.COUNT_PATH", "/v1/nothing-here")
    assert 100 <= count(model_server) < 200
    assert len(model_server.requests) == 1

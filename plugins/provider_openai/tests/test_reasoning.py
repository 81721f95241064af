"""Chat Completions as other servers speak it: what has to go back, text and reasoning in other forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from afk_provider_openai import Settings
from afk_provider_openai.chat import request_body
from afk_provider_openai.settings import server_from

from afkcli.plugin import (
    ImagePart,
    Message,
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
    ToolCallPart,
    ToolResultPart,
    text_message,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import ModelServer, Step
from tests.chat_chunks import (
    CHAT_ANSWER,
    END,
    HALVES,
    QUESTION,
    STREAM,
    TOOLS,
    URL,
    A,
    B,
    ask,
    calls_of,
    delta,
    piece,
    pieces,
    read,
    sent,
    shown_calls,
)

# what goes back


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_the_reasoning_of_a_step_with_calls_goes_back_to_the_same_server_and_model(field: str) -> None:
    _, response = read(
        delta(**{field: "I th"}), delta(**{field: "ink"}), pieces(piece(A, index=0, id="x", name="look")), END
    )
    parts = response.message.parts
    assert sent(*parts)[1][field] == "I think"
    assert field not in sent(*parts, model="other")[1]
    assert field not in sent(*parts, url="http://127.0.0.1:2/v1")[1]
    assert field not in sent(*parts[:1], TextPart(text="a"))[1], "an answer without calls"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("blank", [0, 2])
def test_a_step_with_calls_without_a_thought_sends_the_field_back_empty(field: str, blank: int) -> None:
    chunks = [pieces(piece(A, index=0, id="x", name="look")), END]
    chunks.insert(0 if not blank else 1, delta(role="assistant", content=None, **{field: ""}))
    _, response = read(*chunks)
    assert sent(*response.message.parts)[1][field] == ""
    assert field not in sent(*response.message.parts, model="other")[1]


def test_a_field_that_is_null_or_missing_is_not_sent_back() -> None:
    _, response = read(delta(reasoning_content=None), pieces(piece(A, index=0, id="x", name="look")), END)
    assert "reasoning_content" not in sent(*response.message.parts)[1]


def test_the_reasoning_of_an_answer_does_not_go_back() -> None:
    _, response = read(delta(reasoning_content="I think"), delta(content="a"), delta("stop"))
    assert response.message.parts[0] == ReasoningPart(text="I think")
    assert sent(*response.message.parts)[1] == {"role": "assistant", "content": "a"}


def test_the_details_of_a_gateway_go_back_joined_as_it_wants_them() -> None:
    text = {"type": "reasoning.text", "index": 0, "format": "f"}
    secret = {"type": "reasoning.encrypted", "index": 1, "data": "zz", "id": "r1"}
    _, response = read(
        delta(reasoning="I th", reasoning_details=[{**text, "text": "I th"}]),
        delta(reasoning="ink", reasoning_details=[{**text, "text": "ink", "signature": "s"}, secret]),
        pieces(piece(A, index=0, id="x", name="look")),
        END,
    )
    assert sent(*response.message.parts)[1]["reasoning_details"] == [
        {**text, "text": "I think", "signature": "s"},
        secret,
    ]


def test_the_signature_of_a_call_goes_back_with_it_alone() -> None:
    signature = {"google": {"thought_signature": "c2ln"}}
    _, response = read(
        pieces(piece(A, index=0, id="x", name="look", extra_content=signature)),
        pieces(piece(B, index=1, id="y", name="find")),
        END,
    )
    first, second = sent(*response.message.parts)[1]["tool_calls"]
    assert first["extra_content"] == signature
    assert second.keys() == {"id", "type", "function"}
    elsewhere = sent(*response.message.parts, url="http://127.0.0.1:2/v1")[1]["tool_calls"]
    assert all(call.keys() == {"id", "type", "function"} for call in elsewhere)


def test_what_another_provider_signed_stays_here() -> None:
    data = ProviderData(provider="anthropic", api="messages", model="m", payload={"signature": "mark"})
    call = ToolCallPart(id="toolu_1", name="look", arguments={}, provider_data=data)
    body = sent(ReasoningPart(text="thought", provider_data=data), call)
    assert "mark" not in json.dumps(body)
    assert "thought" not in json.dumps(body)


def kept_request(server: ModelServer) -> ModelRequest:
    call = piece(A, index=0, id="x", name="look", extra_content={"google": {"thought_signature": "s"}})
    chunks = [delta(reasoning_content="I think"), pieces(call), END]
    server.script(Step(body="".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), headers=STREAM))
    *_, response = ask(server)
    assert isinstance(response, ModelResponse)
    result = ToolResultPart(id=response.message.tool_calls[0].id, name="look", parts=(TextPart(text="seen"),))
    return ModelRequest(
        model="m", messages=[QUESTION, response.message, Message(role=Role.TOOL, parts=(result,))], tools=TOOLS
    )


@pytest.mark.parametrize("field", ["reasoning_content", "extra_content"])
def test_a_field_that_the_server_refuses_is_left_out_once_and_for_all_with_a_warning(
    model_server: ModelServer, field: str
) -> None:
    request = kept_request(model_server)
    refusal = Step(status=400, body={"error": {"message": f"Unrecognized request argument supplied: {field}"}})
    model_server.script(refusal, Step(body=CHAT_ANSWER, headers=STREAM))
    events = ask(model_server, request, request)
    _, refused, again, next_call = [
        body["messages"][1] if len(body["messages"]) > 1 else None for body in model_server.bodies
    ]
    assert field in json.dumps(refused)
    for sent_again in (again, next_call):
        assert field not in json.dumps(sent_again)
    assert [event.code for event in events if isinstance(event, ModelWarning)] == ["field_refused"]


def test_another_refusal_is_not_repeated(model_server: ModelServer) -> None:
    request = kept_request(model_server)
    model_server.script(Step(status=400, body={"error": {"message": "temperature is too high"}}))
    with pytest.raises(ProviderError):
        ask(model_server, request)
    assert len(model_server.bodies) == 2


def test_nothing_empty_is_sent_and_roles_take_turns() -> None:
    for parts in ((ReasoningPart(text="I think"),), (), (TextPart(text=" \n"),)):
        body = sent(*parts)
        assert [message["role"] for message in body] == ["user", "assistant", "user"]
        assert all(message["content"].strip() for message in body)


def test_questions_in_a_row_are_one_message_because_chat_templates_refuse_two() -> None:
    second, third = (text_message(Role.USER, text) for text in ("second", "third"))
    answer = Message(role=Role.ASSISTANT, parts=(TextPart(text="a"),))
    asked = [QUESTION, second, third, answer, QUESTION, second]
    request = ModelRequest(model="m", messages=asked)
    body = request_body(server_from(Settings(base_url=URL)), request, ToolNames.of(request))["messages"]
    assert [(message["role"], message["content"]) for message in body] == [
        ("user", "q\n\nsecond\n\nthird"),
        ("assistant", "a"),
        ("user", "q\n\nsecond"),
    ]


def test_a_question_with_an_image_and_one_behind_it_are_one_list_of_parts() -> None:
    image = ImagePart(sha256="a" * 64, media_type="image/png", size=3, name="cat.png")
    seen = Message(role=Role.USER, parts=(TextPart(text="see"), image))
    request = ModelRequest(model="m", messages=[QUESTION, seen, QUESTION], content=lambda part: b"png")
    (message,) = request_body(server_from(Settings(base_url=URL)), request, ToolNames.of(request))["messages"]
    assert [part.get("text", part["type"]) for part in message["content"]] == ["q", "see", "image_url", "q"]


@pytest.mark.parametrize("parts", [(), (TextPart(text=""),), (TextPart(text=" \n"),)])
def test_an_empty_result_gets_a_mark(parts: tuple[TextPart, ...]) -> None:
    call = ToolCallPart(id="x", name="look", arguments={})
    result = sent(call, results=[ToolResultPart(id="x", name="look", parts=parts)])[2]
    assert result["content"] == "(no output)"
    failed = sent(call, results=[ToolResultPart(id="x", name="look", parts=parts, is_error=True)])[2]
    assert failed["content"].startswith("Error: ")


LONG = "c" * 65


@pytest.mark.parametrize("id_", ["x", LONG, "call|1", "functions.look:0", "ü", "", "a b"])
@pytest.mark.parametrize("model", ["m", "mistral-large-latest"])
def test_ids_are_unique_and_legal_and_the_same_for_call_and_result(id_: str, model: str) -> None:
    step = [
        Message(role=Role.ASSISTANT, parts=(ToolCallPart(id=id_, name="look", arguments={}),)),
        Message(role=Role.TOOL, parts=(ToolResultPart(id=id_, name="look", parts=(TextPart(text="seen"),)),)),
    ]
    request = ModelRequest(model=model, messages=[QUESTION, *step, *step, *step], tools=TOOLS)
    body = request_body(server_from(Settings(base_url=URL)), request, ToolNames.of(request))["messages"]
    calls = [message["tool_calls"][0]["id"] for message in body if message["role"] == "assistant"]
    assert calls == [message["tool_call_id"] for message in body if message["role"] == "tool"]
    assert len(set(calls)) == 3
    length = 9 if model != "m" else 40
    assert all(0 < len(call) <= length and call.replace("_", "").isalnum() and call.isascii() for call in calls)
    shorter = ModelRequest(model=model, messages=[QUESTION, *step], tools=TOOLS)
    earlier = request_body(server_from(Settings(base_url=URL)), shorter, ToolNames.of(shorter))["messages"]
    assert body[: len(earlier)] == earlier, "the beginning of a conversation is sent as it was, for prompt caches"


def test_the_id_of_a_server_of_odd_form_goes_back_to_it_as_it_was() -> None:
    _, response = read(pieces(piece(A, index=0, id="functions.look:0", name="look")), END)
    assert sent(*response.message.parts)[1]["tool_calls"][0]["id"] == "functions.look:0"
    assert ":" not in sent(*response.message.parts, model="other")[1]["tool_calls"][0]["id"]


# text and reasoning


@pytest.mark.parametrize(
    "texts",
    [
        ["<think>I think</think>answer"],
        ["<think>\nI think</think>\n\nanswer"],
        ["\n<th", "ink>I th", "ink</th", "ink>\n", "\nans", "wer"],
        list("<think>I think</think>\n\nanswer"),
    ],
)
def test_reasoning_at_the_start_of_the_text_is_reasoning(texts: list[str]) -> None:
    events, response = read(*[delta(content=text) for text in texts], delta("stop"))
    assert response.message.text == "answer"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "answer"
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "I think"
    assert response.message.parts[0] == ReasoningPart(text="I think")


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        (["a <think>b</think>"], {}),
        (["<thin", "k about it>"], {}),
        (["<"], {}),
        (["<th"], {}),
        ([" \n"], {}),
        (["<think> is a tag"], {}),
        (["<think>I think</think>answer"], {"think_tags": False}),
        (['{"a": "<think>b</think>"}'], {}),
    ],
)
def test_other_text_stays_text(texts: list[str], settings: dict[str, Any]) -> None:
    events, response = read(*[delta(content=text) for text in texts], delta("stop"), **settings)
    assert response.message.text == "".join(texts)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "".join(texts)


def test_reasoning_that_the_server_splits_leaves_tags_in_the_text_alone() -> None:
    _, response = read(delta(reasoning_content="I think"), delta(content="<think>x</think>"), delta("stop"))
    assert response.message.text == "<think>x</think>"


def test_reasoning_in_the_text_is_never_part_of_an_answer_with_a_schema() -> None:
    request = ModelRequest(model="m", messages=[QUESTION], output_schema={"type": "object"})
    chunks = [delta(content="<think>{}</think>"), delta(content='{"a": 1}'), delta("stop")]
    _, response = read(*chunks, request=request, think_tags=False)
    assert response.message.text == '{"a": 1}'


def test_reasoning_that_the_limit_cut_stays_reasoning() -> None:
    _, response = read(delta(content="<think>I th"), delta("length"))
    assert response.message.parts == (ReasoningPart(text="I th"),)


@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning", "refusal"])
def test_a_character_cut_in_two_is_joined(field: str) -> None:
    events, response = read(delta(**{field: f"a{HALVES[0]}"}), delta(**{field: f"{HALVES[1]}b"}), delta("stop"))
    assert "".join(getattr(event, "text", "") for event in events) == "a😀b"
    assert "".join(getattr(part, "text", "") for part in response.message.parts) == "a😀b"


def test_a_character_cut_in_two_in_arguments_is_joined_before_the_tool_sees_it() -> None:
    events, response = read(
        pieces(piece('{"a": "' + HALVES[0], index=0, id="x", name="look")),
        pieces(piece(HALVES[1] + '"}', index=0)),
        END,
    )
    assert calls_of(response) == [("look", {"a": "😀"})]
    assert shown_calls(events) == [("look", '{"a": "😀"}')]


def test_half_a_character_at_the_end_is_shown_as_it_is_kept() -> None:
    events, response = read(delta(content="a" + HALVES[0]), delta("stop"))
    assert response.message.text == "a\ufffd" == "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", ""),
        (["a", "b"], "ab", ""),
        ({"type": "text", "text": "ab"}, "ab", ""),
        ([{"type": "text", "text": {"value": "ab"}}], "ab", ""),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "ab"}],
            "ab",
            "t",
        ),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "output_text", "text": "ab"}], "ab", ""),
        ([None, 3, {"type": "text", "text": None}, "ab"], "ab", ""),
    ],
)
def test_content_as_a_list_of_parts_is_read(content: Any, text: str, reasoning: str) -> None:
    events, response = read(delta(content=content), delta("stop"))
    assert response.message.text == text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == reasoning


# signed thinking of Claude behind LiteLLM's proxy


def thinking(text: str = "", signature: str = "", place: str = "thinking_blocks") -> dict[str, Any]:
    block: dict[str, Any] = {"type": "thinking", "thinking": text} | ({"signature": signature} if signature else {})
    fields = {"reasoning_content": text, "content": ""}
    if place == "thinking_blocks":
        return delta(**fields, thinking_blocks=[block], provider_specific_fields={"thinking_blocks": [block]})
    return delta(**fields, provider_specific_fields={"thinking_blocks": [block]})


CALLED = [pieces(piece(A, index=0, id="x", name="look")), END]


@pytest.mark.parametrize("place", ["thinking_blocks", "provider_specific_fields"])
def test_signed_thinking_is_reasoning_and_goes_back_with_calls_to_its_own_model(place: str) -> None:
    events, response = read(
        thinking("I th", place=place), thinking("ink", place=place), thinking(signature="s1", place=place), *CALLED
    )
    parts = response.message.parts
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "I think"
    assert sent(*parts)[1]["thinking_blocks"] == [{"type": "thinking", "thinking": "I think", "signature": "s1"}]
    assert "thinking_blocks" not in sent(*parts, model="other")[1]
    assert "thinking_blocks" not in sent(*parts, url="http://127.0.0.1:2/v1")[1]
    assert "thinking_blocks" not in sent(*parts[:1], TextPart(text="a"))[1], "an answer without calls"


def test_thinking_blocks_of_a_whole_answer_go_back_as_they_came() -> None:
    blocks = [
        {"type": "thinking", "thinking": "one", "signature": "s1"},
        {"type": "redacted_thinking", "data": "zz"},
        {"type": "thinking", "thinking": "two", "signature": "s2"},
    ]
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "onetwo",
        "thinking_blocks": blocks,
        "tool_calls": [piece(A, id="x", name="look")],
    }
    _, response = read({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert sent(*response.message.parts)[1]["thinking_blocks"] == blocks


def test_thinking_without_a_signature_is_shown_and_does_not_go_back() -> None:
    block = {"type": "thinking", "thinking": "I think"}
    events, response = read(delta(thinking_blocks=[block]), *CALLED)
    assert events[0] == ReasoningDelta("I think")
    assert "thinking_blocks" not in sent(*response.message.parts)[1]


def test_thinking_blocks_are_never_part_of_an_answer_with_a_schema() -> None:
    request = ModelRequest(model="m", messages=[QUESTION], output_schema={"type": "object"})
    _, response = read(
        thinking('{"b": 2}'), thinking(signature="s"), delta(content='{"a": 1}'), delta("stop"), request=request
    )
    assert response.message.text == '{"a": 1}'


def test_refused_thinking_blocks_are_left_out_with_a_warning(model_server: ModelServer) -> None:
    chunks = [thinking("I think", "s1"), *CALLED]
    refusal = Step(
        status=400, body={"error": {"message": "messages.1.thinking_blocks: Extra inputs are not permitted"}}
    )
    answered = Step(body="".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), headers=STREAM)
    model_server.script(answered, refusal, Step(body=CHAT_ANSWER, headers=STREAM))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    result = ToolResultPart(id=response.message.tool_calls[0].id, name="look", parts=(TextPart(text="seen"),))
    messages = [QUESTION, response.message, Message(role=Role.TOOL, parts=(result,))]
    events = ask(model_server, ModelRequest(model="m", messages=messages, tools=TOOLS))
    assert [event.code for event in events if isinstance(event, ModelWarning)] == ["field_refused"]
    assert ["thinking_blocks" in json.dumps(body) for body in model_server.bodies[1:]] == [True, False]


# details of a gateway


def test_details_of_several_blocks_go_back_as_several() -> None:
    text, secret = {"type": "reasoning.text", "index": 0}, {"type": "reasoning.encrypted", "index": 0}
    chunks = [
        delta(reasoning_details=[{**text, "text": "I th"}]),
        delta(reasoning_details=[{**text, "text": "ink"}, {**secret, "id": "r1", "data": "zz"}]),
        delta(reasoning_details=[{**secret, "id": "r2", "data": "yy"}]),
        delta(reasoning_details=[{**secret, "index": 1, "data": "x"}]),
        delta(reasoning_details=[{**secret, "index": 1, "data": "x"}]),
    ]
    events, response = read(*chunks, *CALLED)
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "I think"
    assert sent(*response.message.parts)[1]["reasoning_details"] == [
        {**text, "text": "I think"},
        {**secret, "id": "r1", "data": "zz"},
        {**secret, "id": "r2", "data": "yy"},
        {**secret, "index": 1, "data": "xx"},
    ]


def test_details_without_an_index_in_a_whole_answer_are_not_joined() -> None:
    details = [{"type": "reasoning.summary", "summary": "one"}, {"type": "reasoning.summary", "summary": "two"}]
    message = {"content": None, "reasoning_details": details, "tool_calls": [piece(A, id="x", name="look")]}
    _, response = read({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert sent(*response.message.parts)[1]["reasoning_details"] == details


# thoughts in Google's compatible API

THOUGHT = {"google": {"thought": True}}


def thought(text: str) -> dict[str, object]:
    return delta(content=text, extra_content=THOUGHT)


@pytest.mark.parametrize(
    "chunks",
    [
        [thought("<thought>I th"), thought("ink"), delta(content="</thought>answer")],
        [thought("<thought>I th"), thought("ink</thought>"), delta(content="answer")],
        [thought("I th"), thought("ink"), delta(content="answer")],
        [thought("<tho"), thought("ught>I think</th"), delta(content="ought>"), delta(content="\n\nanswer")],
        [thought("<thought>\nI think</thought>answer")],
        [delta(content="<thought>I th"), delta(content="ink</thought>\n"), delta(content="answer")],
        [thought("<thought>I th"), delta(role="assistant", content=None), thought("ink"), delta(content="answer")],
    ],
)
def test_thoughts_that_google_marks_are_reasoning(chunks: list[dict[str, object]]) -> None:
    events, response = read(*chunks, delta("stop"))
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "I think"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "answer"
    assert [getattr(part, "text", "") for part in response.message.parts] == ["I think", "answer"]


@pytest.mark.parametrize("think_tags", [True, False])
def test_marked_thoughts_are_never_in_the_json_of_a_schema(think_tags: bool) -> None:
    message = {"role": "assistant", "content": '<thought>{"b": 2}</thought>{"a": 1}', "extra_content": THOUGHT}
    request = ModelRequest(model="m", messages=[QUESTION], output_schema={"type": "object"})
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    _, response = read(whole, request=request, think_tags=think_tags)
    assert response.message.text == '{"a": 1}'


def test_a_less_than_sign_at_the_end_of_a_marked_thought_belongs_to_it() -> None:
    events, _ = read(thought("1 <"), delta(content="answer"), delta("stop"))
    assert [type(event).__name__ for event in events] == ["ReasoningDelta", "ReasoningDelta", "TextDelta"]
    assert "".join(getattr(event, "text", "") for event in events) == "1 <answer"


def test_an_answer_of_marked_thoughts_alone_shows_no_thought_as_text() -> None:
    events, response = read(thought("<thought>I think"), delta("stop"))
    assert not [event for event in events if isinstance(event, TextDelta)]
    assert response.message.parts == (ReasoningPart(text="I think"),)


def test_the_signature_of_a_message_goes_back_with_its_calls_and_the_mark_does_not() -> None:
    signed = delta(content="", extra_content={"google": {"thought_signature": "c2ln"}})
    _, response = read(thought("I think"), *CALLED[:1], signed, END)
    parts = response.message.parts
    assert sent(*parts)[1]["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert "extra_content" not in sent(*parts, model="other")[1]
    assert "extra_content" not in sent(*parts[:1], TextPart(text="a"))[1]

"""Chat Completions as other servers speak it: calls, reasoning, ends and errors in other forms than the API's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from afk_provider_openai import Settings, afk_provider
from afk_provider_openai.chat import ChatReader, request_body
from afk_provider_openai.settings import server_from

from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    ImagePart,
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
    Usage,
    text_message,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import ModelServer, Step

QUESTION = text_message(Role.USER, "q")
TOOLS = [
    ToolSpec(name=name, description="d", parameters={"type": "object"}) for name in ("look", "find", "get_weather")
]
REQUEST = ModelRequest(model="m", messages=[QUESTION], tools=TOOLS)
URL = "http://127.0.0.1:1/v1"


def read(*chunks: object, request: ModelRequest = REQUEST, **settings: Any) -> tuple[list[ModelEvent], ModelResponse]:
    reader = ChatReader(server_from(Settings(base_url=URL, **settings)), request, ToolNames.of(request))
    events = list(reader.feed([chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]))
    assert reader.finished
    return [*events, *reader.close()], reader.response()


def delta(finish: str | None = None, index: int = 0, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def pieces(*calls: dict[str, Any]) -> dict[str, object]:
    return delta(tool_calls=list(calls))


def piece(arguments: Any = "", **fields: Any) -> dict[str, Any]:
    function = {"arguments": arguments} if arguments is not ... else {}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return {"function": function, **fields}


def calls_of(response: ModelResponse) -> list[tuple[str, Any]]:
    return [(call.name, call.invalid_arguments or call.arguments) for call in response.message.tool_calls]


def shown_calls(events: Sequence[ModelEvent]) -> list[tuple[str, str]]:
    """Return name and arguments of each call as the events tell them."""
    found: dict[str, tuple[str, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            found[event.id] = (event.name, found.get(event.id, ("", ""))[1] + event.arguments)
    return list(found.values())


END = delta("tool_calls")
A, B = '{"a": 1}', '{"b": 2}'

ASSEMBLED = {
    "by the letter": [
        pieces(piece(index=0, id="x", name="look")),
        pieces(piece('{"a"', index=0)),
        pieces(piece(": 1}", index=0)),
        pieces(piece(index=1, id="y", name="find")),
        pieces(piece(B, index=1)),
    ],
    "one index for all": [
        pieces(piece(index=0, id="x", name="look")),
        pieces(piece(A, index=0)),
        pieces(piece(index=0, id="y", name="find")),
        pieces(piece(B, index=0)),
    ],
    "one index for all, whole": [
        pieces(piece(A, index=0, id="x", name="look"), piece(B, index=0, id="y", name="find"))
    ],
    "one index, no ids": [pieces(piece(A, index=0, name="look")), pieces(piece(B, index=0, name="find"))],
    "no index, in fragments": [
        pieces(piece(id="x", name="look")),
        pieces(piece('{"a"')),
        pieces(piece(": 1}")),
        pieces(piece(id="y", name="find")),
        pieces(piece(B)),
    ],
    "no index and no id, in fragments": [
        pieces(piece(name="look")),
        pieces(piece('{"a"')),
        pieces(piece(": 1}")),
        pieces(piece(name="find")),
        pieces(piece(B)),
    ],
    "no index and no id, whole": [pieces(piece(A, name="look"), piece(B, name="find"))],
    "an index that is a text": [pieces(piece(A, index="0", name="look")), pieces(piece(B, index="1", name="find"))],
    "id and name with each piece": [
        pieces(piece('{"a"', index=0, id="x", name="look")),
        pieces(piece(": 1}", index=0, id="x", name="look")),
        pieces(piece('{"b"', index=0, id="y", name="find")),
        pieces(piece(": 2}", index=0, id="y", name="find")),
    ],
    "empty ids with later pieces": [
        pieces(piece('{"a"', index=0, id="x", name="look")),
        pieces(piece(": 1}", index=0, id="", name="")),
        pieces(piece(B, index=1, id="y", name="find")),
        pieces(piece("", index=1, id=None, name=None)),
    ],
    "a name that comes late": [
        pieces(piece('{"a"', index=0, id="x")),
        pieces(piece(": 1}", index=0, name="look")),
        pieces(piece(B, index=1, id="y")),
        pieces(piece("", index=1, name="find")),
    ],
    "an id that comes late": [
        pieces(piece(index=0, name="look")),
        pieces(piece(A, index=0, id="x")),
        pieces(piece(B, index=1, id="y", name="find")),
    ],
    "the same id for both": [
        pieces(piece(A, index=0, id="x", name="look")),
        pieces(piece(B, index=1, id="x", name="find")),
    ],
    "the same id and index": [
        pieces(piece(A, index=0, id="x", name="look")),
        pieces(piece(B, index=0, id="x", name="find")),
    ],
    "indexes from one": [
        pieces(piece(A, index=1, id="x", name="look")),
        pieces(piece(B, index=2, id="y", name="find")),
    ],
    "objects as arguments": [
        pieces(piece({"a": 1}, index=0, id="x", name="look"), piece({"b": 2}, index=1, id="y", name="find"))
    ],
    "names beside the function": [
        pieces({"index": 0, "id": "x", "name": "look", "arguments": A}),
        pieces({"index": 1, "id": "y", "name": "find", "arguments": B}),
    ],
    "two choices": [
        {"choices": [{"index": 0, "delta": {"tool_calls": [piece(A, index=0, id="x", name="look")]}}]},
        {"choices": [{"index": 1, "delta": {"tool_calls": [piece(B, index=0, id="y", name="find")]}}]},
    ],
    "a second choice without its index": [
        {
            "choices": [
                {"delta": {"tool_calls": [piece(A, index=0, id="x", name="look")]}},
                {"delta": {"tool_calls": [piece(B, index=0, id="y", name="find")]}},
            ]
        },
    ],
    "a whole message": [
        {
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "content": None,
                        "tool_calls": [piece(A, id="x", name="look"), piece(B, id="y", name="find")],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        },
    ],
}


@pytest.mark.parametrize("form", ASSEMBLED)
def test_two_calls_are_two_calls_however_they_are_told_apart(form: str) -> None:
    events, response = read(*ASSEMBLED[form], END)
    assert calls_of(response) == [("look", {"a": 1}), ("find", {"b": 2})]
    assert [name for name, _ in shown_calls(events)] == ["look", "find"]
    assert [json.loads(arguments) for _, arguments in shown_calls(events)] == [{"a": 1}, {"b": 2}]
    assert len({call.id for call in response.message.tool_calls}) == 2
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_two_calls_of_one_tool_that_nothing_tells_apart_are_two() -> None:
    _, response = read(pieces(piece(A, index=0, name="look")), pieces(piece('{"a": 3}', index=0)), END)
    assert calls_of(response) == [("look", {"a": 1}), ("look", {"a": 3})]


def test_the_older_form_of_one_call_is_read() -> None:
    _, response = read(
        delta(function_call={"name": "look", "arguments": '{"a"'}),
        delta(function_call={"arguments": ": 1}"}),
        delta("function_call"),
    )
    assert calls_of(response) == [("look", {"a": 1})]


def test_a_name_in_two_pieces_is_joined() -> None:
    _, response = read(pieces(piece(index=0, id="x", name="get_")), pieces(piece(A, index=0, name="weather")), END)
    assert calls_of(response) == [("get_weather", {"a": 1})]


@pytest.mark.parametrize("arguments", [None, ..., "", "  ", "null", " null\n", "{}", {}])
def test_no_arguments_in_any_form_are_none(arguments: Any) -> None:
    _, response = read(pieces(piece(arguments, index=0, id="x", name="look")), END)
    assert calls_of(response) == [("look", {})]


@pytest.mark.parametrize("arguments", ["[1]", "1", '"text"', '{"a": 1', "{'a': 1}", [1], '{"a": 1}}'])
def test_arguments_that_are_no_object_are_kept_as_they_came(arguments: Any) -> None:
    _, response = read(pieces(piece(arguments, index=0, id="x", name="look")), END)
    (call,) = response.message.tool_calls
    assert call.arguments == {}
    assert call.invalid_arguments == (arguments if isinstance(arguments, str) else json.dumps(arguments))


def test_an_id_that_the_conversation_has_already_is_not_given_again() -> None:
    before = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="call_0", name="look", arguments={}),))
    request = ModelRequest(model="m", messages=[QUESTION, before], tools=TOOLS)
    _, response = read(pieces(piece(A, index=0, id="call_0", name="look")), END, request=request)
    assert response.message.tool_calls[0].id not in ("", "call_0")


# what goes back


def sent(
    *parts: Any, results: Sequence[Any] = (), model: str = "m", url: str = URL, **fields: Any
) -> list[dict[str, Any]]:
    messages = [QUESTION, Message(role=Role.ASSISTANT, parts=parts)]
    messages += [Message(role=Role.TOOL, parts=tuple(results))] if results else []
    server = server_from(Settings(base_url=url))
    request = ModelRequest(model=model, messages=[*messages, QUESTION], **fields)
    body: list[dict[str, Any]] = request_body(server, request, ToolNames.of(request))["messages"]
    return body


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


CHAT_ANSWER = (
    'data: {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
STREAM = {"Content-Type": "text/event-stream"}


def ask(server: ModelServer, *requests: ModelRequest, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        provider = afk_provider(Settings(base_url=server.base_url, api="chat", **settings))
        try:
            return [event for request in requests or (REQUEST,) async for event in provider.stream(request)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


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


HALVES = ["\ud83d", "\ude00"]


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


# ends


def test_text_in_one_choice_and_a_call_in_another_are_one_answer() -> None:
    chunks = [
        delta(content="I look"),
        {
            "choices": [
                {"index": 1, "delta": {"tool_calls": [piece(A, index=0, id="x", name="look")]}, "finish_reason": None}
            ]
        },
        delta("stop"),
        delta("tool_calls", index=1),
    ]
    _, response = read(*chunks)
    assert (response.message.text, calls_of(response)) == ("I look", [("look", {"a": 1})])
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_two_texts_come_one_after_the_other() -> None:
    events, response = read(
        delta(content="a"), delta(content="x", index=1), delta("stop", content="b"), delta("stop", index=1, content="y")
    )
    assert (
        response.message.text == "ab\n\nxy" == "".join(event.text for event in events if isinstance(event, TextDelta))
    )


@pytest.mark.parametrize("reason", ["network_error", "insufficient_system_resource", "error", "abort"])
def test_a_server_s_own_failure_before_any_output_may_be_tried_again(reason: str) -> None:
    with pytest.raises(ProviderError, match=reason) as caught:
        read(delta(reason))
    assert caught.value.kind is ErrorKind.OVERLOADED


@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "something new"])
def test_an_end_that_says_more_than_there_is_fails_once(reason: str) -> None:
    for chunks in ([delta(reason)], [delta(content="a"), delta(reason)]):
        with pytest.raises(ProviderError, match=reason) as caught:
            read(*chunks)
        assert caught.value.kind is ErrorKind.TRUNCATED


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("sensitive", FinishReason.CONTENT_FILTER),
        ("end_turn", FinishReason.STOP),
    ],
)
def test_the_words_of_other_apis_are_known(word: str, reason: FinishReason) -> None:
    assert read(delta(content="a"), delta(word))[1].finish_reason is reason


# bodies and streams

WHOLE = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}
OK = f"data: {json.dumps(delta(content='ok'))}\n\n"
STOP = f"data: {json.dumps(delta('stop'))}\n\n"

ANSWERS = {
    "one JSON object": (json.dumps(WHOLE), {"Content-Type": "application/json"}),
    "one JSON object, on many lines": (json.dumps(WHOLE, indent=2), {"Content-Type": "application/json"}),
    "one JSON object, called a stream": (json.dumps(WHOLE), STREAM),
    "one JSON object in an event": (f"data: {json.dumps(WHOLE)}\n\ndata: [DONE]\n\n", STREAM),
    "a stream that is called JSON": (OK + STOP, {"Content-Type": "application/json"}),
    "a stream that is called a page": (OK + STOP, {"Content-Type": "text/html"}),
    "lines of JSON": (
        f"{json.dumps(delta(content='ok'))}\n{json.dumps(delta('stop'))}\n",
        {"Content-Type": "application/x-ndjson"},
    ),
    "empty data before the first token": ("data:\n\n" + OK + STOP, STREAM),
    "empty data in the middle": (OK + "data: \n\ndata\n\n: ping\n\n" + STOP, STREAM),
    "a byte order mark": ("\ufeff" + OK + STOP, STREAM),
    "no blank line at the end": (OK + STOP.rstrip("\n"), STREAM),
    "a ping of its own type": ("event: ping\ndata: {}\n\n" + OK + STOP, STREAM),
    "CR alone": ((OK + STOP).replace("\n", "\r"), STREAM),
}


@pytest.mark.parametrize("form", ANSWERS)
def test_an_answer_in_another_form_is_read(model_server: ModelServer, form: str) -> None:
    body, headers = ANSWERS[form]
    model_server.script(Step(body=body, headers=headers))
    *events, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.text == "ok" == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert not [event for event in events if isinstance(event, ModelWarning)]


@pytest.mark.parametrize(
    ("behind", "says"),
    [
        ("data: END\n\n", "END"),
        ("data: done\n\n", "malformed"),
        ('data: {"cut\n\n', "malformed"),
        ('data: {"error": {"message": "too late"}}\n\n', "too late"),
        ("event: error\ndata: too late\n\n", "too late"),
    ],
)
def test_what_is_whole_stays_whole_and_a_warning_tells_the_rest(
    model_server: ModelServer, behind: str, says: str
) -> None:
    model_server.script(Step(body=OK + STOP + behind, headers=STREAM))
    *events, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.text == "ok"
    (warning,) = [event for event in events if isinstance(event, ModelWarning)]
    assert warning.code == "after_answer"
    assert says in warning.message or says == "END"


ERRORS = {
    "vLLM's": 'data: {"object": "error", "message": "mark-why", "type": "BadRequestError", "code": 400}\n\n',
    "an event of its type": 'event: error\ndata: {"message": "mark-why", "code": 400}\n\n',
    "an event of its type, in words": "event: error\ndata: invalid_request: mark-why\n\n",
    "a field": 'error: {"code": 400, "message": "mark-why", "type": "invalid_request_error"}\n\n',
    "a bare body": '{"error": {"code": 400, "message": "mark-why"}}',
    "a bare body, on many lines": '{\n  "error": {\n    "code": 400,\n    "message": "mark-why"\n  }\n}\n',
    "a bare array": '[{"error": {"code": 400, "message": "mark-why", "status": "INVALID_ARGUMENT"}}]',
    "FastAPI's": '{"detail": [{"loc": ["body"], "msg": "mark-why", "type": "validation_error"}]}',
    "after the role": f"data: {json.dumps(delta(role='assistant'))}\n\n"
    'data: {"error": {"message": "mark-why", "code": 400}}\n\n',
}


@pytest.mark.parametrize("form", ERRORS)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_an_error_in_a_stream_is_read_in_any_shape(model_server: ModelServer, form: str, kind: str) -> None:
    model_server.script(Step(body=ERRORS[form], headers={"Content-Type": kind}))
    with pytest.raises(ProviderError, match="mark-why") as caught:
        ask(model_server)
    if "words" not in form:
        assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_a_last_message_that_differs_is_noticed_and_what_was_shown_is_kept() -> None:
    whole = {"choices": [{"index": 0, "delta": {}, "message": {"content": "b"}, "finish_reason": "stop"}]}
    events, response = read(delta(content="a"), whole)
    assert response.message.text == "a"
    assert [event.code for event in events if isinstance(event, ModelWarning)] == ["answer_differs"]


def test_a_last_message_that_says_more_is_added() -> None:
    whole = {"choices": [{"index": 0, "delta": {}, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    events, response = read(delta(content="a"), whole)
    assert response.message.text == "ab" == "".join(event.text for event in events if isinstance(event, TextDelta))


# URLs


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("?api-version=2024-10-21", "/v1/chat/completions?api-version=2024-10-21"),
        ("/openai/deployments/d?api-version=1", "/v1/openai/deployments/d/chat/completions?api-version=1"),
        ("/?a=1&b=2", "/v1/chat/completions?a=1&b=2"),
        ("/chat/completions", "/v1/chat/completions"),
    ],
)
def test_the_query_of_a_base_url_goes_with_every_request(model_server: ModelServer, suffix: str, path: str) -> None:
    model_server.script(Step(body=CHAT_ANSWER, headers=STREAM))

    async def run() -> None:
        provider = afk_provider(Settings(base_url=model_server.base_url + suffix, api_key="mark-key", api="chat"))
        assert [event async for event in provider.stream(REQUEST)]
        await provider.aclose()

    asyncio.run(run())
    (request,) = model_server.requests
    assert request.path == path
    assert request.headers.get("api-key") == ("mark-key" if "deployments" in suffix else None)
    assert request.headers["accept-encoding"] == "identity"


def test_usage_of_a_negative_count_is_unknown(model_server: ModelServer) -> None:
    usage = {"prompt_tokens": -3, "completion_tokens": 1.0}
    model_server.script(Step(body=f"{OK}{STOP}data: {json.dumps({'choices': [], 'usage': usage})}\n\n", headers=STREAM))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.usage == Usage(output_tokens=1, unknown=("input_tokens", "total_tokens"))

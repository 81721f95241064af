"""The Responses API as other servers write it: items told by id or place, missing events, other ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from afk_provider_openai import Settings
from afk_provider_openai.responses import ResponsesReader
from afk_provider_openai.responses_request import request_body
from afk_provider_openai.settings import server_from

from afkcli.plugin import (
    ErrorKind,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    OpaqueDelta,
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

URL = "http://127.0.0.1:1/v1"
QUESTION = text_message(Role.USER, "q")
REQUEST = ModelRequest(model="m", messages=[QUESTION])


def read(*events: dict[str, Any]) -> tuple[list[ModelEvent], ModelResponse]:
    reader = ResponsesReader(server_from(Settings(base_url=URL, api="responses")), REQUEST, ToolNames([]))
    found = list(reader.feed([json.dumps(event) for event in events]))
    assert reader.finished
    return found, reader.response()


def text(delta: str | None, **fields: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": delta, **fields}


def arguments(delta: str, **fields: Any) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "delta": delta, **fields}


def added(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": {"type": "function_call", **item}}


def completed(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"output": list(output), **fields}}


def shown(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


MESSAGE = {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": "ab"}]}


@pytest.mark.parametrize(
    "events",
    [
        [text("a"), text("b"), completed()],
        [text("a", item_id="m1"), text("b", item_id="m1"), completed(MESSAGE)],
        [text("a", output_index=0), text(None, output_index=0), text("b", output_index=0), completed(MESSAGE)],
        [completed(MESSAGE)],
        [{"object": "response", "status": "completed", "output": [MESSAGE]}],
    ],
)
def test_text_is_shown_and_kept_whatever_events_tell_it(events: list[dict[str, Any]]) -> None:
    found, response = read(*events)
    assert response.message.text == "ab" == shown(found)


@pytest.mark.parametrize("indexes", [(0, 1), (0, 0)])
def test_two_calls_are_two_calls_also_with_one_index(indexes: tuple[int, int]) -> None:
    events = []
    for index, name in zip(indexes, ("look", "find"), strict=True):
        events.append(added(index, id=f"fc_{name}", call_id=f"call_{name}", name=name))
        events.append(arguments(f'{{"n": "{name}"}}', output_index=index, item_id=f"fc_{name}"))
    _, response = read(*events, completed())
    assert [(call.name, call.arguments) for call in response.message.tool_calls] == [
        ("look", {"n": "look"}),
        ("find", {"n": "find"}),
    ]


def test_a_call_that_only_the_last_event_tells_is_not_lost() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "look", "arguments": None}
    _, response = read(
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}, completed(MESSAGE, call)
    )
    assert [(part.name, part.arguments) for part in response.message.tool_calls] == [("look", {})]
    assert response.message.text == "ab"


def test_a_last_message_that_differs_is_noticed_and_what_was_shown_is_kept() -> None:
    done = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}
    found, response = read(text("x", output_index=0, item_id="m1"), done, completed(MESSAGE))
    assert response.message.text == "x" == shown(found)
    assert [event.code for event in found if isinstance(event, ModelWarning)] == ["answer_differs"]


def test_a_character_cut_in_two_is_joined_in_every_field() -> None:
    reasoning = "response.reasoning_summary_text.delta"
    found, response = read(
        {"type": reasoning, "delta": "\ud83d", "output_index": 0},
        {"type": reasoning, "delta": "\ude00", "output_index": 0},
        text("\ud83d", output_index=1),
        text("\ude00", output_index=1),
        added(2, id="fc", call_id="c", name="look"),
        arguments('{"a": "\ud83d', output_index=2, item_id="fc"),
        arguments('\ude00"}', output_index=2, item_id="fc"),
        completed(),
    )
    assert "".join(event.text for event in found if isinstance(event, ReasoningDelta)) == "😀"
    assert response.message.text == "😀" == shown(found)
    assert response.message.tool_calls[0].arguments == {"a": "😀"}


def test_encrypted_reasoning_goes_back_to_its_own_server_and_model_alone() -> None:
    item = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "mark-secret"}
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "look", "arguments": "{}"}
    _, response = read(completed(item, call))
    assert isinstance(response.message.parts[0], ReasoningPart)

    def sent(url: str, model: str) -> str:
        request = ModelRequest(model=model, messages=[QUESTION, response.message])
        return json.dumps(request_body(server_from(Settings(base_url=url, api="responses")), request, ToolNames([])))

    assert "mark-secret" in sent(URL, "m")
    assert "mark-secret" not in sent("http://127.0.0.1:2/v1", "m")
    assert "mark-secret" not in sent(URL, "other")


def test_ids_of_other_providers_are_legal_and_unique() -> None:
    call = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="c" * 65, name="look", arguments={}),))
    request = ModelRequest(model="m", messages=[QUESTION, call, call])
    body = request_body(server_from(Settings(base_url=URL, api="responses")), request, ToolNames([]))
    ids = [item["call_id"] for item in body["input"] if item.get("type") == "function_call"]
    assert len(set(ids)) == 2
    assert all(len(id_) <= 64 for id_ in ids)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "id": "same", "call_id": "c", "name": "look", "arguments": "{}"},
        {
            "type": "message",
            "id": "same",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        },
    ],
    ids=["call", "message"],
)
def test_an_item_id_that_a_server_gives_again_is_sent_once(item: dict[str, Any]) -> None:
    _, response = read(completed(item))
    request = ModelRequest(model="m", messages=[QUESTION, response.message, response.message, response.message])
    body = request_body(server_from(Settings(base_url=URL, api="responses")), request, ToolNames([]))
    sent = [found for found in body["input"] if found.get("type") == item["type"]]

    assert [found.get("id") for found in sent] == ["same", None, None]
    key = "name" if item["type"] == "function_call" else "content"
    assert [found[key] for found in sent] == [item[key]] * 3


def test_an_error_in_another_shape_is_an_error() -> None:
    with pytest.raises(ProviderError, match="mark-why") as caught:
        read({"object": "error", "message": "mark-why", "code": 400})
    assert caught.value.kind is ErrorKind.BAD_REQUEST


def body_of(*messages: Message, model: str = "m") -> dict[str, Any]:
    request = ModelRequest(model=model, messages=messages)
    return request_body(server_from(Settings(base_url=URL, api="responses")), request, ToolNames([]))


@pytest.mark.parametrize("parts", [(), (TextPart(text=""),), (TextPart(text=" \n"),)])
def test_an_empty_result_gets_a_mark(parts: tuple[TextPart, ...]) -> None:
    call = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="c", name="look", arguments={}),))
    result = Message(role=Role.TOOL, parts=(ToolResultPart(id="c", name="look", parts=parts),))
    assert body_of(QUESTION, call, result)["input"][-1]["output"] == "(no output)"


REASONING = {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "secret"}
CALL = {"type": "function_call", "id": "fc_0", "call_id": "c", "name": "look", "arguments": "{}"}


def test_reasoning_of_an_id_that_a_server_gives_again_is_sent_once_and_what_follows_goes_without_its_id() -> None:
    """The API refuses a second item of one id, and an item with an id whose reasoning is missing."""
    _, first = read(completed(REASONING, CALL))
    _, second = read(completed({**REASONING, "encrypted_content": "another"}, {**CALL, "id": "fc_1"}))
    items = body_of(QUESTION, first.message, QUESTION, second.message)["input"]

    assert [item["encrypted_content"] for item in items if item.get("type") == "reasoning"] == ["secret"]
    assert [item.get("id") for item in items if item.get("type") == "function_call"] == ["fc_0", None]


def test_reasoning_of_one_id_twice_in_an_answer_is_sent_once() -> None:
    _, first = read(completed(REASONING, CALL))
    _, second = read(completed(REASONING, {**CALL, "id": "fc_1"}))
    answer = Message(role=Role.ASSISTANT, parts=(*first.message.parts, *second.message.parts))
    items = body_of(QUESTION, answer)["input"]
    assert [item.get("id") for item in items if item.get("type")] == ["rs_0", "fc_0", None]


@pytest.mark.parametrize(
    ("given", "goes_back"),
    [("functions.look:0", True), ("call|1", True), ("c" * 64, True), ("c" * 65, False)],
)
def test_the_id_of_a_call_goes_back_to_its_server_as_it_came(given: str, goes_back: bool) -> None:
    _, response = read(completed({**CALL, "call_id": given}))
    items = body_of(QUESTION, response.message, QUESTION, response.message)["input"]
    ids = [item["call_id"] for item in items if item.get("type") == "function_call"]
    assert (ids[0] == given) is goes_back
    assert len(set(ids)) == 2


LONG = "x" * 1000


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": LONG},
        {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": LONG}},
        {"type": "code_interpreter_call", "id": "c", "outputs": [{"type": "logs", "logs": LONG}]},
        {"type": "message", "id": LONG, "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "id": LONG, "call_id": "x", "name": "look", "arguments": "{}"},
    ],
    ids=lambda item: str(item["type"]),
)
def test_what_no_event_shows_is_counted_as_it_comes(item: dict[str, Any]) -> None:
    events, _ = read({"type": "response.output_item.done", "output_index": 0, "item": item}, completed())
    counted = [event.size for event in events if isinstance(event, OpaqueDelta)]

    assert 1000 <= sum(counted) < 1200

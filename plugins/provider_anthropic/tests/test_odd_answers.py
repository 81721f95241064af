"""Answers that no standard knows: a name that comes late, several objects in an event, characters cut in two."""

from __future__ import annotations

import json
from typing import Any

import pytest
from afk_provider_anthropic import Settings
from afk_provider_anthropic.answer import AnswerReader
from afk_provider_anthropic.request import request_prefix
from afk_provider_anthropic.settings import server_from

from afkcli.plugin import (
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ProviderError,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    text_message,
)
from afkcli.providers.tool_names import ToolNames

END = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]
CALLED = [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
FACE = "\U0001f600"


def read(*events: dict[str, Any] | str) -> tuple[list[ModelEvent], ModelResponse]:
    request = ModelRequest(model="m", messages=[text_message(Role.USER, "q")])
    names = ToolNames.of(request)
    reader = AnswerReader(server_from(Settings(api_key="k")), request, names, request_prefix(request, names))
    seen = list(reader.feed([event if isinstance(event, str) else json.dumps(event) for event in events]))
    assert reader.finished
    return [*seen, *reader.close()], reader.response()


def start(block: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index, **fields}


def text(index: int, said: str) -> dict[str, Any]:
    return piece(index, type="text_delta", text=said)


def arguments(said: str, **fields: Any) -> dict[str, Any]:
    return piece(type="input_json_delta", partial_json=said, **fields)


NAMELESS = {"type": "tool_use", "id": "t", "name": "", "input": {}}
WITHOUT_ID = {"type": "tool_use", "input": {}}
LATE = {
    "in a piece": [start(NAMELESS), arguments("", name="look"), arguments('{"a": 1}')],
    "in a piece behind arguments": [start(NAMELESS), arguments('{"a"'), arguments(": 1}", name="look")],
    "in a piece of its own": [start(NAMELESS), piece(type="tool_use_delta", name="look"), arguments('{"a": 1}')],
    "in a piece without a type": [start(NAMELESS), arguments('{"a": 1}'), piece(name="look")],
    "in a second start": [start(NAMELESS), start({**NAMELESS, "name": "look"}), arguments('{"a": 1}')],
    "with its id in a second start": [start(WITHOUT_ID), start({**NAMELESS, "name": "look"}), arguments('{"a": 1}')],
    "at the end of the block": [start(NAMELESS), arguments('{"a": 1}'), stop(content_block={"name": "look"})],
    "at the end, with all else": [start(NAMELESS), stop(content_block={**NAMELESS, "name": "look", "input": {"a": 1}})],
    "null before it": [start({**NAMELESS, "name": None}), arguments('{"a": 1}', name="look")],
}


@pytest.mark.parametrize("form", LATE)
def test_the_name_of_a_call_may_come_late(form: str) -> None:
    events, response = read(*LATE[form], *CALLED)
    shown = [event for event in events if isinstance(event, ToolCallDelta)]
    [call] = response.message.tool_calls

    assert (call.name, call.arguments, call.id) == ("look", {"a": 1}, "t")
    assert {(event.id, event.name) for event in shown} == {("t", "look")}
    assert "".join(event.arguments for event in shown) in ('{"a": 1}', "")


def test_a_second_call_at_the_same_index_is_a_second_call() -> None:
    first, second = {**NAMELESS, "name": "look"}, {**NAMELESS, "id": "u", "name": "find"}
    _, response = read(start(first), start(second), *CALLED)

    assert [(call.id, call.name) for call in response.message.tool_calls] == [("t", "look"), ("u", "find")]


def test_a_name_of_another_call_is_not_taken() -> None:
    _, response = read(start(NAMELESS), start({**NAMELESS, "id": "u", "name": "find"}), *CALLED)

    assert [(call.id, call.name) for call in response.message.tool_calls] == [("t", ""), ("u", "find")]


def test_a_call_whose_name_never_comes_is_not_shown() -> None:
    events, response = read(start(NAMELESS), arguments('{"a": 1}'), *CALLED)

    assert not [event for event in events if isinstance(event, ToolCallDelta)]
    assert [call.name for call in response.message.tool_calls] == [""]


SAID = [json.dumps(event) for event in (start({"type": "text", "text": ""}), text(0, "o"), text(0, "k"), *END)]


@pytest.mark.parametrize(
    "events",
    [["".join(SAID)], ["\n".join(SAID)], [f"[{','.join(SAID)}]"], [f"data: {event}" for event in SAID]],
)
def test_several_objects_in_an_event_are_the_answer(events: list[str]) -> None:
    seen, response = read(*events)

    assert ["".join(e.text for e in seen if isinstance(e, TextDelta)), response.message.text] == ["ok", "ok"]


def test_a_whole_message_in_an_array_is_the_answer() -> None:
    message = {"type": "message", "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}
    _, response = read(json.dumps([message]))

    assert response.message.text == "ok"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ({"type": "end_turn"}, FinishReason.STOP),
        ({"reason": "max_tokens"}, FinishReason.LENGTH),
        (["end_turn"], FinishReason.STOP),
        ({"stop_reason": {"type": "max_tokens"}}, FinishReason.LENGTH),
    ],
)
def test_a_stop_reason_may_be_in_an_object(reason: Any, finish: FinishReason) -> None:
    _, response = read(text(0, "a"), {"type": "message_delta", "delta": {"stop_reason": reason}})
    assert response.finish_reason is finish
    _, response = read({"type": "message", "content": "a", "stop_reason": reason})
    assert response.finish_reason is finish


@pytest.mark.parametrize("reason", [{"type": "made_up"}, {"x": "y"}, 7])
def test_a_stop_reason_that_is_no_known_success_is_named(reason: Any) -> None:
    with pytest.raises(ProviderError, match="stop reason"):
        read(text(0, "a"), {"type": "message_delta", "delta": {"stop_reason": reason}})


@pytest.mark.parametrize(
    "events",
    [
        END,
        [start({"type": "text", "text": ""}), stop(), *END],
        [{"type": "message_start", "message": {"content": []}}, *END],
        [{"type": "message", "content": [], "stop_reason": "end_turn"}],
    ],
)
def test_an_end_without_any_content_is_an_empty_answer(events: list[dict[str, Any]]) -> None:
    _, response = read(*events)

    assert (response.message.parts, response.finish_reason) == ((), FinishReason.STOP)


def halves() -> list[tuple[str, str]]:
    raw = FACE.encode()
    bytes_ = [
        (raw[:n].decode("utf-8", "surrogateescape"), raw[n:].decode("utf-8", "surrogateescape")) for n in (1, 2, 3)
    ]
    return [("\ud83d", "\ude00"), *bytes_]


@pytest.mark.parametrize(("first", "second"), halves())
@pytest.mark.parametrize("has_stop", [True, False])
def test_a_character_that_is_cut_between_two_blocks_is_joined(first: str, second: str, has_stop: bool) -> None:
    begin = {"type": "text", "text": ""}
    middle = [stop()] if has_stop else []
    events, response = read(
        start(begin), text(0, f"a{first}"), *middle, start(begin, 1), text(1, f"{second}b"), stop(1), *END
    )

    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == f"a{FACE}b"
    assert [part.text for part in response.message.parts if isinstance(part, TextPart)] == ["a", f"{FACE}b"]


def test_a_character_of_thinking_that_is_cut_between_two_blocks_is_joined() -> None:
    begin = {"type": "thinking", "thinking": ""}
    events, response = read(
        start(begin),
        piece(type="thinking_delta", thinking="a\ud83d"),
        stop(),
        start(begin, 1),
        piece(1, type="thinking_delta", thinking="\ude00b"),
        stop(1),
        *END,
    )

    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == f"a{FACE}b"
    assert [part.text for part in response.message.parts if isinstance(part, ReasoningPart)] == ["a", f"{FACE}b"]


def test_half_a_character_before_another_kind_of_block_is_shown_there() -> None:
    events, response = read(
        text(0, "a\ud83d"), stop(), piece(1, type="thinking_delta", thinking="hm"), text(2, "b"), *END
    )

    assert [event.text for event in events if isinstance(event, (TextDelta, ReasoningDelta))] == [
        "a",
        "\ufffd",
        "hm",
        "b",
    ]
    assert response.message.text == "a\ufffdb"


def test_counts_that_are_texts_are_counts() -> None:
    usage = {"input_tokens": "3.0", "output_tokens": " 2 ", "cache_read_input_tokens": "1."}
    _, response = read({"type": "message_start", "message": {"usage": usage}}, text(0, "a"), *END)

    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.unknown) == (4, 2, ())

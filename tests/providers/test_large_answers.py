"""Answers in very many pieces: each piece is looked at once, and a text takes its own memory and not more."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from afkcli.core.contract.growing import GrowingText
from afkcli.core.contract.messages import OpaqueDelta
from afkcli.providers import tool_call_pieces
from afkcli.providers.chat_answer import ChatAnswer
from afkcli.providers.chat_reasoning import ReasoningPieces
from afkcli.providers.origin import Origin
from afkcli.providers.tool_call_pieces import ToolCallPieces
from afkcli.providers.tool_names import ToolNames
from tests.allocation import allocated

ORIGIN = Origin(provider="p", api="chat", model="m", server="s")


def test_a_text_of_many_small_pieces_takes_the_memory_of_the_text() -> None:
    text, count = GrowingText(), 200_000
    tracemalloc.start()
    for number in range(count):
        text.append(f"{number:06d}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert str(text) == "".join(f"{number:06d}" for number in range(count))
    assert peak < 3 * 6 * count, "a list of pieces takes about 60 bytes for each"


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 1026, 5000])
def test_a_text_is_the_same_however_it_was_cut(count: int) -> None:
    text = GrowingText()
    for number in range(count):
        text.append(str(number))
        if number % 700 == 0:
            assert str(text) == "".join(map(str, range(number + 1)))

    assert bool(text) is (count > 0)
    assert str(text) == "".join(map(str, range(count)))
    text.clear()
    assert (str(text), bool(text)) == ("", False)


def _piece(arguments: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "function": {"arguments": arguments, **more.pop("function", {})}, **more}


def test_arguments_are_parsed_a_few_times_however_many_pieces_look_like_an_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[int] = []
    real = json.loads

    def loads(text: str) -> Any:
        parsed.append(len(text))
        return real(text)

    calls = ToolCallPieces(ToolNames([]))
    list(calls.take([_piece('{"items": [', id="c1", function={"name": "work"})]))
    monkeypatch.setattr(tool_call_pieces.json, "loads", loads)
    for _ in range(1000):
        list(calls.take([_piece('{"a": "}\\"{"}')]))
        list(calls.take([_piece(",")]))
    list(calls.take([_piece("1]}")]))
    monkeypatch.undo()

    [part] = calls.parts()
    assert len(part.arguments["items"]) == 1001
    assert len(parsed) <= 2, "it was parsed for each piece, and the time grew with the square"


@pytest.mark.parametrize("cut", range(1, 12))
def test_the_end_of_an_object_is_found_wherever_it_is_cut(cut: int) -> None:
    first, second = '{"a": "\\\\", "b": "{\\"}"}', '{"c": 2}'
    calls = ToolCallPieces(ToolNames([]))
    list(calls.take([_piece("", function={"name": "work"})]))
    for start in range(0, len(first), cut):
        list(calls.take([_piece(first[start : start + cut])]))
    list(calls.take([_piece(second, function={"name": "work"})]))

    assert [part.arguments for part in calls.parts()] == [json.loads(first), json.loads(second)]


def test_many_calls_and_ids_that_come_late_or_again_are_told_apart() -> None:
    calls = ToolCallPieces(ToolNames([]))
    for number in range(900):
        list(calls.take([{"index": number, "id": f"c{number}", "function": {"name": "work", "arguments": "{"}}]))
        list(calls.take([{"index": number, "function": {"arguments": f'"n": {number}}}'}}]))

    assert [part.arguments["n"] for part in calls.parts()] == list(range(900))
    assert len({part.id for part in calls.parts()}) == 900


SIZE, COUNT = 1000, 3000
DETAIL = {"type": "reasoning.text", "index": 0}
PIECES: dict[str, dict[str, Any]] = {
    "content": {"content": "x" * SIZE},
    "content in parts": {"content": [{"type": "text", "text": "x" * SIZE}]},
    "refusal": {"refusal": "x" * SIZE},
    "reasoning_content": {"reasoning_content": "x" * SIZE},
    "reasoning": {"reasoning": "x" * SIZE},
    "thinking in the content": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x" * SIZE}]}]},
    "text of reasoning_details": {"reasoning_details": [{**DETAIL, "text": "x" * SIZE}]},
    "summary of reasoning_details": {"reasoning_details": [{**DETAIL, "summary": "x" * SIZE}]},
    "data of reasoning_details": {"reasoning_details": [{**DETAIL, "data": "x" * SIZE}]},
    "two details in turn": {"reasoning_details": [{**DETAIL, "text": "x" * SIZE}, {**DETAIL, "index": 1, "data": "d"}]},
    "thinking_blocks": {"thinking_blocks": [{"type": "thinking", "thinking": "x" * SIZE}]},
    "arguments": {"tool_calls": [{"index": 0, "function": {"name": "work", "arguments": "x" * SIZE}}]},
    "function_call": {"function_call": {"name": "work", "arguments": "x" * SIZE}},
}


@pytest.mark.parametrize("what", PIECES)
def test_no_piece_of_an_answer_costs_a_copy_of_all_earlier_ones(what: str) -> None:
    answer = ChatAnswer(ToolNames([]), "the server", ORIGIN)
    chunk = {"choices": [{"index": 0, "delta": PIECES[what]}]}
    work = allocated(lambda piece: list(answer.chunk(piece)), [chunk] * COUNT)

    assert work < 20 * SIZE * COUNT, "the square of the size is 1500 times the size"


OPAQUE = {
    "data of a detail": {"reasoning_details": [{**DETAIL, "data": "x" * SIZE}]},
    "text of a detail behind a field": {"reasoning": "a", "reasoning_details": [{**DETAIL, "text": "x" * SIZE}]},
    "a signature of a block": {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "x" * SIZE}]},
    "blocks of another type": {"thinking_blocks": [{"type": "redacted_thinking", "data": "x" * SIZE}]},
    "the data of a message": {"extra_content": {"google": {"thought_signature": "x" * SIZE}}},
    "the data of a call": {"tool_calls": [{"index": 0, "id": "c", "extra_content": {"google": "x" * SIZE}}]},
    "a signature in the function": {"tool_calls": [{"index": 0, "function": {"thought_signature": "x" * SIZE}}]},
}


@pytest.mark.parametrize("what", OPAQUE)
def test_what_is_kept_for_the_server_is_counted_as_it_comes(what: str) -> None:
    answer = ChatAnswer(ToolNames([]), "the server", ORIGIN)
    chunk = {"choices": [{"index": 0, "delta": OPAQUE[what]}]}
    counted = [event.size for event in answer.chunk(chunk) if isinstance(event, OpaqueDelta)]

    assert SIZE <= sum(counted) < SIZE + 200


def test_a_field_that_comes_again_with_each_piece_of_a_call_is_counted_once() -> None:
    answer = ChatAnswer(ToolNames([]), "the server", ORIGIN)
    call = {"index": 0, "id": "c", "function": {"name": "work", "arguments": " "}, "provider": {"name": "p" * SIZE}}
    events = [
        event
        for _ in range(100)
        for event in answer.chunk({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    ]
    counted = [event.size for event in events if isinstance(event, OpaqueDelta)]

    assert SIZE <= sum(counted) < SIZE + 200


@pytest.mark.parametrize("kind", ["details", "blocks"])
def test_blocks_of_many_pieces_go_back_whole(kind: str) -> None:
    pieces, name = ReasoningPieces(), {"details": "reasoning_details", "blocks": "thinking_blocks"}[kind]
    field, block = ("text", DETAIL) if kind == "details" else ("thinking", {"type": "thinking"})
    for number in range(3000):
        pieces.take({name: [{**block, field: f"{number} "}]})
    pieces.take({name: [{**block, field: "", "signature": "s"}]})

    data = pieces.data(ORIGIN)
    assert data is not None
    assert isinstance(data.payload, dict)
    assert data.payload[kind] == [{**block, field: "".join(f"{number} " for number in range(3000)), "signature": "s"}]

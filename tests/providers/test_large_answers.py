"""Answers in very many pieces: each piece is looked at once, and a text takes its own memory and not more."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from afkcli.core.contract.growing import GrowingText
from afkcli.providers import tool_call_pieces
from afkcli.providers.tool_call_pieces import ToolCallPieces
from afkcli.providers.tool_names import ToolNames


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

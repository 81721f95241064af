"""The line of an event is that of the JSON encoder of Python, whichever way it was made, and is made once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract import events
from afkcli.core.contract.events import (
    Attached,
    Event,
    Retrying,
    RunStarted,
    StepCompleted,
    TextDeltaEvent,
    ToolCallDeltaEvent,
    ToolCompleted,
    ToolStarted,
    Warned,
    event_to_json,
    event_to_json_pieces,
)
from afkcli.core.contract.jsonform import JsonError, clean_text
from afkcli.core.contract.messages import (
    FinishReason,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    text_message,
)
from afkcli.core.contract.result import Usage

HEADER: dict[str, Any] = {
    "run_id": "0197",
    "thread_id": "t",
    "thread_key": "key",
    "turn": 1,
    "seq": 3,
    "ts": "2026-01-01T00:00:00.000Z",
    "step": 1,
}


def by_python(event: Event) -> str:
    """The line of an event whose fields are texts and numbers, by the encoder of Python."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "type"}
    form = {"v": 1, "type": event.type, **fields}
    return clean_text(json.dumps(form, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def delta(text: Any, **header: Any) -> TextDeltaEvent:
    return TextDeltaEvent(**{**HEADER, **header}, text_delta=text)


@pytest.mark.parametrize("code", [*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0x80, 0x9F, 0x2028, 0x2029, 0xFEFF, 0x1F600])
def test_each_character_that_readers_may_treat_in_their_own_way(code: int) -> None:
    assert event_to_json(delta(f"a{chr(code)}b")) == by_python(delta(f"a{chr(code)}b"))


@pytest.mark.parametrize("text", ["\ud800", "a\udc00b", "\ud83d\ude00", "x" * 20_000, "é" * 20_000, ""])
def test_surrogates_are_replaced_and_long_texts_kept(text: str) -> None:
    assert event_to_json(delta(text)) == by_python(delta(text))


@given(st.text(st.characters(codec=None)), st.text(), st.integers())
def test_any_text_and_any_whole_number(text: str, name: str, turn: int) -> None:
    event = ToolCallDeltaEvent(
        **{**HEADER, "turn": turn}, tool_call_id="1", tool_name=clean_text(name), arguments_delta=text
    )
    assert event_to_json(event) == by_python(event)


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**40, True, None])
def test_whole_numbers_of_any_size(number: Any) -> None:
    assert event_to_json(delta("a", turn=number)) == by_python(delta("a", turn=number))


@pytest.mark.parametrize("seconds", [0.1, 1e-05, 1e16, 1.5e300, 5e-324, -0.0, 123456789.125])
def test_numbers_are_written_as_python_writes_them(seconds: float) -> None:
    event = Retrying(**HEADER, attempt=2, delay_s=seconds, error="busy")
    assert event_to_json(event) == by_python(event)


@pytest.mark.parametrize("number", [0.5, 1e-7, 1e20, 2**70, "\ud800", None, {"b": [1, {"c": 1e-9}]}])
def test_what_is_nested_is_written_as_python_writes_it(number: Any) -> None:
    event = ToolStarted(**HEADER, tool_name="t", tool_call_id="1", arguments={"a": [number, ("x", True)], "é": {}})
    assert event_to_json(event) == by_python(event)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, object()])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(JsonError):
        event_to_json(delta(value))


def test_a_subclass_of_text_is_text() -> None:
    class Name(str):
        __slots__ = ()

    assert event_to_json(delta(Name("é"))) == event_to_json(delta("é"))


def test_each_class_ends_with_its_type() -> None:
    assert {kind.__struct_fields__[-1] for kind in events.EVENT_TYPES.values()} == {"type"}


class TestOnce:
    @pytest.mark.parametrize(
        "event",
        [
            delta("a"),
            Warned(**HEADER, code="c", message="m"),
            RunStarted(
                **HEADER,
                agent="a",
                model="m",
                message="hi",
                attachments=(Attached(name=None, media_type="image/png", size=1, sha256="00"),),
            ),
        ],
        ids=lambda event: event.type,
    )
    def test_an_event_that_cannot_change_is_serialised_once(self, event: Event) -> None:
        assert event_to_json(event) is event_to_json(event)

    def test_what_was_changed_in_place_is_serialised_again(self) -> None:
        event = ToolStarted(**HEADER, tool_name="f", tool_call_id="1", arguments={"a": [1]})
        before = event_to_json(event)
        event.arguments["a"].append(2)
        assert event_to_json(event) == before.replace("[1]", "[1,2]")

    def test_another_event_of_the_same_number_has_its_own_line(self) -> None:
        event = delta("a")
        before = event_to_json(event)
        assert event_to_json(replace(event, text_delta="b")) == before.replace('"a"', '"b"')

    def test_a_few_lines_are_kept_however_many_there_are(self) -> None:
        for number in range(1_000):
            event_to_json(delta("a" * 100, seq=number))
        assert len(events._lines) < 100
        event_to_json(delta("a" * 1_000_000))
        assert max(len(kept[1]) for kept in events._lines if kept is not None) < 100_000


LONG = 1_100_000


def long_events() -> dict[str, Event]:
    answer = text_message(Role.ASSISTANT, "a" * LONG)
    call = ToolCallPart(id="c", name="n", arguments={"x": ["y" * LONG, {"z": 1.5, "": "z" * LONG}], "q": []})
    two = Message(
        role=Role.ASSISTANT, parts=(ReasoningPart(text='"' * LONG), TextPart(text="\n\x7f\u2028" * LONG), call)
    )
    done = {"usage": Usage(), "finish_reason": FinishReason.STOP}
    result = {"tool_name": "n", "tool_call_id": "c", "tool_success": True, "tool_error": None, "latency_ms": 1}
    return {
        "an answer": StepCompleted(**HEADER, message=answer, **done),
        "reasoning, an answer and arguments": StepCompleted(**HEADER, message=two, **done),
        "a result of a tool": ToolCompleted(**HEADER, **result, tool_output="\U0001f600é" * LONG),
        "arguments": ToolStarted(**HEADER, tool_name="n", tool_call_id="c", arguments=call.arguments),
        "surrogates, lone and in pairs": ToolCompleted(**HEADER, **result, tool_output="\ud800\ud83d\ude00" * LONG),
        "a question": RunStarted(**HEADER, agent="a", model="m", message="q" * LONG),
    }


@pytest.mark.parametrize("what", long_events())
def test_the_line_of_a_large_event_comes_in_pieces_and_is_the_same(what: str) -> None:
    event = long_events()[what]

    pieces = list(event_to_json_pieces(event))

    assert "".join(pieces) == event_to_json(event)
    assert max(map(len, pieces)) <= 3 << 20  # much less than the line where that has several texts
    assert len(pieces) > 3


def test_the_line_of_a_small_event_is_one_piece() -> None:
    assert list(event_to_json_pieces(delta("a"))) == [event_to_json(delta("a"))]


@pytest.mark.parametrize("value", [float("nan"), object(), "x" * 70_000_000])
def test_what_has_no_line_is_refused_before_the_first_piece(value: Any) -> None:
    arguments = {"long": "x" * LONG, "value": value}

    with pytest.raises(JsonError):
        next(event_to_json_pieces(ToolStarted(**HEADER, tool_name="n", tool_call_id="c", arguments=arguments)))


def test_what_is_nested_too_deeply_is_refused_before_the_first_piece() -> None:
    deep: Any = "x" * LONG
    for _ in range(80):
        deep = [deep]

    with pytest.raises(JsonError, match="nested deeper"):
        next(event_to_json_pieces(ToolStarted(**HEADER, tool_name="n", tool_call_id="c", arguments={"deep": deep})))

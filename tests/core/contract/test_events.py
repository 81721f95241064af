"""The events' JSON form: one line each, versioned, and valid by the schema that is generated from the types."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated, Any, get_args

import pytest
from pydantic import Field, TypeAdapter

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.event_schema import ADDED, events_schema
from afkcli.core.contract.events import EVENT_TYPES, Event, event_to_json
from afkcli.core.contract.jsonform import loads_object
from afkcli.core.contract.messages import FinishReason, Message, ProviderData, Role, TextPart, ToolCallPart
from afkcli.core.contract.result import AgentResult, RunState, ToolExecution, Usage
from tests.event_checks import EventChecks

HEADER: dict[str, Any] = {
    "run_id": "0197",
    "thread_id": "t",
    "thread_key": "key",
    "turn": 1,
    "seq": 3,
    "ts": "2026-01-01T00:00:00.000Z",
    "step": 1,
}
DATA = ProviderData(provider="p", api="a", model="m", payload={"x": [None]})
MESSAGE = Message(
    role=Role.ASSISTANT,
    parts=(TextPart(text="a", provider_data=DATA), ToolCallPart(id="1", name="f", arguments={"a": 1})),
)
RESULT = AgentResult(
    final_text="a",
    state=RunState.FAILED,
    reason="network",
    run_id="0197",
    thread_id="t",
    usage=Usage(input_tokens=1),
    total_cost_usd=None,
    steps=1,
    tool_executions=(ToolExecution(tool_name="f", tool_call_id="1", tool_success=True, latency_ms=1),),
    denied=0,
    model="p/m",
    error="it broke",
    error_kind=ErrorKind.NETWORK,
)
VALUES: dict[str, dict[str, Any]] = {
    "run_started": {"agent": "a", "model": "p/m", "message": "hi"},
    "context": {"message": "turn 1 is left out", "window": 4000, "tokens_before": 4100, "tokens_after": 2400},
    "step_started": {"attempt": 1, "request_sha256": "00"},
    "reasoning_delta": {"reasoning_delta": "hm"},
    "text_delta": {"text_delta": "a\u2028b\nc\u202e"},
    "tool_call_delta": {"tool_call_id": "1", "tool_name": "f", "arguments_delta": "{"},
    "approval_requested": {"approval_id": "x", "tool_name": "f", "arguments": {"a": 1}, "expires": None},
    "approval_resolved": {"approval_id": "x", "decision": "deny", "by": "caller"},
    "tool_started": {"tool_name": "f", "tool_call_id": "1", "arguments": {"a": [1, None]}},
    "tool_progress": {"tool_name": "f", "tool_call_id": "1", "message": "half"},
    "tool_completed": {
        "tool_name": "f",
        "tool_call_id": "1",
        "tool_success": False,
        "tool_output": "",
        "tool_error": "no",
        "latency_ms": 3,
    },
    "retrying": {"attempt": 2, "delay_s": 0.5, "error": "busy"},
    "warning": {"code": "odd", "message": "odd"},
    "step_completed": {"message": MESSAGE, "usage": Usage(), "finish_reason": FinishReason.STOP},
    "error": {"error": "it broke", "kind": ErrorKind.NETWORK},
    "completed": {"result": RESULT},
}
SAMPLES = [EVENT_TYPES[name](**HEADER, **values) for name, values in VALUES.items()]
SCHEMA = events_schema()
adapter: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def test_every_type_has_a_sample_here() -> None:
    assert set(VALUES) == set(EVENT_TYPES) == {kind.__dataclass_fields__["type"].default for kind in get_args(Event)}


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.type)
class TestEachType:
    def test_is_one_line_that_begins_with_version_and_type(self, event: Event) -> None:
        line = event_to_json(event)
        assert "\n" not in line
        assert list(loads_object(line))[:2] == ["v", "type"]
        assert loads_object(line)["v"] == 1

    def test_carries_the_header_and_its_own_fields(self, event: Event) -> None:
        form = loads_object(event_to_json(event))
        assert {name: form[name] for name in HEADER} == HEADER
        assert set(form) == {"v", *(field.name for field in fields(event))}

    def test_is_rebuilt_from_its_line(self, event: Event) -> None:
        assert adapter.validate_json(event_to_json(event)) == event

    def test_is_as_the_schema_says(self, event: Event) -> None:
        form = loads_object(event_to_json(event))
        definition = SCHEMA["$defs"][type(event).__name__]
        assert list(definition["properties"]) == list(form)
        assert set(definition["required"]) == set(form) - ADDED.get(type(event).__name__, frozenset())
        assert definition["properties"]["type"] == {"type": "string", "const": event.type}
        assert definition["properties"]["v"] == {"type": "integer", "const": 1}
        checks = EventChecks(SCHEMA)
        checks.check(form)
        assert checks.problems == []

    def test_is_refused_by_the_schema_without_a_field_or_with_another_value(self, event: Event) -> None:
        form = loads_object(event_to_json(event))
        needed = SCHEMA["$defs"][type(event).__name__]["required"]
        wrong = [{**form, "v": 2}, {**form, "seq": "3"}, {**form, needed[-1]: 3.5}]
        for other in [*wrong, *({**form, name: None} for name in HEADER)]:
            checks = EventChecks(SCHEMA)
            checks.check(other)
            assert len(checks.problems) == 1
        for name in set(needed) - {"type"}:
            checks = EventChecks(SCHEMA)
            checks.check({other: value for other, value in form.items() if other != name})
            assert "is a required property" in checks.problems[0]


def test_readers_ignore_fields_that_they_do_not_know() -> None:
    form = {**json.loads(event_to_json(SAMPLES[0])), "later": 1}
    assert adapter.validate_python(form) == SAMPLES[0]


def test_states_are_text() -> None:
    assert f"{RunState.COMPLETED}" == "completed"
    assert loads_object(event_to_json(SAMPLES[-1]))["result"]["state"] == "failed"


def test_the_schema_is_a_union_of_all_types_by_the_names_of_their_classes() -> None:
    schema = events_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "version 1" in schema["description"]
    assert [choice["$ref"].rpartition("/")[2] for choice in schema["oneOf"]] == [
        kind.__name__ for kind in EVENT_TYPES.values()
    ]
    assert "discriminator" not in json.dumps(schema)


def test_only_the_schema_as_a_whole_has_a_title() -> None:
    def titles(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return ("title" in value if isinstance(value, dict) else 0) + sum(map(titles, inner))

    assert titles(events_schema()) == 1


def test_each_class_with_later_fields_has_them() -> None:
    definitions = events_schema()["$defs"]
    for name, fields_of_it in ADDED.items():
        assert fields_of_it <= definitions[name]["properties"].keys()

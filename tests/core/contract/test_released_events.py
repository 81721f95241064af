"""Nothing of the events changes from release to release but what is added.

`released/` holds what the last release itself wrote: its `afk events schema`, and the log of some of its runs. At a
release, both are written anew by it, and `ADDED` of `event_schema.py` stays as it is.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.event_schema import events_schema
from tests.core.contract.released_schemas import Comparison
from tests.event_checks import EventChecks

RELEASED = Path(__file__).parent / "released"
[SCHEMA] = RELEASED.glob("*.schema.json")
[LOG] = RELEASED.glob("*.jsonl")


@pytest.fixture
def released() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    return schema


def test_nothing_of_the_last_release_was_changed_or_removed(released: dict[str, Any]) -> None:
    assert Comparison(released, events_schema()).problems == []


def test_each_line_that_the_last_release_logged_is_valid(released: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in LOG.read_text().splitlines()]
    assert {line["type"] for line in lines} > {"tool_completed", "approval_resolved", "retrying", "warning", "error"}
    checks = EventChecks(events_schema())
    for line in lines:
        checks.check(line)
    assert checks.problems == []


def _of(schema: dict[str, Any], name: str) -> dict[str, Any]:
    fields: dict[str, Any] = schema["$defs"][name]["properties"]
    return fields


CHANGES = {
    "a type is gone": lambda new: new["oneOf"].pop(),
    "a part is gone": lambda new: new["$defs"]["Part"]["oneOf"].pop(),
    "a field is gone": lambda new: _of(new, "Usage").pop("total_tokens"),
    "a field is of another type": lambda new: _of(new, "ToolCompleted").update(latency_ms={"type": "number"}),
    "a field may be null": lambda new: _of(new, "TextDeltaEvent").update(
        text_delta={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "a field cannot be null any more": lambda new: _of(new, "AgentResult").update(reason={"type": "string"}),
    "a state is gone": lambda new: new["$defs"]["RunState"]["enum"].remove("interrupted"),
    "a decision is gone": lambda new: _of(new, "ApprovalResolved")["decision"]["enum"].remove("always"),
    "the version is another one": lambda new: _of(new, "Warned").update(v={"type": "integer", "const": 2}),
    "a type has another name": lambda new: _of(new, "Warned").update(type={"type": "string", "const": "warned"}),
    "items are of another type": lambda new: _of(new, "RunStarted")["attachments"].update(items={"type": "string"}),
    "a field may be missing": lambda new: new["$defs"]["Completed"]["required"].remove("result"),
    "a new field is required": lambda new: (
        _of(new, "Attached").update(later={"type": "string"}),
        new["$defs"]["Attached"]["required"].append("later"),
    ),
    "no other fields are allowed": lambda new: new["$defs"]["StepCompleted"].update(additionalProperties=False),
    "what was any JSON is a text": lambda new: _of(new, "ProviderData").update(payload={"type": "string"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found(name: str, released: dict[str, Any]) -> None:
    new = deepcopy(events_schema())
    CHANGES[name](new)
    assert Comparison(released, new).problems != []


def test_what_is_added_is_no_change(released: dict[str, Any]) -> None:
    new = deepcopy(events_schema())
    new["$defs"]["Later"] = {"type": "object", "properties": {"type": {"const": "later"}}, "required": ["type"]}
    new["oneOf"].append({"$ref": "#/$defs/Later"})
    new["$defs"]["Part"]["oneOf"].append({"$ref": "#/$defs/Later"})
    new["$defs"]["RunState"]["enum"].append("paused")
    _of(new, "Usage")["later_tokens"] = {"type": "integer"}
    assert Comparison(released, new).problems == []

"""The JSON Schema of one line of the event stream, generated from the types of the events.

It is written for the tools that read schemas: validators that refuse keywords that they do not know, and generators,
which name a type after its definition or its title. So each type is one definition with a name of its own, no field has
a title, and only keywords of draft 2020-12 are used. `.ci/schema` runs such tools on it.

`tests/core/contract/test_released_events.py` compares it with the schema of the last release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from afkcli.core.contract.events import EVENT_TYPES, VERSION, Event
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import Part

ADDED: Mapping[str, frozenset[str]] = {
    "RunStarted": frozenset({"replaces"}),
    "StepStarted": frozenset({"model"}),
    "ApprovalResolved": frozenset({"reason", "kept"}),
    "ToolStarted": frozenset({"asks"}),
    "ToolCompleted": frozenset({"attachments"}),
    "StepCompleted": frozenset({"model"}),
    "Usage": frozenset({"unknown", "cache_creation_1h_input_tokens"}),
    "ReasoningPart": frozenset({"compacts"}),
}
"""The fields that a type got after it was released, by its class: a log of an earlier version does not have them.

All other fields are in every line, so the schema requires them.
"""

_DESCRIPTION = f"""One line of afk's event stream, version {VERSION}; `type` says which event it is.

Types and fields are added within a version: ignore those that you do not know."""

_ANY_JSON: JsonObject = {
    "anyOf": [
        {"type": "object", "additionalProperties": True},
        {"type": "array", "items": {}},
        *({"type": name} for name in ("string", "integer", "number", "boolean", "null")),
    ]
}
"""Any value. Generators take a schema without a type for an object."""


def events_schema() -> JsonObject:
    """Return the JSON Schema (draft 2020-12) of one line of the event stream.

    Its `$defs` are the events and the objects in them, by the names of their classes, and `Part`, any part.
    """
    from pydantic import TypeAdapter

    found: JsonObject = TypeAdapter(Event).json_schema(mode="serialization")["$defs"]
    parts = [_reference(kind) for kind in get_args(Part)]
    part: JsonObject = {"description": "A part of a message; `type` says which.", "oneOf": parts}
    events = [kind.__name__ for kind in EVENT_TYPES.values()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "description": _DESCRIPTION,
        "oneOf": [_reference(kind) for kind in EVENT_TYPES.values()],
        "$defs": {
            name: part if name == "Part" else _definition(name, found[name], parts, is_event=name in events)
            for name in sorted([*found, "Part"])
        },
    }


def _reference(kind: type) -> JsonObject:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _definition(name: str, found: JsonObject, parts: list[JsonObject], *, is_event: bool) -> JsonObject:
    """Return the definition of a class: `v` and `type` come first, and all fields are required but later ones."""
    kept = {key: value for key, value in found.items() if key != "title"}
    if "properties" not in kept:
        return kept
    later = ADDED.get(name, frozenset())
    fields = {field: _field(value, parts, is_later=field in later) for field, value in found["properties"].items()}
    first: JsonObject = {"v": {"type": "integer", "const": VERSION}} if is_event else {}
    if "type" in fields:
        first["type"] = fields.pop("type")
    properties = {**first, **fields}
    return {**kept, "properties": properties, "required": [field for field in properties if field not in later]}


def _field(schema: JsonObject, parts: list[JsonObject], *, is_later: bool) -> JsonObject:
    """Return the schema of a field, with a default only where the field may be missing."""
    kept = {key: value for key, value in schema.items() if key != "title" and (is_later or key != "default")}
    items: Any = kept.get("items")
    if isinstance(items, dict) and items.get("anyOf") == parts:
        kept["items"] = {"$ref": "#/$defs/Part"}
    return kept or _ANY_JSON

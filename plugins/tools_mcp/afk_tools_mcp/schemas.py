"""The schemas of tools as servers write them: older drafts, other languages' types, `null` for what is not said.

A schema that is one is never changed, because rules pin tools by it. One that is not is read as what it was meant to
say, in draft 2020-12: model APIs refuse a whole request for one tool's schema.
"""

from __future__ import annotations

from typing import Any

from afkcli.plugin import Json, JsonObject, schema_problem
from afkcli.providers.schemas import rewritten

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_OTHER_TYPES = {
    "bool": "boolean",
    "dict": "object",
    "double": "number",
    "float": "number",
    "int": "integer",
    "list": "array",
    "long": "integer",
    "none": "null",
    "str": "string",
    "text": "string",
}
_MAY_BE_NULL = ("const", "default", "examples")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "enum")
_TEXTS = ("description", "title", "pattern", "format", "$schema", "$id", "$ref", "$comment")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def usable_schema(schema: JsonObject) -> tuple[JsonObject, str | None]:
    """Return the schema that the model is given of a tool's, and why some of it is left out, or None."""
    problem = schema_problem(schema)
    if problem is None:
        return schema, None
    meant: Any = rewritten(schema, _modern)
    if isinstance(meant.get("required"), bool):
        del meant["required"]
    if schema_problem(meant) is None:
        return meant, None
    names = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
    open_properties: JsonObject = {name: {} for name in names}
    return {"type": "object", "properties": open_properties}, problem


def _modern(schema: JsonObject) -> JsonObject:
    """Return one schema, those inside it already done, in the keywords of draft 2020-12."""
    new = {name: value for name, value in schema.items() if value is not None or name in _MAY_BE_NULL}
    for name in (*_MAPS, *_LISTS, *_TEXTS, *_NUMBERS, *_COUNTS):
        if name in new and not _is_of_its_kind(name, new[name]):
            del new[name]
    _set_type(new)
    _set_bounds(new)
    _set_items(new)
    _set_required(new)
    return new


def _is_of_its_kind(name: str, value: Json) -> bool:
    if name in _MAPS:
        return isinstance(value, dict)
    if name in _LISTS:
        return isinstance(value, list) and bool(value)
    if name in _TEXTS:
        return isinstance(value, str)
    if name.startswith("exclusive") and isinstance(value, bool):
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (name in _NUMBERS or value >= 0)


def _set_type(new: JsonObject) -> None:
    if "type" not in new:
        return
    given = new.pop("type")
    said = [_OTHER_TYPES.get(str(item).lower(), str(item).lower()) for item in _as_list(given)]
    known = list(dict.fromkeys(item for item in said if item in _TYPES))
    if known and len(known) == len(set(said)):  # "any" among others means that nothing is said
        new["type"] = known if isinstance(given, list) else known[0]


def _set_bounds(new: JsonObject) -> None:
    """Turn draft-04's `exclusiveMinimum: true` into a bound of its own."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(new.get(exclusive), bool):
            is_exclusive = new.pop(exclusive)
            if is_exclusive and bound in new:
                new[exclusive] = new.pop(bound)


def _set_items(new: JsonObject) -> None:
    if isinstance(new.get("items"), list):
        first, rest = new.pop("items"), new.pop("additionalItems", True)
        new |= {"prefixItems": [rewritten(item, _modern) for item in first], "items": rest} if first else {}
    for name, value in list(new.items()):
        if name in ("items", "additionalProperties", "not", "contains") and not isinstance(value, (dict, bool)):
            del new[name]


def _set_required(new: JsonObject) -> None:
    """Take `required` of an object from its list, and from draft-03's `required: true` of its properties."""
    given = new.get("required")
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    properties: dict[str, Any] = {}
    for name, inner in (new.get("properties") or {}).items():
        properties[name] = dict(inner) if isinstance(inner, dict) else inner if isinstance(inner, bool) else {}
        if isinstance(properties[name], dict) and isinstance(properties[name].get("required"), bool):
            names += [name] if properties[name].pop("required") else []
    if properties:
        new["properties"] = properties
    if names:
        new["required"] = list(dict.fromkeys(names))
    elif not isinstance(given, bool):  # a property's own is for the object around it
        new.pop("required", None)


def _as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]

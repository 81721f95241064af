"""JSON Schemas as an API takes them: most take a part of JSON Schema only, and each a different one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from afkcli.core.contract.jsonform import Json, JsonObject

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
)

ANNOTATIONS = frozenset(
    {
        "title",
        "default",
        "examples",
        "$schema",
        "$comment",
        "deprecated",
        "readOnly",
        "writeOnly",
    }
)
"""Keywords that say nothing of which values fit, so that they can be left out."""


class UnfitSchemaError(ValueError):
    """A schema says what an API cannot be told."""


def rewritten(schema: Json, change: Callable[[JsonObject], JsonObject]) -> Json:
    """Return `schema` with `change` applied to each schema in it, the inner ones first; `true` and `false` stay."""
    if not isinstance(schema, dict):
        return schema
    new = dict(schema)
    for name in _MAPS:
        if isinstance(new.get(name), dict):
            new[name] = {key: rewritten(inner, change) for key, inner in new[name].items()}
    for name in _LISTS:
        if isinstance(new.get(name), list):
            new[name] = [rewritten(inner, change) for inner in new[name]]
    for name in _SINGLE:
        if name in new:
            new[name] = rewritten(new[name], change)
    return change(new)


def schemas_in(schema: Json) -> Iterator[JsonObject]:
    """Yield `schema` and each schema in it, except `true` and `false`."""
    found: list[JsonObject] = []

    def take(inner: JsonObject) -> JsonObject:
        found.append(inner)
        return inner

    rewritten(schema, take)
    yield from found


def closed(schema: JsonObject) -> JsonObject:
    """Return the schema of an object with `additionalProperties: false`, which some APIs demand of every object.

    What it allows is allowed by `schema`, too.

    Raises:
        UnfitSchemaError: its properties are open on purpose.
    """
    if schema.get("additionalProperties", False) is not False:
        raise UnfitSchemaError("additionalProperties")
    if "properties" not in schema and "additionalProperties" not in schema:
        raise UnfitSchemaError("an object of any properties")
    return {"properties": {}, **schema, "additionalProperties": False}


def has_boolean(schema: JsonObject) -> bool:
    """Return whether a schema directly in this one is `true` or `false`."""
    inner = [schema.get("items"), *schema.get("anyOf", ()), *schema.get("properties", {}).values()]
    return any(isinstance(item, bool) for item in inner)


def allows_null(schema: Json) -> bool:
    """Return whether a schema says of itself that `null` fits."""
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    return (
        kind == "null"
        or (isinstance(kind, list) and "null" in kind)
        or any(allows_null(inner) for inner in schema.get("anyOf", ()))
    )

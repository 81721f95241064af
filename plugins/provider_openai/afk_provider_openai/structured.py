"""Structured outputs: how the schema of an answer is sent, and which schemas can be sent as `strict`.

https://developers.openai.com/api/docs/guides/structured-outputs
"""

from __future__ import annotations

from afk_provider_openai.settings import Server
from afkcli.plugin import Json, JsonObject, ModelRequest, replace, told
from afkcli.providers.schemas import (
    ANNOTATIONS,
    UnfitSchemaError,
    allows_null,
    closed,
    has_boolean,
    rewritten,
    schemas_in,
)

NAME = "answer"

# The limits of Azure, which has the lower ones: OpenAI's own are 5,000 properties, 10 levels and 1,000 values.
MAX_PROPERTIES = 100
MAX_LEVELS = 5
MAX_ENUM_VALUES = 500

_SAID = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "anyOf",
        "enum",
        "const",
        "$ref",
        "$defs",
        "definitions",
        "description",
        "pattern",
        "format",
        "multipleOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minItems",
        "maxItems",
    }
)
_FORMATS = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
    }
)
_REFERENCES = ("#/$defs/", "#/definitions/")


def fitted(server: Server, request: ModelRequest) -> ModelRequest:
    """Return `request` with its schema where the server can take it, else in words only.

    OpenAI takes objects only at the top. Other servers let a model call no tool once it is held to a schema (measured
    with llama.cpp), and the core has told theirs in words already.
    """
    schema = request.output_schema
    if schema is None:
        return request
    if not server.has_openai_models:
        return replace(request, output_schema=None) if request.tools else request
    if schema.get("type") == "object":
        return request
    return replace(request, messages=told(request.messages, schema), output_schema=None)


def schema_format(schema: JsonObject) -> JsonObject:
    """Return the name, the schema and whether it is strict, as both APIs take them."""
    strict = strict_schema(schema)
    return {"name": NAME, "schema": schema if strict is None else strict, "strict": strict is not None}


def strict_schema(schema: JsonObject) -> JsonObject | None:
    """Return a schema that `strict` takes and that allows nothing which `schema` does not; None if there is none."""
    if schema.get("type") != "object" or "anyOf" in schema or not _is_small(schema):
        return None
    try:
        strict: JsonObject = rewritten(schema, _strict)
    except UnfitSchemaError:
        return None
    return strict


def _strict(schema: JsonObject) -> JsonObject:
    new = {name: value for name, value in schema.items() if name not in ANNOTATIONS}
    if not new.keys() <= _SAID or has_boolean(new):
        raise UnfitSchemaError("a keyword")
    if "$ref" in new:
        return _reference(new)
    if "type" not in new and "anyOf" not in new:
        raise UnfitSchemaError("a value of any type")
    if new.get("format", "date") not in _FORMATS:
        raise UnfitSchemaError("a format")
    return _all_required(closed(new)) if "object" in _types(new) else new


def _reference(schema: JsonObject) -> JsonObject:
    target = schema["$ref"]
    if schema.keys() - {"$ref", "description"} or not (target == "#" or str(target).startswith(_REFERENCES)):
        raise UnfitSchemaError("$ref")
    return {"$ref": target}


def _all_required(schema: JsonObject) -> JsonObject:
    """Return the schema of an object with every property required: one that may be left out has to allow `null`."""
    required = schema.get("required", [])
    for name, inner in schema["properties"].items():
        if name not in required and not allows_null(inner):
            raise UnfitSchemaError("a property that may be left out")
    if not set(required) <= set(schema["properties"]):
        raise UnfitSchemaError("a required property without a schema")
    return {**schema, "required": list(schema["properties"])}


def _types(schema: JsonObject) -> list[Json]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _is_small(schema: JsonObject) -> bool:
    every = list(schemas_in(schema))
    properties = sum(len(inner.get("properties", ())) for inner in every)
    values = sum(len(inner.get("enum", ())) for inner in every)
    return properties <= MAX_PROPERTIES and values <= MAX_ENUM_VALUES and _levels(schema) <= MAX_LEVELS


def _levels(schema: Json) -> int:
    if not isinstance(schema, dict):
        return 0
    maps = [inner for name in ("properties", "$defs", "definitions") for inner in schema.get(name, {}).values()]
    inside = [_levels(inner) for inner in (*maps, *schema.get("anyOf", ()), schema.get("items"))]
    return max(inside, default=0) + ("properties" in schema)

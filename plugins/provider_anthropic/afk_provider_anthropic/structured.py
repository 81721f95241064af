"""Structured outputs: the schema of an answer as `output_config.format` takes it.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

from collections.abc import Iterator

from afkcli.plugin import Json, JsonObject, ModelRequest, dumps, replace, told
from afkcli.providers.schemas import ANNOTATIONS, UnfitSchemaError, closed, has_boolean, rewritten, schemas_in

MAX_OPTIONAL = 24
MAX_UNIONS = 16

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
        "format",
        "minItems",
    }
)
_DESCRIBED = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
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
        "uri",
        "ipv4",
        "ipv6",
        "uuid",
    }
)


def fitted(request: ModelRequest) -> ModelRequest:
    """Return `request` with its schema in the form that the API takes; in words only where there is no such form."""
    if request.output_schema is None:
        return request
    schema = format_schema(request.output_schema)
    if schema is not None:
        return replace(request, output_schema=schema)
    return replace(request, messages=told(request.messages, request.output_schema), output_schema=None)


def format_schema(schema: JsonObject) -> JsonObject | None:
    """Return `schema` in the subset that the API takes; None if it says what that subset cannot.

    Bounds, which the subset lacks, stand in the descriptions: afk checks them in the answer.
    """
    if schema.get("type") != "object":
        return None
    try:
        new: JsonObject = rewritten(schema, _said)
    except UnfitSchemaError:
        return None
    every = list(schemas_in(new))
    optional = sum(
        len(inner["properties"].keys() - set(inner.get("required", ()))) for inner in every if _is_object(inner)
    )
    unions = sum(isinstance(inner.get("type"), list) or "anyOf" in inner for inner in every)
    return None if optional > MAX_OPTIONAL or unions > MAX_UNIONS or _is_recursive(new) else new


def _said(schema: JsonObject) -> JsonObject:
    new = {name: value for name, value in schema.items() if name not in ANNOTATIONS}
    if "oneOf" in new and "anyOf" not in new:
        new["anyOf"] = new.pop("oneOf")
    if "$ref" in new and not new.keys() & {"$defs", "definitions"}:
        return {"$ref": new["$ref"]}
    bounds = {name: new.pop(name) for name in list(new) if _is_bound(name, new[name])}
    if not new.keys() <= _SAID or has_boolean(new):
        raise UnfitSchemaError("a keyword")
    if not new.keys() & {"type", "anyOf", "enum", "const", "$ref"}:
        raise UnfitSchemaError("a value of any type")
    if any(isinstance(value, (dict, list)) for value in (*new.get("enum", ()), new.get("const"))):
        raise UnfitSchemaError("an object or array as a value")
    if bounds:
        new["description"] = " ".join(filter(None, [new.get("description"), dumps(bounds)]))
    return closed(new) if _is_object(new) else new


def _is_bound(name: str, value: Json) -> bool:
    return (
        name in _DESCRIBED
        or (name == "format" and value not in _FORMATS)
        or (name == "minItems" and value not in (0, 1))
    )


def _is_object(schema: JsonObject) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _is_recursive(schema: JsonObject) -> bool:
    """Return whether a definition leads back to itself, or a reference leads elsewhere than to a definition."""
    leads_to = {
        f"#/{place}/{name}": set(_references(inner))
        for place in ("$defs", "definitions")
        for name, inner in schema.get(place, {}).items()
    }
    if not set(_references(schema)) <= leads_to.keys():
        return True
    for name in leads_to:
        seen: set[str] = set()
        waiting = set(leads_to[name])
        while waiting:
            seen |= waiting
            waiting = {target for source in waiting for target in leads_to[source]} - seen
        if name in seen:
            return True
    return False


def _references(schema: JsonObject) -> Iterator[str]:
    return (inner["$ref"] for inner in schemas_in(schema) if "$ref" in inner)

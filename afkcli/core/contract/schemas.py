"""JSON Schemas: whether one is usable, and what of a value does not fit it. Nothing is ever fetched for a `$ref`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afkcli.core.contract.jsonform import Json, JsonObject

MAX_PROBLEMS = 5
"""How many problems of one value are named; the first ones are what a model can mend."""

NOT_APPLICABLE = "the schema cannot be applied"
_MAX_WORDS = 300


def schema_problem(schema: Json) -> str | None:
    """Return why `schema` is no JSON Schema (draft 2020-12 unless its `$schema` names another one), or None."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, dict):
        return "a JSON Schema is a JSON object"
    try:
        validator_for(schema, default=_default()).check_schema(schema)
    except SchemaError as error:
        return f"{_where(error)}: {error.message[:_MAX_WORDS]}"
    except Exception as error:  # a malformed $ref or $schema may raise what it likes
        return f"{type(error).__name__}: {str(error)[:_MAX_WORDS]}"
    return None


def unresolved_reference(schema: JsonObject) -> str | None:
    """Return which `$ref` of `schema`, one that `schema_problem` has passed, leads to nothing in it, or None."""
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    dialect = specification_with(validator_for(schema, default=_default()).META_SCHEMA["$schema"])
    root: Any = Resource.from_contents(schema, default_specification=dialect)
    registry: Any = Registry()
    waiting = [(root, registry.resolver_with_root(root))]
    while waiting:
        resource, resolver = waiting.pop()
        reference = resource.contents.get("$ref") if isinstance(resource.contents, dict) else None
        try:
            if isinstance(reference, str):
                resolver.lookup(reference)
        except Unresolvable:
            return f"its $ref {reference!r} leads to nothing in it, and nothing is fetched"
        waiting += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]
    return None


def unusable(schema: JsonObject) -> str | None:
    """Return why `schema` can be applied to no value, or None: it is no schema, leads nowhere, or runs in a circle."""
    problem = schema_problem(schema) or unresolved_reference(schema)
    return problem or next((line for line in problems(None, schema) if line.startswith(NOT_APPLICABLE)), None)


def problems(value: Json, schema: JsonObject) -> list[str]:
    """Return what of `value` does not fit `schema`, each as `where: what was expected`; nothing if it fits."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    registry: Any = Registry()  # it knows only what the schema itself holds
    validator = validator_for(schema, default=_default())(schema, registry=registry)
    found = []
    try:
        for error in validator.iter_errors(value):
            found.append(f"{_where(error)}: {error.message[:_MAX_WORDS]}")
            if len(found) == MAX_PROBLEMS:
                break
    except Exception as error:  # a $ref to nowhere, a pattern that is no regular expression, endless recursion
        found.append(f"{NOT_APPLICABLE}: {type(error).__name__}: {str(error)[:_MAX_WORDS]}")
    return found


def outline(schema: Json) -> Json:
    """Return the part of a schema that costs no more to check than its size: types, names, choices and bounds.

    A server may send a schema whose references double with each step, or a pattern for which `re` takes years: checking
    a value against it would hold up the whole process. What is left out here the server checks itself.
    """
    if not isinstance(schema, dict):
        return schema is not False
    if any(name in schema for name in ("$ref", "$dynamicRef", "$recursiveRef")):
        return True  # what stands beside it counts in some drafts and not in others
    kept = {name: value for name, value in schema.items() if name in _PLAIN and _PLAIN[name](value)}
    if isinstance(schema.get("properties"), dict):
        kept["properties"] = {name: outline(inner) for name, inner in schema["properties"].items()}
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        kept["additionalProperties"] = False
    if isinstance(schema.get("items"), dict) and "prefixItems" not in schema:
        kept["items"] = outline(schema["items"])
    both = [outline(inner) for inner in _schemas(schema, "allOf")]
    # Of outlines more than one may fit where exactly one of the schemas would.
    either = [[outline(inner) for inner in _schemas(schema, name)] for name in ("anyOf", "oneOf")]
    every = [*both, *({"anyOf": choices} for choices in either if choices)]
    return {**kept, "allOf": every} if every else kept


def _schemas(schema: JsonObject, name: str) -> list[Json]:
    found = schema.get(name)
    return found if isinstance(found, list) else []


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_names(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_type(value: Json) -> bool:
    return _is_names(value) and all(name in _TYPES for name in value) if isinstance(value, list) else value in _TYPES


_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_PLAIN: Mapping[str, Callable[[Json], bool]] = {
    "type": _is_type,
    "enum": lambda value: isinstance(value, list),
    "const": lambda value: True,
    "required": _is_names,
    **dict.fromkeys((*_BOUNDS, *_LENGTHS), _is_number),
}


def _default() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator


def _where(error: Any) -> str:
    return ".".join(str(step) for step in error.absolute_path) or "the value"

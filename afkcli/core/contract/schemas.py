"""JSON Schemas: whether one is usable, and what of a value does not fit it. Nothing is ever fetched for a `$ref`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.patterns import PatternError, pattern_of
from afkcli.core.contract.schema_keywords import LATEST, Check, TooLongError, checking, dialect_of, validator_class
from afkcli.core.contract.structs import FrozenStruct

MAX_PROBLEMS = 5
"""How many problems of one value are named; the first ones are what a model can mend."""

NOT_APPLICABLE = "the schema cannot be applied"
_MAX_WORDS = 300
_SHOWN_CHARS = 80


class Findings(FrozenStruct):
    """What a check of a value found: `problems`, each as `where: what was expected`, and what was `unchecked`."""

    problems: Sequence[str] = ()
    unchecked: Sequence[str] = ()


def schema_problem(schema: Json) -> str | None:
    """Return why `schema` is no JSON Schema (draft 2020-12 unless its `$schema` names another one), or None.

    A pattern or a format that afk does not know is allowed: `unchecked_in` names it.
    """
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict):
        return "a JSON Schema is a JSON object"
    try:
        with checking(Check()):
            validator_class(schema).check_schema(_without_dialect(schema), format_checker=None)
    except SchemaError as error:
        return f"{_where(error)}: {error.message[:_MAX_WORDS]}"
    except Exception as error:  # a malformed $ref or $schema may raise what it likes
        return f"{type(error).__name__}: {str(error)[:_MAX_WORDS]}"
    return None


def unresolved_reference(schema: JsonObject) -> str | None:
    """Return which `$ref` of `schema`, one that `schema_problem` has passed, leads to nothing in it, or None.

    What the drafts of JSON Schema say of themselves is known without being fetched.
    """
    from referencing.exceptions import Unresolvable

    for resource, resolver in _resources(schema):
        reference = resource.get("$ref")
        try:
            if isinstance(reference, str):
                resolver.lookup(reference)
        except Unresolvable:
            return f"its $ref {reference!r} leads to nothing in it, and nothing is fetched"
    return None


def unchecked_in(schema: JsonObject) -> list[str]:
    """Return what of a usable `schema` afk passes on without checking it, one line a thing: formats, patterns of other
    dialects, a `$schema` that it does not know."""
    lines: dict[str, None] = {}
    named = schema.get("$schema")
    if named is not None and dialect_of(schema) is None:
        lines[f"its $schema {_shown(named)} is not known, so it is read as {LATEST}"] = None
    for resource, _ in _resources(schema):
        patterns = resource.get("patternProperties")
        for source in (resource.get("pattern"), *(patterns if isinstance(patterns, dict) else ())):
            pattern = pattern_of(source) if isinstance(source, str) else None
            if isinstance(pattern, PatternError):
                lines[_unchecked_pattern(source, str(pattern))] = None
        if isinstance(resource.get("format"), str):
            lines[f"the format {_shown(resource['format'])} is not checked"] = None
    return list(lines)


def _resources(schema: JsonObject) -> Iterator[tuple[JsonObject, Any]]:
    """Yield each schema in a schema that is an object, the outermost first, with what resolves its references."""
    from jsonschema_specifications import REGISTRY
    from referencing import Resource
    from referencing.jsonschema import specification_with

    dialect = specification_with(validator_class(schema).META_SCHEMA["$schema"])
    root: Any = Resource.from_contents(_without_dialect(schema), default_specification=dialect)
    waiting = [(root, REGISTRY.resolver_with_root(root))]
    while waiting:
        resource, resolver = waiting.pop()
        yield resource.contents, resolver
        # Of draft-03, the library gives names in place of some schemas.
        schemas = [inner for inner in resource.subresources() if isinstance(inner.contents, dict)]
        waiting += [(inner, resolver.in_subresource(inner)) for inner in schemas]


def unusable(schema: JsonObject) -> str | None:
    """Return why `schema` cannot be applied to a value, or None: it is not a schema, leads nowhere, or is circular."""
    problem = schema_problem(schema) or unresolved_reference(schema)
    return problem or next((line for line in problems(None, schema) if line.startswith(NOT_APPLICABLE)), None)


def problems(value: Json, schema: Json) -> list[str]:
    """Return what of `value` does not fit `schema`, each as `where: what was expected`; nothing if it fits."""
    return list(check(value, schema).problems)


def check(value: Json, schema: Json) -> Findings:
    """Return what of `value` does not fit `schema`, and which of its patterns could not be checked.

    It takes no longer than `CHECK_SECONDS`, and never fetches anything.

    Since 0.2.
    """
    from referencing import Registry

    registry: Any = Registry()  # it knows only what the schema itself holds, and the drafts
    found: list[str] = []
    with checking(Check()) as state:
        try:
            validator = validator_class(schema)(schema, registry=registry)
            for error in validator.iter_errors(value):
                found.append(f"{_where(error)}: {error.message[:_MAX_WORDS]}")
                state.go_on()
                if len(found) == MAX_PROBLEMS:
                    break
        except TooLongError as error:
            found.append(f"{NOT_APPLICABLE}: {error}")
        except BaseException as error:  # a $ref to nowhere, endless recursion
            kind = _kind_of(error)
            if kind is None:
                raise
            found.append(f"{NOT_APPLICABLE}: {kind}: {str(error)[:_MAX_WORDS]}")
    return Findings(found, [_unchecked_pattern(source, why) for source, why in state.unchecked.items()])


def _kind_of(error: BaseException) -> str | None:
    """Return the name of an error of the library, None for what is no error of it, such as a cancellation.

    Where the stack ends inside a module of `rpds` (in Rust), its error is a `PanicException`, which is no `Exception`.
    """
    kind = type(error).__name__
    if kind == "PanicException":
        return RecursionError.__name__
    return kind if isinstance(error, Exception) else None


def without_nulls(arguments: JsonObject, schema: JsonObject) -> JsonObject:
    """Return the arguments of a tool without those that are `null` where the tool may do without them and its schema
    has no `null`: many models say so that they leave one out."""
    named, required = schema.get("properties"), schema.get("required")
    described = named if isinstance(named, dict) else {}
    needed = required if isinstance(required, list) else []
    return {
        name: value
        for name, value in arguments.items()
        if value is not None or name in needed or name not in described or not problems(None, outline(described[name]))
    }


def outline(schema: Json) -> Json:
    """Return the part of a schema that costs no more to check than its size: types, names, choices and bounds.

    A server may send a schema whose references double with each step, or a pattern for which `re` takes years: checking
    a value against it would hold up the whole process. What is left out here the server checks itself.
    """
    if not isinstance(schema, dict):
        return schema is not False
    if any(name in schema for name in ("$ref", "$dynamicRef", "$recursiveRef")):
        return True  # keywords beside it count in some drafts and not in others
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


def _without_dialect(schema: JsonObject) -> JsonObject:
    """Return a schema without a `$schema` that is unknown or not a text: the libraries fail on it."""
    return schema if dialect_of(schema) else {name: value for name, value in schema.items() if name != "$schema"}


def _unchecked_pattern(source: str, why: str) -> str:
    return f"the pattern {_shown(source)} is not checked: {why}"


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _where(error: Any) -> str:
    return ".".join(str(step) for step in error.absolute_path) or "the value"

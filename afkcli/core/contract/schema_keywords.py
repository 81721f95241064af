"""The keywords of JSON Schema that `jsonschema` checks by Python's `re`, or without a limit of time, checked here.

A pattern of ECMA-262 is not a pattern of `re`, and both a pattern and a `$ref` can take too long. So the
validators of `jsonschema` are extended with the keywords below, for every draft.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.patterns import MATCH_SECONDS, PatternError, pattern_of
from afkcli.core.contract.structs import Struct, field

CHECK_SECONDS = 1.0
"""How long a value may be checked against a schema, all patterns included. The event loop waits for it."""

PATTERN_SECONDS = 0.3
"""How long all patterns of a schema may search in one value."""

LATEST = "draft 2020-12"
_DIALECT = re.compile(r"https?://json-schema\.org/(draft-0[34567]|draft/20(?:19-09|20-12))/schema/?#?")


class TooLongError(Exception):
    """A value cannot be checked against a schema in `CHECK_SECONDS`."""


class Check(Struct):
    """One check of a value while it lasts: when it has to end, and which patterns could not be checked."""

    ends_at: float = field(default_factory=lambda: time.monotonic() + CHECK_SECONDS)
    pattern_seconds: float = PATTERN_SECONDS
    unchecked: dict[str, str] = field(default_factory=dict)

    def matches(self, source: str, text: str) -> bool | None:
        """Return whether a pattern is found in a text; None where that cannot be told."""
        if source in self.unchecked:
            return None
        began = time.monotonic()
        try:
            pattern = pattern_of(source)
            if isinstance(pattern, PatternError):
                raise pattern
            if self.pattern_seconds <= 0:
                raise PatternError("the patterns of this schema take too long")
            return pattern.is_in(text, min(MATCH_SECONDS, self.pattern_seconds))
        except PatternError as error:
            self.unchecked[source] = str(error)
            return None
        finally:
            self.pattern_seconds -= time.monotonic() - began

    def go_on(self) -> None:
        """Raise `TooLongError` if the check has taken too long."""
        if time.monotonic() > self.ends_at:
            raise TooLongError(f"checking a value takes longer than {CHECK_SECONDS:g} s")


_CURRENT: ContextVar[Check] = ContextVar("check")


@contextlib.contextmanager
def checking(check: Check) -> Iterator[Check]:
    """Have the validators of this module use `check`."""
    token = _CURRENT.set(check)
    try:
        yield check
    finally:
        _CURRENT.reset(token)


def dialect_of(schema: Json) -> str | None:
    """Return the draft that the `$schema` of a schema names: `draft-07`, `draft/2020-12`; None where it names none."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    found = _DIALECT.fullmatch(named) if isinstance(named, str) else None
    return found[1].replace("draft-05", "draft-04") if found else None  # draft-05 changed no keyword of draft-04


def validator_class(schema: Json, default: Any = None) -> Any:
    """Return the validator class for the dialect of a schema; `default`, else the one of the latest draft."""
    dialect = dialect_of(schema)
    return _extended(dialect) if dialect is not None else default or _extended("draft/2020-12")


@cache
def _extended(dialect: str) -> Any:
    import jsonschema
    from jsonschema import validators

    base: Any = {
        "draft-03": jsonschema.Draft3Validator,
        "draft-04": jsonschema.Draft4Validator,
        "draft-06": jsonschema.Draft6Validator,
        "draft-07": jsonschema.Draft7Validator,
        "draft/2019-09": jsonschema.Draft201909Validator,
        "draft/2020-12": jsonschema.Draft202012Validator,
    }[dialect]
    changed: dict[str, Any] = {name: made for name, made in _KEYWORDS.items() if name in base.VALIDATORS}
    changed |= {name: _timed(base.VALIDATORS[name]) for name in _REFERENCES if name in base.VALIDATORS}
    extend: Any = validators.extend
    made = extend(base, changed)
    made.evolve = _evolve
    return made


def _evolve(self: Any, **changes: Any) -> Any:
    """Return a validator for another part of the schema, of this module too: `jsonschema` would take one of its own."""
    schema = changes.get("schema", self.schema)
    cls = validator_class(schema, default=type(self))
    return cls(schema, registry=self._registry, _resolver=changes.get("_resolver", self._resolver))


_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def _timed(keyword: Callable[..., Any]) -> Callable[..., Any]:
    """Return a keyword that leads elsewhere, with a limit of time: references can double with each step."""

    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        _CURRENT.get().go_on()
        yield from keyword(validator, value, instance, schema) or ()

    return checked


# -- keywords with patterns --------------------------------------------------------------------------------------------
# If it is unknown whether a name matches, it counts as matched, so that it is not refused.


def _pattern(validator: Any, pattern: str, instance: Any, schema: JsonObject) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and _CURRENT.get().matches(pattern, instance) is False:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: JsonObject, instance: Any, schema: JsonObject) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, inner in patterns.items():
        for name, value in instance.items():
            if _CURRENT.get().matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, inner: Json, instance: Any, schema: JsonObject) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    extra = [name for name in instance if name not in _described_names(instance, schema)]
    if isinstance(inner, dict):
        for name in extra:
            yield from validator.descend(instance[name], inner, path=name)
    elif inner is False and extra:
        yield _unexpected("Additional", sorted(extra), schema.get("patternProperties"))


def _unevaluated_properties(validator: Any, inner: Json, instance: Any, schema: JsonObject) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    evaluated = _evaluated_names(validator, instance, {**schema, "unevaluatedProperties": None})
    left = [name for name in instance if name not in evaluated]
    if inner is False and left:
        yield _unexpected("Unevaluated", left, None)
        return
    for name in left:
        yield from validator.descend(instance[name], inner, path=name, schema_path=name)


_KEYWORDS: Mapping[str, Callable[..., Any]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
}


def _unexpected(what: str, names: list[str], patterns: Any) -> Any:
    from jsonschema.exceptions import ValidationError

    said = ", ".join(map(repr, names))
    if patterns:
        verb = "does" if len(names) == 1 else "do"
        return ValidationError(f"{said} {verb} not match any of the regexes: {', '.join(map(repr, sorted(patterns)))}")
    verb = "was" if len(names) == 1 else "were"
    return ValidationError(f"{what} properties are not allowed ({said} {verb} unexpected)")


def _described_names(instance: JsonObject, schema: JsonObject) -> set[str]:
    """Return the names of an object that `properties` and `patternProperties` of a schema speak of."""
    check, patterns = _CURRENT.get(), schema.get("patternProperties") or {}
    named = {name for name in schema.get("properties") or {} if name in instance}
    return named | {name for name in instance for pattern in patterns if check.matches(pattern, name) is not False}


def _evaluated_names(validator: Any, instance: JsonObject, schema: Json) -> set[str]:
    """Return the names of an object that a schema, and what in it applies to the same object, speaks of.

    See https://json-schema.org/draft/2020-12/json-schema-core#section-11.3
    """
    if not isinstance(schema, dict):
        return set()
    found = _described_names(instance, schema)
    if any(schema.get(name) is not None for name in ("additionalProperties", "unevaluatedProperties")):
        return set(instance)  # each of these speaks of all that is left
    for inner_validator, inner in _applied(validator, instance, schema):
        found |= _evaluated_names(inner_validator, instance, inner)
    return found


def _applied(validator: Any, instance: JsonObject, schema: JsonObject) -> Iterator[tuple[Any, Json]]:
    """Yield the schemas in a schema that apply to the same object and that it fits, each with its validator."""
    for resolved in _led_to(validator, schema):
        yield validator.evolve(schema=resolved.contents, _resolver=resolved.resolver), resolved.contents
    fits = validator.evolve
    for name, inner in (schema.get("dependentSchemas") or {}).items():
        if name in instance:
            yield validator, inner
    for keyword in ("allOf", "anyOf", "oneOf"):
        for inner in schema.get(keyword) or ():
            if fits(schema=inner).is_valid(instance):
                yield validator, inner
    if "if" in schema:
        holds = fits(schema=schema["if"]).is_valid(instance)
        branches = ("if", "then") if holds else ("else",)
        yield from ((validator, schema[name]) for name in branches if name in schema)


def _led_to(validator: Any, schema: JsonObject) -> Iterator[Any]:
    """Yield what the references of a schema lead to."""
    from referencing.jsonschema import lookup_recursive_ref

    _CURRENT.get().go_on()
    for keyword in ("$ref", "$dynamicRef"):
        if isinstance(schema.get(keyword), str):
            yield validator._resolver.lookup(schema[keyword])
    if "$recursiveRef" in schema:
        yield lookup_recursive_ref(validator._resolver)

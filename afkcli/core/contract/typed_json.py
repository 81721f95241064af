"""The one reader of structs and dataclasses from JSON: messages, turns, records, and what stores keep beside them.

A reader follows the type hints of the class. It takes what a later version of afk wrote: fields that are not known
are ignored, fields that are missing get their default. A value of a wrong type is refused, so that it cannot fail
later, far from where it came in.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from afkcli.core.contract.jsonform import Json, JsonError, field_names
from afkcli.core.contract.structs import FrozenStruct, defaults_of

T = TypeVar("T")
Reader = Callable[[Json], Any]

_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


class FieldError(JsonError):
    """A value is missing or of a wrong type; `path` leads to it, as in `usage.input_tokens`."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"the field {path!r} {problem}" if path else f"it {problem}")
        self.problem = problem
        self.path = path

    def inside(self, name: str) -> FieldError:
        """Return this error as one of the object or list that holds the value under `name`."""
        return FieldError(self.problem, f"{name}.{self.path}" if self.path else name)


def from_json(kind: type[T], form: Json) -> T:
    """Return the struct or dataclass `kind` whose JSON form is `form`. Since: 0.2.

    Raises:
        JsonError: a field is missing or of a wrong type; the error names it.
    """
    reader: Reader = _record_reader(cast("Any", kind))
    value: T = reader(form)
    return value


def one_of_from_json(kinds: Any, form: Json) -> Any:
    """Return the one of several structs whose field `type` is that of `form`; raises as `from_json`.

    Args:
        kinds: their union.
        form: the JSON.
    """
    return _cached_union_reader(kinds)(form)


@cache
def _record_reader(kind: Any) -> Reader:
    hints = typing.get_type_hints(kind)
    required_fields = _required_fields(kind)
    fields = [(name, _reader(hints[name]), name in required_fields) for name in field_names(kind) or ()]

    def read(form: Json) -> Any:
        if not isinstance(form, dict):
            raise _wrong(form, "an object")
        values: dict[str, Any] = {}
        for name, reader, required in fields:
            if name in form:
                try:
                    values[name] = reader(form[name])
                except FieldError as error:
                    raise error.inside(name) from None
            elif required:
                raise FieldError("is missing", name)
        return kind(**values)

    return read


def _required_fields(kind: Any) -> set[str]:
    if issubclass(kind, FrozenStruct):
        return set(kind.__struct_fields__).difference(defaults_of(kind))
    import dataclasses

    missing = dataclasses.MISSING
    return {item.name for item in dataclasses.fields(kind) if item.default is item.default_factory is missing}


def _reader(hint: Any) -> Reader:
    """Return what reads a value of the type `hint`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if isinstance(hint, type) and field_names(hint) is not None:
        kind: Any = hint
        return lambda value: _record_reader(kind)(value)  # looked up late: a type may hold itself
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple:
        return _tuple_reader(_reader(arguments[0]))
    if origin is Literal:
        return _literal_reader(arguments)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_reader(hint)
    return _plain_reader(origin or hint)


def _plain_reader(kind: type) -> Reader:
    wanted = (int, float) if kind is float else (dict,) if issubclass(kind, Mapping) else (kind,)
    name = _NAMES[dict if issubclass(kind, Mapping) else kind]

    def read(value: Json) -> Any:
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            raise _wrong(value, name)
        return value

    return read


def _tuple_reader(item: Reader) -> Reader:
    def read(value: Json) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, "a list")
        items = []
        for position, one in enumerate(value):
            try:
                items.append(item(one))
            except FieldError as error:
                raise error.inside(str(position)) from None
        return tuple(items)

    return read


def _literal_reader(allowed: tuple[Any, ...]) -> Reader:
    def read(value: Json) -> Any:
        if value not in allowed:
            raise _not_one_of(value, allowed)
        return value

    return read


def _enum_reader(kind: type[Enum]) -> Reader:
    def read(value: Json) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise _not_one_of(value, [member.value for member in kind]) from None

    return read


@cache
def _cached_union_reader(union: Any) -> Reader:
    return _union_reader(get_args(union))


def _union_reader(kinds: tuple[Any, ...]) -> Reader:
    """Return the reader of `X | None`, or of structs that differ in their field `type`."""
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1:
        reader = _reader(others[0])
        return lambda value: None if value is None else reader(value)
    by_type = {defaults_of(kind)["type"]: kind for kind in others}

    def read(value: Json) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, "an object")
        kind = by_type.get(str(value.get("type")))
        if kind is None:
            raise FieldError(f"has the unknown type {value.get('type')!r}")
        return _record_reader(kind)(value)

    return read


def _wrong(value: Json, wanted: str) -> FieldError:
    found = "null" if value is None else _NAMES.get(type(value), type(value).__name__)
    return FieldError(f"must be {wanted} (got {found})")


def _not_one_of(value: Json, allowed: Any) -> FieldError:
    return FieldError(f"must be one of {', '.join(map(str, allowed))} (got {value!r})")

"""The types that a plugin's settings may have: what TOML has, and what can be made of it without a choice."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from afkcli.core.contract.errors import PluginContractError

SUPPORTED = (
    "str, int, float, bool, datetime.date, time and datetime, pathlib.Path, Enum, Literal, list, tuple, set, dict with"
    " str keys, their collections.abc forms, dataclasses, unions of these, Any"
)
"""For the error; docs/plugins.md has the table."""

_SCALARS = (str, int, float, bool, type(None))
_DATES = ("date", "time", "datetime")
TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
ARRAYS = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)


def check_type(hint: Any, name: str) -> Sequence[type]:
    """Return the dataclasses in an annotation, whose own fields are to be checked too.

    Raises:
        PluginContractError: afk cannot fill a field of this type; the error names the field and the supported types.
    """
    wrong = next(_unsupported(hint), None)
    if wrong is not None:
        what = f"the setting {name!r} has the unsupported type {_name(wrong)}"
        raise PluginContractError(f"{what}; supported: {SUPPORTED}")
    return [kind for kind in classes(hint, deep=True) if is_settings(kind)]


def _unsupported(hint: Any) -> Iterator[Any]:
    """Yield the parts of an annotation that cannot be filled."""
    hint = plain_type(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    kind = origin or hint
    if origin in (typing.Union, types.UnionType):
        if sum(is_settings(item) for item in arguments) > 1:
            yield hint  # a table does not say which of them it is
        for item in arguments:
            yield from _unsupported(item)
    elif origin is typing.Literal:
        yield from (hint for value in arguments if type(value) not in _SCALARS)
    elif kind in TABLES:
        if arguments and plain_type(arguments[0]) not in (str, Any):
            yield hint
        yield from _unsupported(arguments[1] if arguments else Any)
    elif kind in ARRAYS:
        for item in arguments:
            yield from () if item is Ellipsis else _unsupported(item)
    elif not _is_scalar(kind) and not is_settings(kind):
        yield hint


def _is_scalar(kind: Any) -> bool:
    from enum import Enum
    from pathlib import Path

    if kind in (*_SCALARS, Any, object, Path):
        return True
    if not isinstance(kind, type):
        return False
    return issubclass(kind, Enum) or (kind.__module__ == "datetime" and kind.__name__ in _DATES)


def is_settings(kind: Any) -> TypeGuard[type]:
    """Return whether an annotation is a dataclass, which is filled from a table."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def plain_type(hint: Any) -> Any:
    """Return an annotation without the names that were given to it: `NewType`, `type X = ...`."""
    while True:
        if hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def classes(hint: Any, *, deep: bool = False) -> tuple[Any, ...]:
    """Return the classes that a value of the annotation may have in a config; `deep` adds those of its items."""
    from enum import Enum
    from pathlib import Path

    hint = plain_type(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for item in arguments for kind in classes(item, deep=deep))
    if origin is typing.Literal:
        return tuple(type(item) for item in arguments)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return tuple(type(member.value) for member in hint)
    if hint in (Any, Path):
        return (str,)
    items = arguments if deep and origin is not None else ()
    return (origin or hint, *(kind for item in items if item is not Ellipsis for kind in classes(item, deep=True)))


def items_of(value: dict[Any, Any] | list[Any], hint: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the key (or number), the value and the annotation of each item of a table or array."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict):
        item = arguments[1] if len(arguments) == 2 else Any
        yield from ((key, inner, item) for key, inner in value.items())
    elif origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ValueError
        yield from ((number, *pair) for number, pair in enumerate(zip(value, arguments, strict=True)))
    else:
        item = arguments[0] if arguments else Any
        yield from ((number, inner, item) for number, inner in enumerate(value))


def words(hint: Any) -> str:
    """Return what an annotation asks for, in words."""
    hint = plain_type(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(words(item) for item in arguments if item is not type(None))
    if origin is typing.Literal:
        return " or ".join(repr(item) for item in arguments)
    kind = origin or hint
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"an array of {len(arguments)} values ({', '.join(words(item) for item in arguments)})"
    return _class_words(kind, arguments)


def _class_words(kind: Any, arguments: Sequence[Any]) -> str:
    from enum import Enum
    from pathlib import Path

    known = {str: "a string", int: "an integer", float: "a number", bool: "true or false", Path: "a path"}
    if kind in known:
        return known[kind]
    items = [item for item in arguments if item is not Ellipsis]
    of = f" of {_many(items[-1])}" if items and _many(items[-1]) else ""
    if is_settings(kind):
        return "a table"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(repr(member.value) for member in kind)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return f"a table{of}"
    return f"an array{of}" if kind in ARRAYS else _name(kind)


def _many(hint: Any) -> str:
    known = {str: "strings", int: "integers", float: "numbers", bool: "booleans"}
    return "tables" if is_settings(hint) else known.get(hint, "")


def _name(hint: Any) -> str:
    """Return an annotation as its author wrote it, or nearly."""
    plain = isinstance(hint, type) and typing.get_origin(hint) is None
    return getattr(hint, "__qualname__", str(hint)) if plain else str(hint).replace("typing.", "")

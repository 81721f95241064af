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
_SETS = (set, frozenset)
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
        if kind in _SETS and not all(_is_hashable(item) for item in arguments):
            yield hint
        yield from (part for item in arguments if item is not Ellipsis for part in _unsupported(item))
    elif not _is_scalar(kind) and not is_settings(kind):
        yield hint


def _is_hashable(hint: Any) -> bool:
    """Return whether values of an annotation can be in a set; those of `Any` may be."""
    hint = plain_type(hint)
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in TABLES or (kind in ARRAYS and kind not in (tuple, frozenset)):
        return False
    if kind in (typing.Union, types.UnionType, tuple, frozenset):
        return all(item is Ellipsis or _is_hashable(item) for item in arguments)
    return getattr(kind, "__hash__", None) is not None


def fixed_items(hint: Any) -> tuple[Any, ...] | None:
    """Return the annotations of the items of a tuple of a fixed length (`tuple[()]` has none), or None."""
    hint = plain_type(hint)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is not tuple or hint is typing.Tuple or arguments[-1:] == (Ellipsis,):  # noqa: UP006
        return None
    return arguments


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
    arguments = typing.get_args(hint)
    if isinstance(value, dict):
        item = arguments[1] if len(arguments) == 2 else Any
        yield from ((key, inner, item) for key, inner in value.items())
    elif (fixed := fixed_items(hint)) is not None:
        if len(value) != len(fixed):
            raise ValueError
        yield from ((number, *pair) for number, pair in enumerate(zip(value, fixed, strict=True)))
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
    fixed = fixed_items(hint)
    if fixed is not None:
        return f"an array{_of_values(fixed)}"
    return _class_words(origin or hint, arguments)


def _of_values(items: Sequence[Any]) -> str:
    if not items:
        return " without values"
    return f" of {len(items)} values ({', '.join(words(item) for item in items)})"


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
    """Return what the items of an array or table are, in words; "" for those that are of several kinds."""
    hint = plain_type(hint)
    known = {str: "strings", int: "integers", float: "numbers", bool: "booleans"}
    if is_settings(hint):
        return "tables"
    fixed = fixed_items(hint)
    if fixed is not None:
        return f"arrays{_of_values(fixed)}"
    kind = typing.get_origin(hint) or hint
    if kind in TABLES or kind in ARRAYS:
        of = [_many(item) for item in typing.get_args(hint) if item is not Ellipsis][-1:]
        return f"{'tables' if kind in TABLES else 'arrays'}{f' of {of[0]}' if any(of) else ''}"
    return known.get(kind, "")


def _name(hint: Any) -> str:
    """Return an annotation as its author wrote it, or nearly."""
    plain = isinstance(hint, type) and typing.get_origin(hint) is None
    return getattr(hint, "__qualname__", str(hint)) if plain else str(hint).replace("typing.", "")

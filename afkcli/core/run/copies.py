"""Copies of events and of what they hold, so that no reader of an event can change a run or what others see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
"""Types of values that cannot be changed in place; most fields of most events have one."""

_set = object.__setattr__
_NAMES: dict[type, tuple[str, ...] | None] = {}


def own_copy(value: T) -> T:
    """Return a copy of `value` that shares no dict, list, tuple or dataclass with it.

    Dataclasses are copied even if they are frozen, because `object.__setattr__` changes those too. Everything else that
    an event may hold (texts, numbers, members of enumerations) cannot be changed and is shared.
    """
    copied: T = _copy(value)
    return copied


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    names = _field_names(kind)
    if names is not None:
        made = object.__new__(kind)
        for name in names:  # on the path of every delta: a field is asked for its type before a call is made for it
            item = getattr(value, name)
            _set(made, name, item if type(item) in _ATOMS else _copy(item))
        return made
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return tuple(_copy(item) for item in value) if isinstance(value, tuple) else value


def _field_names(kind: type) -> tuple[str, ...] | None:
    """Return the names of the fields of a dataclass, or None for another type."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None
    return _NAMES[kind]

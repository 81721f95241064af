"""Copies of events and of what they hold, so that no reader of an event can change a run or what others see."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any, TypeVar

from afkcli.core.contract.structs import FrozenStruct, replace

T = TypeVar("T")

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
"""Types of values that cannot be changed in place; most fields of most events have one."""


def own_copy(value: T) -> T:
    """Return a copy of `value` that shares no dict and no list with it, or `value` itself if it holds neither.

    What cannot be changed in place is shared: texts, numbers, members of enumerations, and frozen structs and tuples as
    far as they hold only such things.
    """
    copied: T = _copy(value)
    return copied


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if isinstance(value, FrozenStruct):
        return _copy_of_struct(value)
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    if kind is tuple:
        copied = tuple(_copy(item) for item in value)
        return value if all(map(is_, copied, value)) else copied
    return value


def _copy_of_struct(value: FrozenStruct) -> FrozenStruct:
    changed = {}
    for name in value.__struct_fields__:  # on the path of every delta: a field is asked for its type before a call
        item = getattr(value, name)
        if type(item) not in _ATOMS:
            copied = _copy(item)
            if copied is not item:
                changed[name] = copied
    return replace(value, **changed) if changed else value

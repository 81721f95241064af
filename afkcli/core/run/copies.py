"""Copies of events and of what they hold, so that no reader of an event can change a run or what others see."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from operator import is_
from typing import Any, TypeVar

from afkcli.core.contract.structs import UNCHANGEABLE, FrozenStruct, msgspec, replace

T = TypeVar("T")


def own_copy(value: T) -> T:
    """Return a copy of `value` that shares no dict and no list with it, or `value` itself if it holds neither.

    What cannot be changed in place is shared: texts, numbers, members of enumerations, and frozen structs and tuples as
    far as they hold only such things.
    """
    copied: T = _copy(value)
    return copied


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind in UNCHANGEABLE:
        return value
    if isinstance(value, FrozenStruct):
        return _copy_of_struct(value)
    if kind is tuple:
        copied = tuple(map(_copy, value))
        return value if all(map(is_, copied, value)) else copied
    if isinstance(value, Enum):  # asked before `Mapping`, which takes ten times as long to ask
        return value
    if isinstance(value, list):
        return [_copy(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _copy(item) for name, item in value.items()}
    return value


def _copy_of_struct(value: FrozenStruct) -> FrozenStruct:
    changed: dict[str, Any] = {}
    for number, item in enumerate(msgspec.structs.astuple(value)):
        if type(item) in UNCHANGEABLE:  # most are; not one more call for each
            continue
        new = _copy(item)
        if new is not item:
            changed[value.__struct_fields__[number]] = new
    return replace(value, **changed) if changed else value

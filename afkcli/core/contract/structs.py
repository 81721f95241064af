"""`FrozenStruct`: the base of afk's frozen records, a cheaper form of the frozen dataclass. `Struct`: of what changes.

A dataclass compiles its methods when its class is made, which takes 0.5 ms of CPU; a run makes a hundred classes before
its first request. A struct of msgspec takes 0.012 ms, and making an object of one a sixth of the time.

Towards users it is a frozen dataclass: equality, hash, repr, `match`, `copy` and `pickle` are the same, assigning
raises `AttributeError`, the functions of the module `dataclasses` (`fields`, `replace`, `asdict`, `is_dataclass`) take
it, and so does pydantic.
"""

from __future__ import annotations

import sys
from functools import cache
from threading import active_count
from typing import TYPE_CHECKING, Any, dataclass_transform

UNCHANGEABLE = frozenset({str, int, float, bool, bytes, type(None)})
"""Types of values that cannot be changed in place; most fields of most records have one."""

_TYPING_EXTENSIONS = "typing_extensions"


def _import_msgspec() -> None:
    """Import msgspec without `typing_extensions`.

    msgspec takes that module where it is installed, has no use for it on our versions of Python, and imports faster by
    two thirds without it. While another thread runs, which may want the module at this moment, it is left alone.
    """
    hidden = _TYPING_EXTENSIONS not in sys.modules and active_count() == 1
    if hidden:
        sys.modules[_TYPING_EXTENSIONS] = None  # type: ignore[assignment]  # what Python takes for "not installed"
    try:
        import msgspec  # noqa: F401
    finally:
        if hidden:
            del sys.modules[_TYPING_EXTENSIONS]


_import_msgspec()

import msgspec  # noqa: E402
from msgspec import Struct, field  # noqa: E402
from msgspec.structs import force_setattr  # noqa: E402

if TYPE_CHECKING:
    from dataclasses import replace  # the types of its arguments are checked
else:
    from msgspec.structs import replace

__all__ = [
    "UNCHANGEABLE",
    "FrozenStruct",
    "Struct",
    "defaults_of",
    "field",
    "force_setattr",
    "msgspec",
    "replace",
]


class _DataclassAttribute:
    """An attribute by which the module `dataclasses` knows its own classes; made when it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(_as_dataclass(owner), self._name)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class FrozenStruct(Struct, frozen=True):
    """Base of a frozen record: `class Point(FrozenStruct, kw_only=True)`.

    `kw_only=True` has to be given for each class. `field(default_factory=...)` is that of this module. So is `replace`,
    which does what that of dataclasses does, faster. A `__post_init__` sets a field with `force_setattr`. Since: 0.2.
    """

    if not TYPE_CHECKING:  # a type checker has them from `dataclass_transform`
        __dataclass_fields__ = _DataclassAttribute("__dataclass_fields__")
        __dataclass_params__ = _DataclassAttribute("__dataclass_params__")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic validate a struct as it does a dataclass."""
        from afkcli.core.contract.validated_structs import struct_schema

        return struct_schema(cls, source, handler)


def defaults_of(kind: type[FrozenStruct]) -> dict[str, Any]:
    """Return the default of each field that has one, by its name; for a factory it is an object of msgspec's."""
    names, defaults = kind.__struct_fields__, kind.__struct_defaults__
    pairs = zip(names[len(names) - len(defaults) :], defaults, strict=True)
    return {name: default for name, default in pairs if default is not msgspec.NODEFAULT}


@cache
def _as_dataclass(kind: Any) -> Any:
    """Return a dataclass that has the fields of the struct `kind`, and no methods."""
    import dataclasses
    import inspect

    hints = {name: hint for base in reversed(kind.__mro__) for name, hint in inspect.get_annotations(base).items()}
    defaults = defaults_of(kind)
    return dataclasses.make_dataclass(
        kind.__name__,
        [
            (name, hints[name], _dataclass_field(defaults.get(name, _NO_DEFAULT), name not in kind.__match_args__))
            for name in kind.__struct_fields__
        ],
        init=False,
        repr=False,
        eq=kind.__struct_config__.eq,
        frozen=kind.__struct_config__.frozen,
    )


def _dataclass_field(default: Any, kw_only: bool) -> Any:
    import dataclasses

    if default is _NO_DEFAULT:
        return dataclasses.field(kw_only=kw_only)
    if isinstance(default, _FACTORY):
        return dataclasses.field(default_factory=default.factory, kw_only=kw_only)
    return dataclasses.field(default=default, kw_only=kw_only)


class _WithFactory(msgspec.Struct):
    value: list[None] = field(default_factory=list)


_NO_DEFAULT = object()
_FACTORY: Any = type(_WithFactory.__struct_defaults__[0])
"""The type of a default that is a factory, for which msgspec has no public name."""

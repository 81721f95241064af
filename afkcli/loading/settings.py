"""Fills a plugin's settings: its own dataclass, from a config table and the environment."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from afkcli.core.contract.errors import ConfigError
from afkcli.host.secrets import MASK, Secrets


def settings_type(factory: Callable[..., Any]) -> type | None:
    """Return the dataclass that annotates the parameter `settings` of a hook, or None.

    Only that annotation is looked at: the others may name what the module imports for type checkers alone.

    Raises:
        ConfigError: the annotation names what the module does not have.
    """
    annotation = getattr(factory, "__annotations__", {}).get("settings")
    if annotation is None:
        return None
    alone = types.SimpleNamespace(__annotations__={"settings": annotation})
    kind = _hints(alone, getattr(factory, "__globals__", {}), "a hook's parameter `settings`")["settings"]
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def fill_settings(factory: Callable[..., Any], table: Mapping[str, Any], where: str, secrets: Secrets) -> Any:
    """Return the settings of a hook: environment before config before the dataclass's defaults.

    Args:
        factory: the hook, whose `settings` annotation names the dataclass; without one a plain namespace is returned.
        table: the plugin's table of the config.
        where: what the table is called in an error.
        secrets: is told the values of the fields marked secret.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, a missing one, or one that the dataclass refuses.
    """
    kind = settings_type(factory)
    if kind is None:
        return types.SimpleNamespace(**table)
    hints = _hints(kind, None, where)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(set(table) - set(fields))
    if unknown:
        from difflib import get_close_matches

        near = get_close_matches(unknown[0], fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(fields)) or 'none'}"
        raise ConfigError(f"{where} has the unknown key {unknown[0]!r}; {hint}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        secret = bool(field.metadata.get("secret"))
        variable = field.metadata.get("env")
        add = secrets.add if secret else secrets.add_address  # before anything is said of the value
        add(table.get(name))
        add(os.environ.get(variable) if variable else None)
        if variable and os.environ.get(variable):
            values[name] = _from_text(os.environ[variable], hints[name], variable, secret=secret)
        elif name in table:
            values[name] = _from_table(table[name], hints[name], f"{where} {name}", secret=secret)
    try:
        settings = kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} is not usable: {error}") from None
    for name, field in fields.items():
        if field.metadata.get("secret"):  # also where a default factory found it
            secrets.add(getattr(settings, name, None))
    return settings


def _hints(thing: Any, names: dict[str, Any] | None, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, globalns=names)
    except Exception as error:  # an annotation is an expression of the plugin's
        raise ConfigError(f"the annotations of {where} cannot be read: {type(error).__name__}: {error}") from None


def _from_text(text: str, hint: Any, variable: str, *, secret: bool) -> Any:
    """Return the value of an environment variable, as the first of the annotation's classes that takes it."""
    for convert in (_bool, int, float, str):
        kind = bool if convert is _bool else convert
        with contextlib.suppress(ValueError, KeyError):
            if kind in _classes(hint):
                return _converted(convert(text), hint)
    said = MASK if secret else repr(text)
    raise ConfigError(f"the environment variable {variable} is {said}; {_words(hint)} was expected")


def _bool(text: str) -> bool:
    return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[text.lower()]


def _from_table(value: Any, hint: Any, what: str, *, secret: bool) -> Any:
    try:
        return _converted(value, hint)
    except ValueError:
        said = MASK if secret else repr(value)
        raise ConfigError(f"{what} is {said}; {_words(hint)} was expected") from None


def _converted(value: Any, hint: Any) -> Any:
    """Return a TOML value as the annotation wants it (`float` takes a whole number too), or raise `ValueError`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(value, arguments)
    if origin is typing.Literal:
        return _one_of(value, arguments)
    kind = origin or hint
    if kind is Any or not isinstance(kind, type):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool):
        return _one_of(value, (True, False) if kind in (bool, object) else ())
    if issubclass(dict, kind) and isinstance(value, dict):
        item = arguments[1] if len(arguments) == 2 else Any
        return {key: _converted(inner, item) for key, inner in value.items()}
    if kind in (list, tuple) or (kind.__module__ == "collections.abc" and isinstance(value, list)):
        if not isinstance(value, list):
            raise ValueError
        items = [_converted(inner, arguments[0] if arguments else Any) for inner in value]
        return tuple(items) if kind is tuple else items
    if not isinstance(value, kind) or (isinstance(value, str) and kind not in (str, object)):
        raise ValueError  # a text is a sequence of texts to Python, and to nobody else
    return value


def _first_that_fits(value: Any, hints: Sequence[Any]) -> Any:
    for hint in hints:
        with contextlib.suppress(ValueError):
            return _converted(value, hint)
    raise ValueError


def _one_of(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    raise ValueError


def _classes(hint: Any) -> tuple[Any, ...]:
    """Return the classes that a value of the annotation may have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for item in arguments for kind in _classes(item))
    if origin is typing.Literal:
        return tuple(type(item) for item in arguments)
    return (str,) if hint is Any else (origin or hint,)


def _words(hint: Any) -> str:
    """Return what an annotation asks for, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(item) for item in arguments if item is not type(None))
    if origin is typing.Literal:
        return " or ".join(repr(item) for item in arguments)
    known = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if hint in known:
        return known[hint]
    kind = origin or hint
    of = f" of {_MANY[arguments[-1]]}" if arguments and arguments[-1] in _MANY else ""
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return f"a table{of}"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return f"an array{of}"
    return getattr(hint, "__name__", str(hint))


_MANY = {str: "texts", int: "whole numbers", float: "numbers", bool: "switches"}

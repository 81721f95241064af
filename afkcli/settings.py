"""Fills a plugin's settings: its own dataclass, from a config table and the environment."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from afkcli.core.errors import ConfigError

MASK = "***"
_MIN_SECRET = 6  # shorter ones would take ordinary words out of every text


class Secrets:
    """The secrets that this process was given, to be masked in whatever is written."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, value: object) -> None:
        """Remember `value` if it is text that can be told from ordinary words."""
        if isinstance(value, str) and len(value) >= _MIN_SECRET:
            self._values.add(value)

    def mask(self, text: str) -> str:
        """Return `text` without the secrets."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, MASK)
        return text


SECRETS = Secrets()
"""Those of this process; whatever writes an error masks them."""


def settings_type(factory: Callable[..., Any]) -> type | None:
    """Return the dataclass that annotates the parameter `settings` of a hook, or None."""
    kind = getattr(factory, "__annotations__", {}).get("settings")
    if isinstance(kind, str):  # only this one: the others may be names that exist for type checkers alone
        try:
            kind = eval(kind, getattr(factory, "__globals__", {}))  # noqa: S307
        except (NameError, AttributeError, SyntaxError):
            return None
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def fill_settings(factory: Callable[..., Any], table: Mapping[str, Any], where: str, secrets: Secrets) -> Any:
    """Return the settings of a hook: environment before config before the dataclass's defaults.

    Args:
        factory: the hook, whose `settings` annotation names the dataclass; without one a plain namespace is returned.
        table: the plugin's table of the config.
        where: what the table is called in an error.
        secrets: is told the values of the fields marked secret.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or a missing one.
    """
    kind = settings_type(factory)
    if kind is None:
        return types.SimpleNamespace(**table)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise ConfigError(f"{where} has the unknown key {unknown[0]!r}; known: {', '.join(sorted(fields))}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        variable = field.metadata.get("env")
        if variable and os.environ.get(variable):
            values[name] = _from_text(os.environ[variable], hints[name], variable)
        elif name in table:
            values[name] = _checked(table[name], hints[name], f"{where} {name}")
        if field.metadata.get("secret"):
            secrets.add(values.get(name))
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where} is not complete: {error}") from None


def _from_text(text: str, hint: Any, variable: str) -> Any:
    kinds = _kinds(hint)
    try:
        if bool in kinds:
            return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[text.lower()]
        if int in kinds:
            return int(text)
        if float in kinds:
            return float(text)
    except (ValueError, KeyError):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"the environment variable {variable} is {text!r}; {expected} was expected") from None
    return text


def _checked(value: Any, hint: Any, what: str) -> Any:
    kinds = _kinds(hint)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise ConfigError(f"{what} is {value!r}; {expected} was expected")
    return value


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the classes that a value of the annotation may have."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for item in typing.get_args(hint) for kind in _kinds(item))
    if origin is typing.Literal:
        return tuple({type(item) for item in typing.get_args(hint)})
    if hint is Any:
        return (object,)
    kind = origin or hint
    if not isinstance(kind, type):
        return (object,)
    if issubclass(kind, Mapping) or kind is dict:
        return (dict,)
    if kind in (list, tuple) or kind.__module__ == "collections.abc":
        return (list, tuple)
    return (kind,)

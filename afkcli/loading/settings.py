"""Fills a plugin's settings: its own dataclass, from a config table and the environment."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afkcli.core.contract.credentials import MASK
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.setting_sources import SettingSource, keep_sources
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.host.invocation import process_environment
from afkcli.host.secrets import Secrets
from afkcli.loading.setting_types import ARRAYS, TABLES, check_type, classes, is_settings, items_of, plain_type, words

if TYPE_CHECKING:
    from afkcli.loading.secret_sources import PendingCommand, SecretSources

Locate = Callable[..., str]
"""Returns the file and line of the key of a plugin's table that the arguments lead to, or an empty text."""


def settings_type(factory: Callable[..., Any]) -> type | None:
    """Return the dataclass that annotates the parameter `settings` of a hook, or None.

    Only that annotation is read: the others may name what the module imports for type checkers alone.

    Raises:
        ConfigError: the annotation names what the module does not have.
        PluginContractError: a field of the dataclass has a type that afk cannot fill.
    """
    annotation = getattr(factory, "__annotations__", {}).get("settings")
    if annotation is None:
        return None
    alone = types.SimpleNamespace(__annotations__={"settings": annotation})
    kind = _hints(alone, getattr(factory, "__globals__", {}), "a hook's parameter `settings`")["settings"]
    if not is_settings(kind):
        return None
    _check_fields(kind, "", ())
    found: type = kind
    return found


def fill_settings(
    factory: Callable[..., Any],
    table: Mapping[str, Any],
    where: str,
    secrets: Secrets,
    environment: Mapping[str, str] | None = None,
    locate: Locate = lambda *keys: "",
    sources: Callable[[], SecretSources | None] = lambda: None,
    defer: Callable[[PendingCommand], None] | None = None,
) -> Any:
    """Return the settings of a hook: environment before config before the dataclass's defaults.

    What is marked secret comes from the environment, the keys file, the config, or the command `NAME_command` of the
    config, the first that has it. `${NAME}` in the config is filled in there.

    Args:
        factory: the hook, whose `settings` annotation names the dataclass; without one a plain namespace is returned.
        table: the plugin's table of the config.
        where: the table's name in an error, `[sinks.NAME]`.
        secrets: is given the values of the fields that are marked secret, those of nested dataclasses included.
        environment: fills the fields that name a variable; that of the process by default.
        locate: returns the file and line of a key of the table, or of the table itself, or an empty text.
        sources: returns the keys file and the commands; without it neither counts. Since: 0.2.
        defer: takes a command that has to run, whose setting is then the mask of a secret; without it, it is run here.
            Since: 0.2.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, a missing one, or one that the dataclass refuses.
        PluginContractError: a field of the dataclass has a type that afk cannot fill.
    """
    kind = settings_type(factory)
    if kind is None:
        return types.SimpleNamespace(**table)
    environment = process_environment() if environment is None else environment
    return _filled(
        kind,
        table,
        _Place(table=where, secrets=secrets, environment=environment, locate=locate, sources=sources, defer=defer),
    )


def secret_texts(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a dataclass of settings that hold a secret text, by name: the keys file may have them.

    Raises:
        ConfigError: its annotations cannot be read.

    Since: 0.2.
    """
    hints = _hints(kind, None, f"the settings {kind.__qualname__}")
    secret = {name: field for name, field in fields_of(kind).items() if field.metadata.get("secret")}
    return {name: field for name, field in secret.items() if str in classes(hints[name])}


def masked_settings(kind: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plugin's table of the config, the values of secret fields masked, in nested dataclasses too."""
    hints = _hints(kind, None, f"the settings {kind.__qualname__}")
    secret = {field.name for field in dataclasses.fields(kind) if field.metadata.get("secret")}
    return {
        key: _mask_all(value) if key in secret else _masked(value, hints.get(key, Any)) for key, value in table.items()
    }


def _mask_all(value: Any) -> Any:
    return {key: _mask_all(inner) for key, inner in value.items()} if isinstance(value, dict) else MASK


def _masked(value: Any, hint: Any) -> Any:
    hint = plain_type(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for item in typing.get_args(hint):
            value = _masked(value, item)
        return value
    if isinstance(value, dict) and is_settings(hint):
        return masked_settings(hint, value)
    if isinstance(value, (dict, list)) and any(is_settings(kind) for kind in classes(hint, deep=True)):
        try:
            items = {key: _masked(inner, item) for key, inner, item in items_of(value, hint)}
        except ValueError:  # an array of the wrong length: which of its items is secret is unknown
            return MASK
        return items if isinstance(value, dict) else list(items.values())
    return value


class _Place(FrozenStruct, kw_only=True):
    """A place in the config: the name of a table, and the path of a value in it; `keys` is the whole of the path."""

    table: str
    secrets: Secrets
    environment: Mapping[str, str]
    path: str = ""
    keys: tuple[str, ...] = ()
    locate: Locate = lambda *keys: ""
    sources: Callable[[], SecretSources | None] = lambda: None
    defer: Callable[[PendingCommand], None] | None = None

    def at(self, key: object) -> _Place:
        """Return the place of the value `key` below this one."""
        path = f"{self.path}.{key}" if self.path else str(key)
        return replace(self, path=path, keys=(*self.keys, str(key)))

    def as_table(self) -> _Place:
        """Return this place as that of a table of its own: `beds.north` in `[tools.x]` is `[tools.x.beds.north]`."""
        if not self.path:
            return self
        return replace(self, table=f"{self.table[:-1]}.{self.path}]", path="")

    def error(self, what: str) -> ConfigError:
        """Return an error, with the file and line of this place if a file has it."""
        where = self.locate(*self.keys)
        return ConfigError(f"{where}: {what}" if where else what)

    def source(self, variable: str | None, *, given: bool, stored: str = "") -> SettingSource:
        """Return where the value at this place came from: a variable, the keys file, the config, or a default."""
        place = self.locate(*self.keys) if given and variable is None and not stored else ""
        return SettingSource(name=self.path, table=self.table, variable=variable, place=place, stored=stored)

    def __str__(self) -> str:
        return f"{self.table} {self.path}"


def _filled(kind: Any, table: Mapping[str, Any], place: _Place) -> Any:
    """Return an instance of the dataclass `kind` filled from `table`, which is at `place`."""
    where = place.table
    hints = _hints(kind, None, where)
    fields = fields_of(kind)
    for name, field in fields.items():  # before an error can name a value
        _keep_secrets(field, table.get(name), place)
    secret = {name for name, field in fields.items() if field.metadata.get("secret")}
    texts = [name for name in fields if name in secret and str in classes(hints[name])]
    _refuse_unknown(table, [*fields, *(f"{name}_command" for name in texts)], place)
    values: dict[str, Any] = {}
    sources: dict[str, SettingSource] = {}
    for name, field in fields.items():
        variable = field.metadata.get("env")
        given = place.environment.get(variable) if variable else None
        sources[name] = place.at(name).source(variable if given else None, given=name in table)
        if variable and given:
            values[name] = _from_text(given, hints[name], variable, secret=name in secret)
        elif name in secret and (found := _secret(name, texts, fields, hints, table, place)) is not None:
            value, sources[name] = found
            values[name] = _from_table(value, hints[name], place.at(name), secret=True)
        elif name in table:
            values[name] = _from_table(table[name], hints[name], place.at(name), secret=name in secret)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise place.error(f"{where} needs the key {name!r}: {words(hints[name])}")
    try:
        settings = kind(**values)
    except (TypeError, ValueError) as error:
        raise place.error(f"{where} is not usable: {error}") from None
    for name, field in fields.items():
        if field.metadata.get("secret"):  # also where a default factory found it
            place.secrets.add(getattr(settings, name, None))
    keep_sources(settings, sources)
    return settings


def _keep_secrets(field: dataclasses.Field[Any], value: object, place: _Place) -> None:
    keep = place.secrets.add if field.metadata.get("secret") else place.secrets.add_address
    variable = field.metadata.get("env")
    keep(value)
    keep(place.environment.get(variable) if variable else None)


def _secret(
    name: str,
    texts: Sequence[str],
    fields: Mapping[str, dataclasses.Field[Any]],
    hints: Mapping[str, Any],
    table: Mapping[str, Any],
    place: _Place,
) -> tuple[Any, SettingSource] | None:
    """Return a secret setting that no variable gives, and where it came from; None where its default counts."""
    if name not in texts and name not in table:
        return None
    from afkcli.loading import secret_settings  # not at the top: most keys are in the environment

    found = secret_settings.outside_config(place, name, texts)
    if found is None and name in table and not secret_settings.is_left_to_command(table, name):
        nested = any(is_settings(kind) for kind in classes(hints[name], deep=True))
        is_expanded = fields[name].metadata.get("expand", True) and not nested
        value = secret_settings.expanded(table[name], place.at(name)) if is_expanded else table[name]
        found = value, place.at(name).source(None, given=True)
    if found is None and name in texts:
        found = secret_settings.from_command(table, place, name)
    if found is not None:
        place.secrets.add(found[0])
    return found


def fields_of(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a dataclass of settings that are filled, by name."""
    return {field.name: field for field in dataclasses.fields(kind) if field.init}


def _refuse_unknown(table: Mapping[str, Any], fields: Sequence[str], place: _Place) -> None:
    unknown = sorted(set(table) - set(fields))
    if unknown:
        from afkcli.core.contract.suggestions import near_names  # not at the top: most configs have no such key

        near = near_names(unknown[0], fields)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(fields)) or 'none'}"
        raise place.at(unknown[0]).error(f"{place.table} has the unknown key {unknown[0]!r}; {hint}")


def _check_fields(kind: Any, path: str, inside: tuple[Any, ...]) -> None:
    """Refuse a dataclass that has a field which cannot be filled; `inside` are the dataclasses around it."""
    if kind in inside:
        return
    hints = _hints(kind, None, f"the settings {kind.__qualname__}")
    for field in dataclasses.fields(kind):
        if field.init:
            for nested in check_type(hints[field.name], f"{path}{field.name}"):
                _check_fields(nested, f"{path}{field.name}.", (*inside, kind))


def _hints(thing: Any, names: dict[str, Any] | None, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, globalns=names)
    except Exception as error:  # an annotation is an expression of the plugin's
        raise ConfigError(f"the annotations of {where} cannot be read: {type(error).__name__}: {error}") from None


def _from_text(text: str, hint: Any, variable: str, *, secret: bool) -> Any:
    """Return the value of an environment variable, as the first of the annotation's classes that takes it."""
    if secret and text.startswith("${"):
        from afkcli.core.contract.references import is_reference

        if is_reference(text):
            raise ConfigError(
                f"the environment variable {variable} is a reference to another one (${{NAME}}), which nothing has "
                f"filled in; set {variable} to the value itself"
            )
    place = _Place(
        table=variable, secrets=Secrets(), environment={}
    )  # a variable holds no table, so the place is never named
    for convert in (_bool, int, float, str):
        kind = bool if convert is _bool else convert
        with contextlib.suppress(ValueError, KeyError):
            if kind in classes(hint):
                return _converted(convert(text), hint, place)
    said = MASK if secret else repr(text)
    raise ConfigError(f"the environment variable {variable} is {said}; {words(hint)} was expected")


def _bool(text: str) -> bool:
    return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[text.lower()]


def _from_table(value: Any, hint: Any, place: _Place, *, secret: bool) -> Any:
    try:
        return _converted(value, hint, place)
    except ValueError:
        said = MASK if secret else _shown(value, hint)
        raise place.error(f"{place} is {said}; {words(hint)} was expected") from None


def _shown(value: Any, hint: Any) -> str:
    """Return a wrong value for an error: in full, but where it may hold the secrets of a nested dataclass."""
    if any(is_settings(kind) for kind in classes(hint, deep=True)):
        return "a table" if isinstance(value, dict) else "an array" if isinstance(value, list) else repr(value)
    return repr(value)


def _converted(value: Any, hint: Any, place: _Place) -> Any:
    """Return a TOML value as the annotation wants it (`float` takes a whole number too), or raise `ValueError`."""
    hint = plain_type(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(value, arguments, place)
    if origin is typing.Literal:
        return _one_of(value, arguments)
    kind = origin or hint
    if kind is Any or kind is object:
        return value
    if is_settings(kind):
        if not isinstance(value, dict):
            raise ValueError
        return _filled(kind, value, place.as_table())
    if kind in TABLES or kind in ARRAYS:
        return _collection(value, kind, hint, place)
    return _scalar(value, kind)


def _collection(value: Any, kind: Any, hint: Any, place: _Place) -> Any:
    if not isinstance(value, dict if kind in TABLES else list):  # to a user a string is not a sequence of strings
        raise ValueError
    items = {key: _item(inner, item, place.at(key)) for key, inner, item in items_of(value, hint)}
    if kind in TABLES:
        return items
    if kind not in (tuple, set, frozenset):
        return list(items.values())
    try:
        return kind(items.values())
    except TypeError:  # a set of what cannot be in a set: an array where any value is taken
        raise ValueError from None


def _item(value: Any, hint: Any, place: _Place) -> Any:
    """Return an item of a table or array. A table that is missing is named by its own place, not by all around it."""
    if is_settings(hint) and not isinstance(value, dict):
        raise place.error(f"{place} is {_shown(value, hint)}; a table was expected")
    return _converted(value, hint, place)


def _scalar(value: Any, kind: Any) -> Any:
    from enum import Enum
    from pathlib import Path

    if issubclass(kind, Enum):
        return kind(_one_of(value, [member.value for member in kind]))
    if isinstance(value, bool):
        return _one_of(value, (True, False) if kind is bool else ())
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind):
        raise ValueError
    return value


def _first_that_fits(value: Any, hints: Sequence[Any], place: _Place) -> Any:
    for hint in hints:
        with contextlib.suppress(ValueError):
            return _converted(value, hint, place)
    raise ValueError


def _one_of(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    raise ValueError

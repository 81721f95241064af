"""The value of a secret setting that no variable of the environment gives: of the keys file, the config, or a command.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from afkcli.core.contract.credentials import MASK, SECRET_NAME
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.references import expand_references, references
from afkcli.core.contract.setting_sources import SettingSource
from afkcli.host.secrets import Secrets
from afkcli.loading.secret_sources import (
    COMMAND,
    PendingCommand,
    SecretSources,
    command_words,
    main_secret,
    stored_name,
)


class Place(Protocol):
    """A place in the config, as `afkcli.loading.settings` has it."""

    @property
    def table(self) -> str: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def locate(self) -> Callable[..., str]: ...
    @property
    def sources(self) -> Callable[[], SecretSources | None]: ...
    @property
    def defer(self) -> Callable[[PendingCommand], None] | None: ...
    def at(self, key: object) -> Place: ...
    def error(self, what: str) -> ConfigError: ...
    def source(self, variable: str | None, *, given: bool, stored: str = "") -> SettingSource: ...


def outside_config(place: Place, name: str, texts: Sequence[str]) -> tuple[str, SettingSource] | None:
    """Return a secret text of the keys file, and its source; None where it is not there.

    Args:
        place: the table.
        name: the setting.
        texts: all secret texts of the table.
    """
    sources = place.sources() if name in texts else None
    if sources is None:
        return None
    names = [stored_name(place.table, name, main) for main in (main_secret(texts), None)]
    key = next((key for key in names if key in sources.keys()), None)  # noqa: SIM118 - a method, not those of a dict
    return None if key is None else (sources.keys()[key], place.at(name).source(None, given=False, stored=key))


def is_left_to_command(table: Mapping[str, Any], name: str) -> bool:
    """Return whether a setting is blank in the config, beside a command for it."""
    return isinstance(table[name], str) and not table[name].strip() and f"{name}{COMMAND}" in table


def from_command(table: Mapping[str, Any], place: Place, name: str) -> tuple[str, SettingSource] | None:
    """Return what the command of a setting prints, or the mask of a secret where it is not to be run yet.

    Raises:
        ConfigError: it is not a list of words, or it prints no key.
    """
    key = f"{name}{COMMAND}"
    if key not in table:
        return None
    own = place.at(key)
    words = command_words(table[key])
    if words is None:
        raise own.error(f'{own} is not a list of words; write ["PROGRAM", "ARGUMENT"]: no shell reads it')
    sources = place.sources()
    if sources is None:
        raise own.error(f"{own} cannot be used here, because this part of afk runs no command")
    return _printed(sources, place, PendingCommand(words, _named(own))), own.source(None, given=True)


def _named(place: Place) -> str:
    where = place.locate(*place.keys)
    return f"{place} ({where})" if where else str(place)


def _printed(sources: SecretSources, place: Place, command: PendingCommand) -> str:
    printed = sources.printed(command)
    if printed is None and place.defer is not None:
        place.defer(command)
    if printed is None and place.defer is None and sources.runs_commands:
        printed = sources.run(command)
    return MASK if printed is None else printed


def expanded(value: Any, place: Place) -> Any:
    """Return a secret value of the config with the variables filled in to which its texts refer.

    Raises:
        ConfigError: a variable is not set or empty, or a reference is malformed.
    """
    if isinstance(value, dict):
        return {key: expanded(item, place.at(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item, place) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        named = references(value)
    except ValueError as error:
        raise place.error(f"{place} {error}") from None
    values: dict[str, str] = {}
    for variable in named:
        # Without the line end that a file or a program left behind: no header takes it.
        given = values[variable] = place.environment.get(variable, "").strip()
        if not given:
            what = "is empty" if variable in place.environment else "is not set"
            raise place.error(f"{place} refers to the variable {variable}, which {what}; set {variable}")
        if SECRET_NAME.compiled.search(variable):
            place.secrets.add(given)
        if not given.isprintable():
            raise place.error(f"{place} refers to the variable {variable}, which holds control characters")
    return expand_references(value, values)

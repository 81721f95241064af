"""The effective config as rows of key, value and source, with secrets masked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from afkcli.config.checking import PLUGIN_SECTIONS
from afkcli.config.merging import DEFAULT_STORE, is_tables
from afkcli.core.contract.credentials import MASK, SECRET_NAME, query_secrets, user_info
from afkcli.core.contract.errors import AfkError
from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.limits import LIMITS
from afkcli.host.keys import keys_file
from afkcli.loading.discovery import KNOWN
from afkcli.loading.settings import masked_settings
from afkcli.wiring.key_origins import KEYS_FILE, all_settings, origins
from afkcli.wiring.setup import Setup

DEFAULT = "default"
_KINDS = {
    "providers": "provider",
    "stores": "store",
    "sinks": "sink",
    "tools": "tools",
    "engines": "engine",
    "commands": "command",
}
_ENVIRONMENT = {
    "AFK_MODEL": "model",
    "AFK_AGENT": "agent",
    "AFK_STORE": "store",
    "AFK_BUSY": "busy",
    "AFK_BUSY_TIMEOUT": "busy_timeout",
    **{limit.variable: f"limits.{limit.field}" for limit in LIMITS if limit.variable is not None},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One effective value: the path of its key, the value with secrets masked, and its source."""

    key: str
    value: Json
    source: str


def effective(setup: Setup) -> list[Value]:
    """Return all values that are set, and the defaults of store, sinks and limits."""
    values: dict[str, Value] = {}
    for value in (*_defaults(setup), *_of_files(setup), *_of_environment(setup), *_of_plugins(setup)):
        values[value.key] = value
    return sorted(values.values(), key=lambda value: value.key)


def _defaults(setup: Setup) -> Iterator[Value]:
    yield Value(key="store", value=DEFAULT_STORE, source=DEFAULT)
    for name in setup.config.sink_names():
        yield Value(key=f"sinks.{name}.enabled", value=True, source=DEFAULT)
    for limit in LIMITS:
        if limit.default is not None:
            yield Value(key=f"limits.{limit.field}", value=limit.default, source=DEFAULT)


def _of_files(setup: Setup) -> Iterator[Value]:
    for file in reversed(setup.config.files):
        for key, value in file.table.items():
            if key not in PLUGIN_SECTIONS:
                yield from _flat((key,), value, str(file.path))


def _flat(path: tuple[str, ...], value: Any, source: str) -> Iterator[Value]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat((*path, key), item, source)
    else:
        shown = MASK if "headers" in path[:-1] and isinstance(value, str) else masked(path[-1], value)
        yield Value(key=_dotted(path), value=shown, source=source)


def _of_environment(setup: Setup) -> Iterator[Value]:
    for variable, key in _ENVIRONMENT.items():
        value = setup.invocation.environment.get(variable)
        if value:
            yield Value(key=key, value=value, source=f"environment {variable}")


def _of_plugins(setup: Setup) -> Iterator[Value]:
    """Yield the settings of the plugins that are installed or have a table."""
    for section, kind in _KINDS.items():
        named = [name for file in setup.config.files for name in file.table.get(section, {})]
        for name in dict.fromkeys([*setup.plugins.names(kind), *named]):
            yield from _settings_of(setup, section, name)
    usable = [id_ for id_ in setup.plugins.found if id_.startswith("provider.")]
    for setting in all_settings(setup.plugins, usable, setup.config):
        places = origins(setup.invocation, setup.plugins, setup.config, setting)
        if places and places[0].source == KEYS_FILE:
            key = f"{setting.table.strip('[]')}.{setting.setting}"
            yield Value(key=key, value=MASK, source=str(keys_file(setup.invocation.environment)))
    for plugin in KNOWN.values():
        if plugin.key and setup.invocation.environment.get(plugin.key):
            yield Value(key=plugin.key, value=MASK, source="environment")


def _settings_of(setup: Setup, section: str, name: str) -> Iterator[Value]:
    kind = _settings_type(setup, section, name)
    fields = {field.name: field for field in dataclasses.fields(kind)} if kind is not None else None
    rows: dict[tuple[str, ...], list[Value]] = {}  # by key, or by table in a table of tables; the last one counts
    for file in reversed(setup.config.files):
        table = file.table.get(section, {}).get(name, {})
        for key, value in (table if kind is None else masked_settings(kind, table)).items():
            field = (fields or {}).get(key)
            # If the plugin does not say which settings are secret, mask all but booleans and numbers.
            secret = (
                field.metadata.get("secret") if field else fields is None and not isinstance(value, (bool, int, float))
            )
            parts = {(key, item): table for item, table in value.items()} if is_tables(value) else {(key,): value}
            for path, part in parts.items():
                hidden = Value(key=_dotted((section, name, *path)), value=MASK, source=str(file.path))
                rows[path] = [hidden] if secret else list(_flat((section, name, *path), part, str(file.path)))
    for values in rows.values():
        yield from values
    for key, field in (fields or {}).items():
        variable = field.metadata.get("env")
        given = setup.invocation.environment.get(variable) if variable else None
        if given:
            shown = MASK if field.metadata.get("secret") else masked(key, given)
            yield Value(key=_dotted((section, name, key)), value=shown, source=f"environment {variable}")


def _settings_type(setup: Setup, section: str, name: str) -> Any:
    """Return the dataclass of a plugin's settings, or None where it cannot be known."""
    try:
        return setup.plugins.settings_type(_KINDS[section], name)
    except AfkError:
        return None


def masked(key: str, value: Json) -> Json:
    """Return `value` with masks for values that are secret by their key or their place in an address, at any depth."""
    if isinstance(value, dict):
        return {name: masked(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(key, item) for item in value]
    if isinstance(value, str):
        return MASK if SECRET_NAME.compiled.search(key) else masked_address(value)
    is_plain = isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else str(value)  # dates, times and infinite numbers are TOML and not JSON


def masked_address(text: str) -> str:
    """Return `text`; if it is an address, with the user and the keys in it masked."""
    for secret in (user_info(text), *query_secrets(text)):
        text = text.replace(secret, MASK) if secret else text
    return text


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)

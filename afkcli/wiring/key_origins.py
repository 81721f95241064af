"""Which keys there are, and where each comes from: the environment, the keys file, the config, or a command.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from afkcli.config.merging import Config
from afkcli.core.contract.errors import AfkError, UnknownNameError
from afkcli.core.contract.references import references
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.suggestions import near_names
from afkcli.host.invocation import Invocation
from afkcli.loading.discovery import KNOWN, Plugins, section
from afkcli.loading.secret_sources import COMMAND, command_words, main_secret, stored_name
from afkcli.loading.settings import secret_texts
from afkcli.wiring.setup import Setup

ENVIRONMENT, KEYS_FILE, CONFIG, COMMAND_OUTPUT = "environment", "keys file", "config", "command"
"""Where a key may come from, in the order in which they count."""

_KINDS = ("provider", "sink", "store", "tools", "engine", "command")


class SecretSetting(FrozenStruct, kw_only=True):
    """A setting that holds a key: of the table `[providers.NAME]`, and the variable that gives it, if there is one.

    `name` is what `afk keys` calls it.
    """

    table: str
    setting: str
    name: str
    variable: str | None = None

    @property
    def place(self) -> str:
        return f"{self.setting} under {self.table}"


class Origin(FrozenStruct, kw_only=True):
    """One place from which a key comes; `where` names it within a sentence, `is_blank` is whether nothing is in it.

    `words` are those of the command that prints it.
    """

    source: str
    where: str
    is_blank: bool = False
    words: tuple[str, ...] = ()


def secret_settings(plugins: Plugins, kind: str, name: str) -> list[SecretSetting]:
    """Return the secret texts among the settings of a plugin; raises as `Plugins.settings_type`."""
    settings = plugins.settings_type(kind, name)
    texts = secret_texts(settings) if settings is not None else {}
    table, main = f"[{section(kind)}.{name}]", main_secret(list(texts))
    return [
        SecretSetting(
            table=table, setting=item, name=stored_name(table, item, main), variable=texts[item].metadata.get("env")
        )
        for item in texts
    ]


def known_settings() -> list[SecretSetting]:
    """Return the keys of the providers that afk knows by name, whether they are installed or not."""
    return [
        SecretSetting(table=f"[providers.{name}]", setting="api_key", name=name, variable=plugin.key)
        for name, plugin in ((id_.partition(".")[2], plugin) for id_, plugin in KNOWN.items())
        if plugin.key
    ]


def all_settings(plugins: Plugins, usable: Sequence[str], config: Config | None) -> list[SecretSetting]:
    """Return the keys of known providers, of plugins that can be used, and of providers that only the config has."""
    found = known_settings()
    for id_ in usable:
        kind, _, name = id_.partition(".")
        with suppress(AfkError):
            found += secret_settings(plugins, kind, name) if kind == "provider" else []
    found = list(dict.fromkeys(found))
    tables = {item.table for item in found}
    configured = config.configured("providers") if config is not None else []
    return found + [
        SecretSetting(table=f"[providers.{name}]", setting="api_key", name=name)
        for name in configured
        if f"[providers.{name}]" not in tables
    ]


def origins(start: Invocation, plugins: Plugins, config: Config | None, setting: SecretSetting) -> list[Origin]:
    """Return where a key comes from; the first one counts. `ConfigError` if the keys file cannot be used."""
    return list(_origins(start, plugins, config, setting))


def _origins(start: Invocation, plugins: Plugins, config: Config | None, setting: SecretSetting) -> Iterator[Origin]:
    given = start.environment.get(setting.variable, "") if setting.variable else ""
    if given:
        yield Origin(source=ENVIRONMENT, where=str(setting.variable), is_blank=not given.strip())
    stored = plugins.stored_keys()
    name = next((name for name in (setting.name, f"{setting.name}.{setting.setting}") if name in stored), None)
    if name is not None:
        yield Origin(source=KEYS_FILE, where=f"the key {name!r} of the keys file")
    section_name, _, plugin = setting.table.strip("[]").partition(".")
    table = config.plugin_table(section_name, plugin) if config is not None else {}
    value = table.get(setting.setting)
    if isinstance(value, str) and value.strip():
        yield Origin(source=CONFIG, where=setting.place + _referring(value))
    words = command_words(table.get(f"{setting.setting}{COMMAND}"))
    if words is not None:
        where = f"{setting.setting}{COMMAND} under {setting.table} ({words[0]})"
        yield Origin(source=COMMAND_OUTPUT, where=where, words=tuple(words))


def _referring(value: str) -> str:
    try:
        named = references(value)
    except ValueError:
        return " (not usable)"
    return f" (from {', '.join(named)})" if named else ""


def named_setting(setup: Setup, name: str) -> SecretSetting:
    """Return the secret setting that a person names: `openai`, `openai.api_key`, `sinks.otel.headers`, or its variable.

    Raises:
        UnknownNameError: there is no such plugin or setting, or the plugin has no key; the error has the nearest name.
        PluginError: the plugin cannot be loaded.
    """
    by_variable = next((item for item in known_settings() if item.variable == name), None)
    if by_variable is not None:
        return by_variable
    kind, plugin, setting = _parts(setup, name)
    if f"{kind}.{plugin}" not in setup.plugins.found:
        raise UnknownNameError(_no_plugin(setup, kind, plugin))
    settings = secret_settings(setup.plugins, kind, plugin)
    if not settings:
        raise UnknownNameError(f"the plugin {kind}.{plugin} has no key")
    found = [item for item in settings if setting in (item.setting, "")]
    main = [item for item in found if item.name == plugin] or found
    if len(main) == 1:
        return main[0]
    which = " or ".join(f"{plugin}.{item.setting}" for item in settings)
    raise UnknownNameError(f"{name!r} is not a key of the plugin {kind}.{plugin}; write {which}")


def _parts(setup: Setup, name: str) -> tuple[str, str, str]:
    """Return the kind, the plugin and the setting ("" for its only one) that a name consists of."""
    first, _, rest = name.partition(".")
    kind = next((kind for kind in _KINDS if first in (kind, section(kind)) and rest), None)
    if kind is None or f"provider.{first}" in setup.plugins.found:
        return "provider", first, rest
    plugin, _, setting = rest.partition(".")
    return kind, plugin, setting


def _no_plugin(setup: Setup, kind: str, plugin: str) -> str:
    known = setup.plugins.names(kind)
    distribution = KNOWN.get(f"{kind}.{plugin}")
    if distribution is not None:
        return f"the {kind} {plugin!r} is not installed; add it with: afk plugins install {distribution.distribution}"
    near = near_names(plugin, known)
    hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(known) or 'none'}"
    return f"there is no {kind} {plugin!r}; {hint}"

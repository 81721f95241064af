"""What the plugins of a setup make: providers, the store, tools and sinks, with the settings of the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from afkcli.config.merging import DEFAULT_SINKS, DEFAULT_STORE, environment_choice
from afkcli.core.contract.credentials import MASK
from afkcli.core.contract.errors import AfkError, ConfigError, PluginContractError, PluginError, StoreError
from afkcli.loading.discovery import section
from afkcli.wiring.setup import Setup

if TYPE_CHECKING:
    from afkcli.core.contract.engine import Engine
    from afkcli.core.contract.protocols import Provider, Sink, Store
    from afkcli.core.contract.tools import Tool, Toolset
    from afkcli.loading.secret_sources import PendingCommand


def make_provider(setup: Setup, name: str) -> Provider:
    """Return a new provider; `UnknownNameError`, `PluginError` or the provider's own `AfkError` if it cannot be.

    A command that prints its key is not run here, but for its first request.
    """
    table = setup.config.plugin_table("providers", name)
    commands: list[PendingCommand] = []
    made = cast("Provider", _make(setup, "provider", name, table, defer=commands.append))
    if not commands:
        return made
    from afkcli.wiring.key_commands import ProviderWithoutKey  # not at the top: most keys are not printed by commands

    sources = setup.plugins.secret_sources()
    return ProviderWithoutKey(made, commands, sources, lambda: cast("Provider", _make(setup, "provider", name, table)))


def make_provider_without_key(setup: Setup, name: str) -> Provider:
    """Return a provider with the mask of a secret in the place of each key that is missing; raises as `make_provider`.

    Nothing can be sent by it. It is for a run that only shows its request.
    """
    import dataclasses

    kind: Any = setup.plugins.settings_type("provider", name)
    fields = dataclasses.fields(kind) if kind is not None else ()
    keys = {field.name: MASK for field in fields if field.metadata.get("secret") and field.type in ("str", str)}
    table = {**keys, **setup.config.plugin_table("providers", name)}
    return cast("Provider", _make(setup, "provider", name, table, defer=lambda command: None))


def store_name(setup: Setup) -> str:
    """Return the name of the configured store."""
    chosen = environment_choice("AFK_STORE", setup.invocation.environment) or setup.config.value("store")
    return chosen.value if chosen else DEFAULT_STORE


def open_store(setup: Setup, name: str | None = None) -> Store:
    """Open the configured store, or the store `name`.

    Raises:
        UnknownNameError: its plugin is not installed.
        PluginContractError: what its plugin offers does not fit the contract.
        StoreError: it cannot be opened, or its plugin is broken.
    """
    name = name or store_name(setup)
    try:
        return cast("Store", _make(setup, "store", name, setup.config.plugin_table("stores", name)))
    except PluginContractError:
        raise
    except PluginError as error:
        raise StoreError(str(error)) from error


def make_tools(setup: Setup, name: str) -> Sequence[Tool] | Toolset:
    """Return the tools of the plugin `tools.<name>`, or what can be asked for them; raises as `make_provider`."""
    return cast("Sequence[Tool] | Toolset", _make(setup, "tools", name, setup.config.plugin_table("tools", name)))


def make_engine(setup: Setup, name: str) -> Engine:
    """Return the engine of the plugin `engine.<name>`; raises as `make_provider`. Since: 0.2."""
    return cast("Engine", _make(setup, "engine", name, setup.config.plugin_table("engines", name)))


def make_sink(setup: Setup, name: str) -> Sink:
    """Return a new sink; raises as `make_provider`."""
    table = setup.config.plugin_table("sinks", name)
    table.pop("enabled", None)
    return cast("Sink", _make(setup, "sink", name, table))


def make_sinks(setup: Setup) -> list[Sink]:
    """Return the sinks in use; one that cannot be made is reported and left out.

    Raises:
        ConfigError: the settings of one are wrong. (Since: 0.2; before, it was left out.)
    """
    names = setup.config.sink_names()
    names += [id_.partition(".")[2] for id_ in setup.file_plugins if id_.startswith("sink.")]
    sinks: list[Sink] = []
    for name in dict.fromkeys(names):
        known = f"sink.{name}" in (*setup.plugins.found, *setup.plugins.conflicts)
        if name in DEFAULT_SINKS and not known and not setup.config.plugin_table("sinks", name):
            continue
        try:
            sinks.append(make_sink(setup, name))
        except ConfigError:
            raise
        except AfkError as error:
            setup.notify(f"the sink {name!r} is left out: {error}")
    return sinks


def _make(
    setup: Setup,
    kind: str,
    name: str,
    table: Mapping[str, Any],
    defer: Callable[[PendingCommand], None] | None = None,
) -> Any:
    locate = partial(setup.config.place, section(kind), name)
    return setup.plugins.make(kind, name, table, setup.invocation.secrets, locate=locate, defer=defer)

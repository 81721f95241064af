"""Finds plugins without importing them, and loads one when it is selected by name.

A plugin that fails to import, asks for a newer hook version or raises is named with its reason; the others go on.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from afkcli import hookspecs
from afkcli.core.errors import AfkError, PluginError, UnknownNameError
from afkcli.settings import Secrets, fill_settings

GROUP = "afk"
MODELS_GROUP = "afk.models"
KINDS = ("provider", "store", "sink", "tools", "command")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlugin:
    """A plugin of ours that may not be installed: what to install, and the variable that holds its key."""

    distribution: str
    key: str | None = None


KNOWN: Mapping[str, KnownPlugin] = {
    "provider.openai": KnownPlugin(distribution="afk-provider-openai", key="OPENAI_API_KEY"),
    "provider.anthropic": KnownPlugin(distribution="afk-provider-anthropic", key="ANTHROPIC_API_KEY"),
    "provider.local": KnownPlugin(distribution="afk-provider-local"),
    "store.disk": KnownPlugin(distribution="afk-store-disk"),
    "sink.jsonl": KnownPlugin(distribution="afk-sink-jsonl"),
}
"""In the order in which a key that is set names the model of a bare run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """An entry point, or a file: `id` is `<kind>.<name>`, `source` the module or path, `distribution` who claims it."""

    id: str
    source: str
    distribution: str
    version: str
    file: Path | None = None

    @property
    def kind(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]


@dataclass(slots=True)
class Plugins:
    """All plugins that were found. `conflicts` and `failures` give the reason by id."""

    found: dict[str, Plugin] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _modules: dict[str, ModuleType] = field(default_factory=dict)
    _manager: pluggy.PluginManager | None = None

    def names(self, kind: str) -> list[str]:
        """Return the names of the plugins of a kind, sorted."""
        return sorted(plugin.name for plugin in self.found.values() if plugin.kind == kind)

    def provider_of_prefix(self, model: str) -> str | None:
        """Return the provider that claims the longest prefix of the bare model name, if one does."""
        claimed = [prefix for prefix in self.prefixes if model.startswith(prefix)]
        return self.prefixes[max(claimed, key=len)].partition(".")[2] if claimed else None

    def add_file(self, path: Path) -> list[str]:
        """Import the plugin file at `path` and return the ids of what it offers, named by `AFK_NAME` or its stem.

        Raises:
            PluginError: it cannot be read or imported, or is no plugin.
        """
        module = _import_file(path)
        _check_version(module, str(path))
        name = getattr(module, "AFK_NAME", path.stem)
        ids = []
        for kind in KINDS:
            if hasattr(module, f"afk_{kind}"):
                plugin = Plugin(id=f"{kind}.{name}", source=str(path), distribution=path.name, version="", file=path)
                self.found[plugin.id] = plugin
                self._modules[plugin.id] = module
                ids.append(plugin.id)
        if not ids:
            raise PluginError(f"{path} has no hook of afk (afk_provider, afk_store, afk_sink, afk_tools, afk_command)")
        return ids

    def load(self, kind: str, name: str) -> ModuleType:
        """Import the plugin `<kind>.<name>` and register it.

        Raises:
            UnknownNameError: it is not installed; the error says what to install.
            PluginError: it cannot be loaded, and why.
        """
        id_ = f"{kind}.{name}"
        if id_ in self.conflicts:
            raise PluginError(self.conflicts[id_])
        plugin = self.found.get(id_)
        if plugin is None:
            raise UnknownNameError(missing_line(kind, name, self.names(kind)))
        try:
            module = self._modules.get(id_) or import_module(plugin.source)
            _check_version(module, id_)
            if not self._hooks().is_registered(module):
                self._hooks().register(module, name=f"{id_}:{plugin.source}")
        except PluginError as error:
            self.failures[id_] = str(error)
            raise
        except Exception as error:  # whatever a plugin's module does when it is imported
            self.failures[id_] = f"{type(error).__name__}: {error}"
            raise PluginError(f"the plugin {id_} ({plugin.distribution}) cannot be loaded: {error}") from error
        self._modules[id_] = module
        return module

    def make(self, kind: str, name: str, table: Mapping[str, Any], secrets: Secrets) -> Any:
        """Return what the hook of the plugin `<kind>.<name>` makes, its settings filled from `table`.

        Raises:
            UnknownNameError, PluginError: as `load`; also for a hook that raises or returns nothing.
            AfkError: whatever the hook raises of afk's own errors (a missing key, a config error).
        """
        module = self.load(kind, name)
        others = [plugin for plugin in self._hooks().get_plugins() if plugin is not module]
        caller = self._hooks().subset_hook_caller(f"afk_{kind}", others)
        arguments = {}
        if kind != "command":
            factory = getattr(module, f"afk_{kind}", None)
            where = f"[{section(kind)}.{name}]"
            arguments["settings"] = fill_settings(inspect.unwrap(factory), table, where, secrets) if factory else None
        try:
            made = caller(**arguments)
        except AfkError:
            raise
        except Exception as error:  # whatever a plugin's hook does
            self.failures[f"{kind}.{name}"] = f"its hook raised {type(error).__name__}: {error}"
            raise PluginError(f"the plugin {kind}.{name} failed: {type(error).__name__}: {error}") from error
        if made is None:
            raise PluginError(f"the plugin {kind}.{name} has no hook afk_{kind}, or it returned nothing")
        return made

    def _hooks(self) -> pluggy.PluginManager:
        if self._manager is None:
            self._manager = pluggy.PluginManager("afk")
            self._manager.add_hookspecs(hookspecs)
        return self._manager


def section(kind: str) -> str:
    """Return the name of the config's tables for a kind: `providers`, `stores`, `sinks`, `tools`."""
    return kind if kind.endswith("s") else f"{kind}s"


def missing_line(kind: str, name: str, installed: Sequence[str]) -> str:
    """Return the line that says that a plugin is not there and what to do."""
    have = f"installed: {', '.join(installed)}" if installed else "none is installed"
    known = KNOWN.get(f"{kind}.{name}")
    what = "tool plugin" if kind == "tools" else kind
    if known is not None:
        return (
            f"the {what} {name!r} needs a plugin that is not installed; add it with: pip install {known.distribution}"
        )
    return f"there is no {what} {name!r} ({have})"


def discover() -> Plugins:
    """Read the entry points of all installed distributions; nothing is imported.

    Two distributions that claim one name or prefix: neither counts, both are named.
    """
    plugins = Plugins()
    claims: dict[tuple[str, str], dict[str, Plugin]] = {}
    for group in (GROUP, MODELS_GROUP):
        for point in importlib.metadata.entry_points(group=group):
            distribution = point.dist.name if point.dist else "?"
            version = point.dist.version if point.dist else ""
            plugin = Plugin(id=point.name, source=point.value, distribution=distribution, version=version)
            claims.setdefault((group, point.name), {})[distribution] = plugin
    for (group, name), by_distribution in claims.items():
        if len(by_distribution) > 1:
            what = "plugin name" if group == GROUP else "model prefix"
            both = " and ".join(sorted(by_distribution))
            plugins.conflicts[name] = f"the {what} {name!r} is claimed by {both}; uninstall one of them"
        elif group == GROUP:
            (plugins.found[name],) = by_distribution.values()
        else:
            (plugin,) = by_distribution.values()
            plugins.prefixes[name] = plugin.source
    return plugins


def foreign_afk_package() -> str | None:
    """Return the name of another distribution that also installs a package `afk`, if there is one."""
    owners = importlib.metadata.packages_distributions().get("afk", [])
    return next((owner for owner in owners if owner != "afkcli"), None)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnknownNameError(f"there is no plugin file {path}")
    spec = util.spec_from_file_location(f"afk_plugin_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does when it is imported
        raise PluginError(f"the plugin file {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _check_version(module: ModuleType, what: str) -> None:
    wanted = getattr(module, "AFK_HOOKS", None)
    if not isinstance(wanted, int):
        raise PluginError(f"the plugin {what} does not say which hook version it was written for (AFK_HOOKS = 1)")
    if wanted > hookspecs.HOOKS_VERSION:
        raise PluginError(
            f"the plugin {what} needs hook version {wanted}, this afk has {hookspecs.HOOKS_VERSION}; upgrade afkcli"
        )

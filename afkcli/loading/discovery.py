"""Finds plugins without importing them, and loads one when it is selected by name.

A plugin that fails to import, asks for a newer hook version or raises is named with its reason; the others are used.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from afkcli.core.contract.errors import AfkError, PluginContractError, PluginError, UnknownNameError
from afkcli.core.contract.structs import FrozenStruct, Struct, field
from afkcli.host.invocation import STDOUT_ASIDE, Invocation, process_environment
from afkcli.host.paths import config_file
from afkcli.host.permissions import MAX_OWN_BYTES, UnsafeFileError, read_file_once
from afkcli.host.secrets import Secrets
from afkcli.loading.checking import checked
from afkcli.loading.entry_points import Distribution, claims
from afkcli.loading.settings import Locate, fill_settings, settings_type

if TYPE_CHECKING:
    import pluggy

    from afkcli.loading.secret_sources import PendingCommand, SecretSources

_MARK = "afk_impl"
"""What pluggy's marker of the project `afk` sets on a function."""

GROUP = "afk"
MODELS_GROUP = "afk.models"
KINDS = ("provider", "store", "sink", "tools", "engine", "command")


class KnownPlugin(FrozenStruct, kw_only=True):
    """A plugin of ours that may not be installed: what to install, and the variables of its key and its server."""

    distribution: str
    key: str | None = None
    server: str | None = None


KNOWN: Mapping[str, KnownPlugin] = {
    "provider.openai": KnownPlugin(distribution="afk-provider-openai", key="OPENAI_API_KEY", server="OPENAI_BASE_URL"),
    "provider.anthropic": KnownPlugin(
        distribution="afk-provider-anthropic", key="ANTHROPIC_API_KEY", server="ANTHROPIC_BASE_URL"
    ),
    "provider.litellm": KnownPlugin(distribution="afk-provider-litellm"),
    "provider.local": KnownPlugin(distribution="afk-provider-local"),
    "engine.dbos": KnownPlugin(distribution="afk-engine-dbos"),
    "store.disk": KnownPlugin(distribution="afk-store-disk"),
    "store.postgres": KnownPlugin(distribution="afk-store-postgres"),
    "sink.jsonl": KnownPlugin(distribution="afk-sink-jsonl"),
    "sink.otel": KnownPlugin(distribution="afk-sink-otel"),
    "tools.files": KnownPlugin(distribution="afk-tools-files"),
    "tools.mcp": KnownPlugin(distribution="afk-tools-mcp"),
    "tools.shell": KnownPlugin(distribution="afk-tools-shell"),
}
"""In the order in which a key or a server that is given names the model of a bare run."""


class Plugin(FrozenStruct, kw_only=True):
    """An entry point, or a file: `id` is `<kind>.<name>`, `source` the module or path, `origin` who claims it.

    `data` are the bytes of the file that were run.
    """

    id: str
    source: str
    origin: Distribution
    file: Path | None = None
    data: bytes | None = None

    @property
    def distribution(self) -> str:
        """The name of the distribution, or of the file; the metadata is read when it is first asked for."""
        return self.origin.name

    @property
    def version(self) -> str:
        """The version of the distribution; "" for a file."""
        return self.origin.version

    @property
    def kind(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]


class Plugins(Struct):
    """All plugins that were found. `conflicts` and `failures` give the reason by id, `prefix_conflicts` by prefix.

    `secrets`, `terminal`, `stdin` and `runs_key_commands` are for keys that are not in the environment: what is masked,
    where a command asks for a passphrase, and whether commands may run.
    """

    found: dict[str, Plugin] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    prefix_conflicts: dict[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=process_environment)
    secrets: Secrets = field(default_factory=Secrets)
    terminal: str | None = None
    stdin: int | None = None
    runs_key_commands: bool = True
    _sources: SecretSources | None = None
    _modules: dict[str, ModuleType] = field(default_factory=dict)
    _manager: pluggy.PluginManager | None = None

    def names(self, kind: str) -> list[str]:
        """Return the names of the plugins of a kind, sorted."""
        return sorted(plugin.name for plugin in self.found.values() if plugin.kind == kind)

    def provider_of_prefix(self, model: str) -> str | None:
        """Return the provider that claims the longest prefix of the bare model name, if one does.

        Raises:
            UnknownNameError: two distributions claim that prefix, so neither has it.
        """
        claimed = [prefix for prefix in (*self.prefixes, *self.prefix_conflicts) if model.startswith(prefix)]
        prefix = max(claimed, key=len, default="")
        if prefix in self.prefix_conflicts:
            raise UnknownNameError(self.prefix_conflicts[prefix])
        return self.prefixes[prefix].partition(".")[2] if prefix else None

    def add_file(self, path: Path, data: bytes | None = None) -> list[str]:
        """Import the plugin file at `path` and return the ids of what it offers, named by `AFK_NAME` or its stem.

        It goes before an installed plugin of the same id, because it was named; two files with one id are an error.

        Args:
            path: the file.
            data: its bytes, if they were read already; what runs is these bytes. (Since: 0.2.)

        Raises:
            UnknownNameError: there is no such file.
            PluginError: it cannot be imported, or is not a plugin. A function that is named like a hook and has no
                `@hookimpl` is one, too.
        """
        data = _read_file(path) if data is None else data
        module = _import_file(path, data)
        _check_version(module, str(path))
        name = getattr(module, "AFK_NAME", path.stem)
        kinds = [kind for kind in KINDS if hasattr(module, f"afk_{kind}")]
        for kind in kinds:
            _check_mark(module, kind, str(path))
        ids = [f"{kind}.{name}" for kind in kinds]
        if not ids:
            hooks = ", ".join(f"afk_{kind}" for kind in KINDS)
            raise PluginError(f"{path} has no hook of afk ({hooks})")
        for id_ in ids:
            before = self.found.get(id_)
            if before is not None and before.file is not None and before.file.resolve() != path.resolve():
                raise PluginError(f"the plugin files {before.file} and {path} both offer {id_}; leave one out")
        for id_ in ids:
            origin = Distribution(name=path.name)
            self.found[id_] = Plugin(id=id_, source=str(path), origin=origin, file=path, data=data)
            self.conflicts.pop(id_, None)
            self._modules[id_] = module
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
            with _foreign_code(lambda: f"the plugin {id_} ({plugin.distribution}) cannot be loaded"):
                module = self._modules.get(id_) or import_module(_module_name(plugin.source))
                _check_version(module, id_)
                self._register(module, f"{id_}:{plugin.source}")
        except PluginError as error:
            self.failures[id_] = str(error)
            raise
        self._modules[id_] = module
        return module

    def check_hook(self, kind: str, name: str) -> None:
        """Load a plugin and check that its hook is there and marked; nothing is made.

        Raises:
            PluginContractError: there is no such hook.
            UnknownNameError, PluginError: as `load`.

        Since: 0.2.
        """
        _check_mark(self.load(kind, name), kind, f"{kind}.{name}")

    def settings_type(self, kind: str, name: str) -> type | None:
        """Return the dataclass of a plugin's settings, if it has one; raises as `load`, or `ConfigError`."""
        factory = getattr(self.load(kind, name), f"afk_{kind}", None)
        return settings_type(inspect.unwrap(factory)) if factory else None

    def make(
        self,
        kind: str,
        name: str,
        table: Mapping[str, Any],
        secrets: Secrets,
        context: Callable[[Any], Any] | None = None,
        locate: Locate = lambda *keys: "",
        defer: Callable[[PendingCommand], None] | None = None,
    ) -> Any:
        """Return what the hook of the plugin `<kind>.<name>` makes, its settings filled from `table`.

        `context` returns what a command's hook takes as `context`, from its settings; `locate` the file and line of a
        key of `table`; `defer` takes a command that has to run before a setting has its value.

        Raises:
            UnknownNameError, PluginError: as `load`; also for a hook that raises.
            PluginContractError: the hook is not there, its settings cannot be filled, or what it returned does not fit.
            AfkError: whatever the hook raises of afk's own errors (a missing key, a config error).
        """
        module = self.load(kind, name)
        others = [plugin for plugin in self._hooks().get_plugins() if plugin is not module]
        caller = self._hooks().subset_hook_caller(f"afk_{kind}", others)
        _check_mark(module, kind, f"{kind}.{name}")
        factory = inspect.unwrap(getattr(module, f"afk_{kind}"))
        try:
            where = f"[{section(kind)}.{name}]"
            settings = fill_settings(
                factory, table, where, secrets, self.environment, locate, self.secret_sources, defer
            )
        except PluginContractError as error:
            raise PluginContractError(f"the plugin {kind}.{name}: {error}") from None
        arguments = {"settings": settings}
        if kind == "command":
            arguments["context"] = context(settings) if context else None
        try:
            with _foreign_code(lambda: f"the plugin {kind}.{name} failed"):
                return checked(kind, f"{kind}.{name}", caller(**arguments))
        except PluginError as error:
            self.failures[f"{kind}.{name}"] = str(error)
            raise

    def secret_sources(self) -> SecretSources:
        """Return the keys file and the commands that print keys; both are looked at when a key is asked for."""
        if self._sources is None:
            from afkcli.loading.secret_sources import SecretSources

            self._sources = SecretSources(self.environment, self.secrets, self.terminal, self.stdin)
        self._sources.runs_commands = self.runs_key_commands
        return self._sources

    def stored_keys(self) -> Mapping[str, str]:
        """Return the keys of the keys file by name; `ConfigError` if there is one that cannot be used."""
        try:
            there = os.path.lexists(config_file(self.environment).with_name("keys.json"))
        except AfkError:  # no home folder
            return {}
        return self.secret_sources().keys() if there else {}

    def _register(self, module: ModuleType, name: str) -> None:
        if self._hooks().is_registered(module):
            return
        try:
            self._hooks().register(module, name=name)
        except BaseException:  # some versions of pluggy leave it half registered, and would accept it the next time
            if self._hooks().is_registered(module):
                with suppress(ValueError, AssertionError):
                    self._hooks().unregister(module)
            raise

    def _hooks(self) -> pluggy.PluginManager:
        if self._manager is None:
            import pluggy  # not at the top: discovery (for `afk --help`) does not need it

            from afkcli import hookspecs

            self._manager = pluggy.PluginManager("afk")
            self._manager.add_hookspecs(hookspecs)
        return self._manager


def section(kind: str) -> str:
    """Return the name of the config's tables for a kind: `providers`, `stores`, `sinks`, `tools`, `engines`."""
    return kind if kind.endswith("s") else f"{kind}s"


def missing_line(kind: str, name: str, installed: Sequence[str]) -> str:
    """Return the error for a plugin that is not installed, with the command that installs it."""
    if kind == "engine":
        installed = ("local", *installed)  # it is built in
    have = f"installed: {', '.join(installed)}" if installed else "none is installed"
    known = KNOWN.get(f"{kind}.{name}")
    what = "tool plugin" if kind == "tools" else kind
    if known is not None:
        how = f"afk plugins install {known.distribution}"
        return f"the {what} {name!r} needs a plugin that is not installed; add it with: {how}"
    from afkcli.core.contract.suggestions import near_names

    near = near_names(name, installed)
    return f"there is no {what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else f" ({have})")


def discover(invocation: Invocation | None = None) -> Plugins:
    """Read the entry points of all installed distributions; nothing is imported.

    Where two distributions claim one name or prefix, neither counts and both are named.

    Args:
        invocation: its environment fills the settings of plugins; the keys in it are added to its secrets.
    """
    invocation = invocation or Invocation.of_process()
    _know_keys(invocation)
    plugins = Plugins(
        environment=invocation.environment,
        secrets=invocation.secrets,
        terminal=invocation.terminal,
        stdin=invocation.stdin.descriptor,
    )
    for (group, name), points in claims((GROUP, MODELS_GROUP)).items():
        if len(points) > 1:
            what = "plugin name" if group == GROUP else "model prefix"
            both = " and ".join(sorted(point.distribution.name for point in points))
            conflicts = plugins.conflicts if group == GROUP else plugins.prefix_conflicts
            conflicts[name] = f"the {what} {name!r} is claimed by {both}; uninstall one of them"
        elif group == GROUP:
            plugins.found[name] = Plugin(id=name, source=points[0].value, origin=points[0].distribution)
        else:
            plugins.prefixes[name] = points[0].value
    return plugins


def _know_keys(invocation: Invocation) -> None:
    """Have the keys in the environment masked from here on: any plugin can name them in an error."""
    for plugin in KNOWN.values():
        invocation.secrets.add(invocation.environment.get(plugin.key) if plugin.key else None)
        invocation.secrets.add_address(invocation.environment.get(plugin.server) if plugin.server else None)


def foreign_afk_package() -> str | None:
    """Return the name of another distribution that also installs a package `afk`, if there is one."""
    from importlib.metadata import packages_distributions  # not at the top: it brings the email package

    owners = packages_distributions().get("afk", [])
    return next((owner for owner in owners if owner != "afkcli"), None)


@contextmanager
def _foreign_code(what: Callable[[], str]) -> Iterator[None]:
    """Run code of a plugin: what it prints goes to stderr, whatever it raises (`sys.exit` included) is a `PluginError`.

    afk's own errors go through as they are. `what` returns what failed.
    """
    try:
        with STDOUT_ASIDE:
            yield
    except (AfkError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{what()}: {type(error).__name__}: {error}") from error


def _module_name(source: str) -> str:
    """Return the module that an entry point names; a plugin is a whole module, so `module:object` is refused."""
    if not all(part.isidentifier() for part in source.split(".")):
        raise PluginError(f"its entry point {source!r} is not the name of a module")
    return source


def _import_file(path: Path, data: bytes) -> ModuleType:
    import hashlib

    from afkcli.loading.plugin_files import run_file

    if path.suffix != ".py":
        raise PluginError(f"the plugin file {path} is not a Python file; its name must end in .py")
    name = f"afk_plugin_file_{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]}"
    with _foreign_code(lambda: f"the plugin file {path} cannot be loaded"):
        return run_file(name, path, data)


def _read_file(path: Path) -> bytes:
    """Return the bytes of a plugin file that the user named; its mode does not matter."""
    try:
        return read_file_once(path, MAX_OWN_BYTES)[0]
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownNameError(f"there is no plugin file {path}") from None
    except UnsafeFileError as error:
        raise UnknownNameError(f"{path} cannot be used as a plugin file: {error}") from None
    except OSError as error:
        raise PluginError(f"the plugin file {path} cannot be read: {error.strerror}") from None


def _check_mark(module: ModuleType, kind: str, what: str) -> None:
    """Raise `PluginContractError` if the hook of a kind is missing in a module, or is not marked as one of afk's."""
    hook = getattr(module, f"afk_{kind}", None)
    if hook is not None and callable(hook) and getattr(hook, _MARK, None) is not None:
        return
    there = "" if hook is None else f": its afk_{kind} is not marked"
    raise PluginContractError(f"the plugin {what} has no @hookimpl afk_{kind}{there}")


def _check_version(module: ModuleType, what: str) -> None:
    from afkcli.hookspecs import HOOKS_VERSION

    wanted = getattr(module, "AFK_HOOKS", None)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise PluginError(f"the plugin {what} has no AFK_HOOKS; add AFK_HOOKS = 1, the version of the contract")
    if wanted > HOOKS_VERSION:
        raise PluginError(
            f"the plugin {what} needs hook version {wanted}, this afk has {HOOKS_VERSION}; upgrade afkcli"
        )

"""Makes a setup: reads the config, and finds the plugins without importing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from afkcli.config.merging import Config
from afkcli.config.reading import ConfigFile, load_user_config
from afkcli.core.contract.errors import AfkError, PluginContractError, PluginError, UnknownNameError
from afkcli.host.invocation import Invocation
from afkcli.host.paths import config_file
from afkcli.host.permissions import UnsafeFileError, read_own_file
from afkcli.loading.discovery import Plugins, discover
from afkcli.wiring.setup import Setup


def load_setup(
    invocation: Invocation | None = None,
    *,
    project: bool = False,
    plugin_files: Sequence[Path] = (),
    notify: Callable[[str], None] = lambda line: None,
) -> Setup:
    """Read the config and find the plugins.

    Args:
        invocation: whose environment, folder and secrets count; those of this process by default.
        project: whether the afk.toml at or above the working directory counts.
        plugin_files: plugin files that are used in addition.
        notify: takes one line for a person.

    Raises:
        ConfigError: a config file is malformed.
        UsageError: one of `plugin_files` cannot be used.
    """
    invocation = invocation or Invocation.of_process()
    user = load_user_config(config_file(invocation.environment))
    plugins = discover(invocation)
    project_file = _project(invocation, user, plugins, notify) if project else None
    config = Config(user=user, project=project_file)
    setup = Setup(config=config, plugins=plugins, notify=notify, invocation=invocation)
    if project_file is not None:
        _guard_imports(project_file)
    for path, data in setup.config.plugin_files().items():
        try:
            plugins.add_file(path, _own_plugin(path) if data is None else data)
        except AfkError as error:
            plugins.failures[str(path)] = str(error)
            notify(str(error))
    for path in plugin_files:
        setup.file_plugins += _named_file(plugins, path)
    return setup


def _named_file(plugins: Plugins, path: Path) -> list[str]:
    """Add a plugin file of the command line, and return the ids of what it offers.

    Raises:
        UsageError: it cannot be used, for whatever reason: no run is started.
    """
    try:
        return plugins.add_file(path)
    except PluginError as error:
        raise PluginContractError(str(error)) from error


def _own_plugin(path: Path) -> bytes:
    """Return the bytes of a plugin file of the user's config.

    Raises:
        UnknownNameError: there is no such file.
        PluginError: it cannot be read, or others can write it.
    """
    try:
        return read_own_file(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownNameError(f"there is no plugin file {path}") from None
    except UnsafeFileError as error:
        raise PluginError(f"the plugin file {path} is not used: {error}") from None
    except OSError as error:
        raise PluginError(f"the plugin file {path} cannot be read: {error.strerror}") from None


def _guard_imports(project: ConfigFile) -> None:
    """Have the plugin files of a trusted project import only what trust binds, and what is installed."""
    alone = Config(user=project)
    files = list(alone.plugin_files())
    if files:
        from afkcli.loading.plugin_files import PROJECT_IMPORTS

        modules = {path: data for path, data in alone.plugin_modules().items() if data is not None}
        PROJECT_IMPORTS.guard(project.path, modules, files)


def _project(
    invocation: Invocation, user: ConfigFile, plugins: Plugins, notify: Callable[[str], None]
) -> ConfigFile | None:
    from afkcli.config.project import find_project_file

    file = find_project_file(invocation.folder)
    if file is None:
        return None
    from afkcli.config.trust import inert_line, project_config, record_file
    from afkcli.wiring.models import configured_models  # not at the top: most folders have no afk.toml

    config = project_config(
        file, configured_models(invocation, user, plugins), user.table, record_file(invocation.environment)
    )
    if config.inert:
        notify(inert_line(config))
    if config.starts:
        _bind_starts(config)
    return config


def _bind_starts(project: ConfigFile) -> None:
    """Have the files of the programs that a trusted project starts checked before each start."""
    from afkcli.config.binding import starts_of
    from afkcli.host.bound_starts import BOUND_STARTS

    for key, start in starts_of(project.table).items():
        BOUND_STARTS.add(start, project.path, project.starts.get(key, {}))

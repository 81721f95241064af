"""Makes a setup: reads the config, and finds the plugins without importing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from afkcli.config.merging import Config
from afkcli.config.reading import ConfigFile, load_user_config
from afkcli.core.contract.errors import AfkError
from afkcli.host.invocation import Invocation
from afkcli.host.paths import config_file
from afkcli.loading.discovery import Plugins, discover
from afkcli.wiring.models import configured_models
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
        PluginError: a plugin file cannot be used.
    """
    invocation = invocation or Invocation.of_process()
    user = load_user_config(config_file(invocation.environment))
    plugins = discover(invocation)
    project_file = _project(invocation, user, plugins, notify) if project else None
    config = Config(user=user, project=project_file)
    setup = Setup(config=config, plugins=plugins, notify=notify, invocation=invocation)
    for path in setup.config.plugin_paths():
        try:
            plugins.add_file(path)
        except AfkError as error:
            plugins.failures[str(path)] = str(error)
            notify(str(error))
    for path in plugin_files:
        setup.file_plugins += plugins.add_file(path)
    return setup


def _project(
    invocation: Invocation, user: ConfigFile, plugins: Plugins, notify: Callable[[str], None]
) -> ConfigFile | None:
    from afkcli.config.trust import find_project_file, inert_line, project_config, record_file

    file = find_project_file(invocation.folder)
    if file is None:
        return None
    config = project_config(
        file, configured_models(invocation, user, plugins), user.table, record_file(invocation.environment)
    )
    if config.inert:
        notify(inert_line(config))
    return config

"""The settings of a plugin in its tests: filled and checked as afk does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def settings_for(hook: Callable[..., Any], table: Mapping[str, Any], where: str = "[settings]") -> Any:
    """Return the settings of a hook, filled from a config table and the environment; its secrets are masked.

    Args:
        hook: the function that is marked with `@hookimpl`.
        table: the table of the plugin in the config, as TOML gives it.
        where: the name of the table in an error.

    Raises:
        ConfigError: a key or a value is wrong.
        PluginContractError: a field has a type that afk cannot fill.

    Since: 0.2.
    """
    from inspect import unwrap

    from afkcli.host.secrets import SECRETS
    from afkcli.loading.settings import fill_settings

    return fill_settings(unwrap(hook), table, where, SECRETS)

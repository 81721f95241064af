"""`afk NAME` of a plugin: the command that its hook returns, and the context that the hook may take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import click

from afkcli.core.contract.errors import UnknownNameError
from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.protocols import Store
from afkcli.host.invocation import Invocation
from afkcli.loading.discovery import Plugins, discover
from afkcli.screen.messages import Messages
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.plugin_objects import open_store
from afkcli.wiring.setup import Setup


def plugin_command(invocation: Invocation, name: str) -> click.Command | None:
    """Return the command of the plugin `command.<name>`, or None where it is not installed.

    The config is read only for a hook that takes its settings or the context, so that all others work without it.

    Raises:
        UnknownNameError: two distributions claim the command, so neither has it.
        PluginError, ConfigError: the plugin, or the config that it needs, cannot be used.
    """
    plugins = discover(invocation)
    if f"command.{name}" in plugins.conflicts:
        raise UnknownNameError(plugins.conflicts[f"command.{name}"])
    if f"command.{name}" not in plugins.found:
        return None
    if not _takes_arguments(plugins, name):
        return cast("click.Command", plugins.make("command", name, {}, invocation.secrets))
    setup = load_setup(invocation, project=True, notify=Messages(invocation).say)
    table = setup.config.plugin_table("commands", name)
    made = setup.plugins.make(
        "command",
        name,
        table,
        invocation.secrets,
        lambda settings: Context(settings, setup),
        partial(setup.config.place, "commands", name),
    )
    return cast("click.Command", made)


def _takes_arguments(plugins: Plugins, name: str) -> bool:
    hook = getattr(plugins.load("command", name), "afk_command", None)
    return callable(hook) and bool(inspect.signature(inspect.unwrap(hook)).parameters)


@dataclass(frozen=True, slots=True)
class Context:
    """A `CommandContext`: the plugin's settings, the config and the store of the folder in which the command runs."""

    settings: Any
    _setup: Setup

    @property
    def config(self) -> Mapping[str, Json]:
        """The effective config by dotted key, as `afk config show` has it: secrets are masked."""
        from afkcli.commands.effective import effective

        return {value.key: value.value for value in effective(self._setup)}

    def open_store(self) -> Store:
        """Open the store that `afk run` uses in this folder; the caller closes it."""
        return open_store(self._setup)

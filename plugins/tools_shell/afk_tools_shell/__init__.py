"""Tool for afk: runs a program, without a shell and without keys, and leaves no process behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afk_tools_shell.settings import Settings
from afkcli.hookspecs import hookimpl

if TYPE_CHECKING:
    from afkcli.plugin import Tool

__all__ = ["AFK_HOOKS", "Settings", "afk_tools"]

AFK_HOOKS = 1


@hookimpl
def afk_tools(settings: Settings) -> Sequence[Tool]:
    """Return the tool `shell.run`.

    Raises:
        ConfigError: a setting is not usable.
        PluginError: this platform cannot keep afk's keys from a command, or has no process groups.
    """
    from afk_tools_shell.tools import make_tools

    return make_tools(settings)

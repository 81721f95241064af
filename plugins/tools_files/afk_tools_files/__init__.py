"""Tools for afk: list, read, search and, if granted, write text files inside declared folders only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from afk_tools_files.settings import Settings
from afkcli.hookspecs import hookimpl
from afkcli.plugin import PluginError

if TYPE_CHECKING:
    from afkcli.plugin import Tool

__all__ = ["AFK_HOOKS", "Settings", "afk_tools"]

AFK_HOOKS = 1


@hookimpl
def afk_tools(settings: Settings) -> Sequence[Tool]:
    """Return `files.list`, `files.read`, `files.search` and, if the settings grant it, `files.write`.

    Raises:
        ConfigError: there are no roots, or a setting is not usable.
        PluginError: the platform cannot open files relative to a folder.
    """
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):  # Windows; checked before the imports
        raise PluginError("tools.files needs Linux or macOS: this platform cannot open files relative to a folder")
    from afk_tools_files.tools import make_tools

    return make_tools(settings)

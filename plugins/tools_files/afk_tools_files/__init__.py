"""Tools for afk: list, read, search and, if granted, write text files inside declared folders only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from afkcli.hookspecs import hookimpl
from afkcli.plugin import PluginError

if TYPE_CHECKING:
    from afkcli.plugin import Tool

AFK_HOOKS = 1


@dataclass
class Settings:
    """`[tools.files]` in the user's config.

    Attributes:
        roots: the folders that the tools may use, and all below them: absolute, with `~`, or relative to the working
            directory of the run.
        write: whether there is a tool that writes.
        max_output_bytes: bytes of text that one call gives.
        max_lines: lines that one call gives.
        max_entries: entries of a folder that one call gives.
        max_hits: lines that one search gives.
        max_file_mb: a larger file is neither searched nor written, in megabytes (10^6 bytes).
        timeout_s: how long one call may take, in seconds.
    """

    roots: list[str] = field(default_factory=list)
    write: bool = False
    max_output_bytes: int = 60_000
    max_lines: int = 2000
    max_entries: int = 1000
    max_hits: int = 200
    max_file_mb: int = 10
    timeout_s: float = 10.0


@hookimpl
def afk_tools(settings: Settings) -> Sequence[Tool]:
    """Return `files.list`, `files.read`, `files.search` and, if the settings grant it, `files.write`.

    Raises:
        ConfigError: there are no roots, or a setting is not usable.
        PluginError: the platform cannot open files relative to a folder.
    """
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):  # Windows; asked before what needs them
        raise PluginError("tools.files needs Linux or macOS: this platform opens no files relative to a folder")
    from afk_tools_files.tools import make_tools

    return make_tools(settings)

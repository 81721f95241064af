"""Tool for afk: runs a program, without a shell and without keys, and leaves no process behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from afkcli.hookspecs import hookimpl

if TYPE_CHECKING:
    from afkcli.plugin import Tool

AFK_HOOKS = 1


@dataclass
class Settings:
    """`[tools.shell]` in the user's config.

    Attributes:
        cwd: the folder in which commands start; "" is that of the run, and a relative one is relative to it.
        timeout_s: how long a command may take, in seconds; a call may ask for less.
        max_output_bytes: how much of stdout, and of stderr, the model is given.
        env: variables of the commands, beside the few that are passed on; masked like keys.
    """

    cwd: str = ""
    timeout_s: float = 120.0
    max_output_bytes: int = 40_000
    env: dict[str, str] = field(default_factory=dict, metadata={"secret": True})


@hookimpl
def afk_tools(settings: Settings) -> Sequence[Tool]:
    """Return the tool `shell.run`.

    Raises:
        ConfigError: a setting is not usable.
        PluginError: this platform cannot keep afk's keys from a command, or has no process groups.
    """
    from afk_tools_shell.tools import make_tools

    return make_tools(settings)

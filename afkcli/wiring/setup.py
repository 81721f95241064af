"""The config and the plugins of this user on this machine, and what a run is made of by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from afkcli.config.merging import (
    Config,
)
from afkcli.host.invocation import Invocation
from afkcli.loading.discovery import Plugins


@dataclass(slots=True, kw_only=True)
class Setup:
    """The config and the plugins of this user on this machine.

    `notify` takes one line for a person.
    """

    config: Config
    plugins: Plugins
    notify: Callable[[str], None]
    invocation: Invocation
    file_plugins: list[str] = field(default_factory=list)

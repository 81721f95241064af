"""The config and the plugins of this user on this machine, and what a run is made of by them."""

from __future__ import annotations

from collections.abc import Callable

from afkcli.config.merging import (
    Config,
)
from afkcli.core.contract.structs import Struct, field
from afkcli.host.invocation import Invocation
from afkcli.loading.discovery import Plugins


class Setup(Struct, kw_only=True):
    """The config and the plugins of this user on this machine.

    `notify` takes one line for a person. `model_by_default` returns the model of a run that names none, if something
    other than a key or the demonstration decides that.
    """

    config: Config
    plugins: Plugins
    notify: Callable[[str], None]
    invocation: Invocation
    file_plugins: list[str] = field(default_factory=list)
    model_by_default: Callable[[], str | None] = lambda: None

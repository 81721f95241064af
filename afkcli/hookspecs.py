"""The plugin contract: read this page first when you write a plugin.

A plugin is one module with hook implementations, found by an entry point in the group `afk` whose name is
`<kind>.<name>`, for example `"provider.openai" = "afk_provider_openai"`. It is imported only when it is selected by
that name. A provider may also claim model prefixes in the group `afk.models`, for example
`"gpt-" = "provider.openai"`, so that `-m gpt-x` finds it.

    from dataclasses import dataclass, field
    from afkcli import hookimpl          # all other names: from afkcli.plugin

    AFK_HOOKS = 1                        # the version of this contract that the module was written for

    @dataclass
    class Settings:                      # filled from [sinks.NAME] in the user's config
        path: str = "events.txt"
        token: str = field(default="", metadata={"secret": True, "env": "MY_TOKEN"})

    @hookimpl
    def afk_sink(settings: Settings):    # the annotation tells afk which dataclass to fill
        return MySink(settings.path)

Hooks are synchronous and return objects. The protocols below say what the objects must do; afk checks each object
against its protocol, and names what is missing. A field of the settings may have `metadata`: `secret` (masked
everywhere), `env` (the environment variable that fills it, before the config).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from afkcli.core.contract.protocols import (
    Capabilities,
    CommandContext,
    Lease,
    ModelInfo,
    Owner,
    Price,
    PriceTier,
    Provider,
    Record,
    RecordKind,
    Sink,
    Store,
    ThreadInfo,
)

if TYPE_CHECKING:
    import click

    from afkcli.core.contract.engine import Engine
    from afkcli.core.contract.tools import Tool, Toolset

__all__ = [
    "HOOKS_VERSION",
    "Capabilities",
    "CommandContext",
    "Engine",
    "Lease",
    "ModelInfo",
    "Owner",
    "Price",
    "PriceTier",
    "Provider",
    "Record",
    "RecordKind",
    "Sink",
    "Store",
    "ThreadInfo",
    "afk_command",
    "afk_engine",
    "afk_provider",
    "afk_sink",
    "afk_store",
    "afk_tools",
    "hookimpl",
    "hookspec",
]

HOOKS_VERSION = 1
"""The version of this contract. A plugin whose `AFK_HOOKS` is greater is named and not used."""

hookspec = pluggy.HookspecMarker("afk")
hookimpl = pluggy.HookimplMarker("afk")


def __getattr__(name: str) -> Any:
    if name == "Engine":  # not at the top: only a batch has an engine
        from afkcli.core.contract.engine import Engine

        return Engine
    raise AttributeError(f"module 'afkcli.hookspecs' has no attribute {name!r}")


@hookspec(firstresult=True)
def afk_provider(settings: Any) -> Provider | None:
    """Return the model provider of the entry point `provider.<name>`.

    Called once for each event loop that a run needs it in, before the first request. Import an SDK here or in
    `Provider.prepare`, not at the top of the module: `afk plugins` and `afk doctor` import the module only.

    Args:
        settings: the dataclass of the annotation, filled from `[providers.<name>]` and the environment.

    Raises:
        MissingKeyError: no key was given; say which variable sets it.
    """


@hookspec(firstresult=True)
def afk_store(settings: Any) -> Store | None:
    """Return the store of the entry point `store.<name>`; called once, on the worker that calls the store from then on.

    Args:
        settings: the dataclass of the annotation, filled from `[stores.<name>]`.

    Raises:
        StoreError: the store cannot be opened.
    """


@hookspec(firstresult=True)
def afk_sink(settings: Any) -> Sink | None:
    """Return the event sink of the entry point `sink.<name>`; called once, before the first run.

    A sink whose log is in files of one JSON event a line (`event_to_json`) may also have `files() -> Sequence[Path]`:
    the existing files, oldest first; lines are only added to them. `afk events tail` reads the first sink that has it.
    With `remove_threads` (`afkcli.plugin.LogSink`), `afk threads rm --logs` takes lines out of them.

    Args:
        settings: the dataclass of the annotation, filled from `[sinks.<name>]`.
    """


@hookspec(firstresult=True)
def afk_tools(settings: Any) -> Sequence[Tool] | Toolset | None:
    """Return the tools of the entry point `tools.<name>`; an agent gets those that it names.

    Each is named `<name>.something`: the part before the point is the plugin's name. A `Toolset` has tools that are
    not known before a server was asked, and names its namespaces itself. Called once for each event loop in which an
    agent names one of them. A tool that changes nothing says so (`changes=False`); the approval rules of the config
    decide on all others.

    Args:
        settings: the dataclass of the annotation, filled from `[tools.<name>]`.
    """


@hookspec(firstresult=True)
def afk_engine(settings: Any) -> Engine | None:
    """Return the engine of the entry point `engine.<name>`, which keeps batches of prompts and shares them out.

    Called once in each process that works on a batch, for one event loop. Connect in the first call of a method, not
    here. `afkcli.core.contract.engine` says what an engine does. Since: 0.2.

    Args:
        settings: the dataclass of the annotation, filled from `[engines.<name>]` and the environment.

    Raises:
        EngineError: the engine cannot be used.
    """


@hookspec(firstresult=True)
def afk_command(settings: Any, context: CommandContext) -> click.Command | None:
    """Return the command of the entry point `command.<name>`; called when `afk <name>` is typed.

    Both parameters may be left out; the config is not read then.

    Args:
        settings: the dataclass of the annotation, filled from `[commands.<name>]` and the environment. Since: 0.2.
        context: the settings too, the config, and access to the store. Since: 0.2.
    """

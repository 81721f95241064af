"""afk runs language-model agents from the shell. The public names are imported when they are first used."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # for type checkers it is true; the module `typing` would be half of what `afk --version` imports
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

    from afkcli.core.contract.agent import Agent
    from afkcli.core.contract.context import ContextConfig
    from afkcli.core.contract.limits import FailSafeConfig
    from afkcli.core.contract.result import AgentResult
    from afkcli.core.contract.tool_output import Image
    from afkcli.core.contract.tools import ToolContext, ToolError, tool, tool_context
    from afkcli.core.run.config import RunnerConfig
    from afkcli.core.thread.memory_store import MemoryStore
    from afkcli.hookspecs import hookimpl
    from afkcli.version import __version__
    from afkcli.wiring.attachments import Attachment
    from afkcli.wiring.runner import Runner

__all__ = [
    "Agent",
    "AgentResult",
    "Attachment",
    "ContextConfig",
    "FailSafeConfig",
    "Image",
    "MemoryStore",
    "Runner",
    "RunnerConfig",
    "ToolContext",
    "ToolError",
    "__version__",
    "hookimpl",
    "tool",
    "tool_context",
]

_HOMES = {
    "Agent": "afkcli.core.contract.agent",
    "AgentResult": "afkcli.core.contract.result",
    "Attachment": "afkcli.wiring.attachments",
    "ContextConfig": "afkcli.core.contract.context",
    "FailSafeConfig": "afkcli.core.contract.limits",
    "Image": "afkcli.core.contract.tool_output",
    "MemoryStore": "afkcli.core.thread.memory_store",
    "Runner": "afkcli.wiring.runner",
    "RunnerConfig": "afkcli.core.run.config",
    "ToolContext": "afkcli.core.contract.tools",
    "ToolError": "afkcli.core.contract.tools",
    "__version__": "afkcli.version",
    "hookimpl": "afkcli.hookspecs",
    "tool": "afkcli.core.contract.tools",
    "tool_context": "afkcli.core.contract.tools",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'afkcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _OldModuleFinder:
    """Finds the modules of version 0.1 under their old names. All other finders are asked first."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not name.startswith("afkcli.") or name == "afkcli.core.contract.aliases":
            return None
        from afkcli.core.contract.aliases import find_old_module

        return find_old_module(name)


sys.meta_path.append(_OldModuleFinder())

"""The tools of plugins by name: `files.read`, or `files.*` for all of a namespace."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from collections.abc import Coroutine, Sequence
from fnmatch import fnmatchcase
from typing import Any

from afkcli.core.contract.errors import AfkError, ConfigError, PluginContractError, UnknownNameError, UsageError
from afkcli.core.contract.structs import Struct, field
from afkcli.core.contract.tasks import close_problem
from afkcli.core.contract.tools import FoundTools, Tool, ToolError, Toolset, as_tools
from afkcli.host.nondumpable import hide_memory
from afkcli.loading.discovery import KNOWN, missing_line
from afkcli.wiring.plugin_objects import make_tools
from afkcli.wiring.setup import Setup


class _Offered(Struct):
    """What the plugins of one event loop offer: tools and toolsets by the name of their plugin."""

    tools: dict[str, list[Tool]] = field(default_factory=dict)
    toolsets: dict[str, Toolset] = field(default_factory=dict)


class Toolbox:
    """Finds the tools that agents name. A plugin is loaded when a tool of it is named, once for each event loop."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._made: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Offered] = weakref.WeakKeyDictionary()

    def find(self, names: Sequence[str]) -> Coroutine[Any, Any, FoundTools]:
        """Return the lookup of the tools that fit `names`.

        Raises:
            UsageError: a name is invalid or unknown; raised before any server is asked.
            AfkError: a plugin cannot be loaded.
        """
        hide_memory()  # tools start processes, which must not read our keys; the plugin refuses if this fails
        if self._setup.invocation.owns_process:
            from afkcli.processes.strays import adopt_orphans

            adopt_orphans()
        offered = self._made.setdefault(asyncio.get_running_loop(), _Offered())
        known: list[Tool] = []
        asked: dict[str, set[str]] = {}
        for name in names:
            namespace, point, rest = name.partition(".")
            if not (namespace and point and rest):
                raise UnknownNameError(f"invalid tool name {name!r}; {self._how_to_write(name)}")
            plugin = self._plugin_of(namespace, offered)
            if plugin in offered.toolsets:
                asked.setdefault(plugin, set()).add(namespace)
                continue
            fitting = [tool for tool in offered.tools[plugin] if fnmatchcase(tool.name, name)]
            if not fitting:
                there = ", ".join(tool.name for tool in offered.tools[plugin]) or "none"
                raise UnknownNameError(f"there is no tool {name!r} (tools of {plugin}: {there})")
            known += fitting
        return self._found(names, known, [(offered.toolsets[plugin], sorted(asked[plugin])) for plugin in asked])

    def namespaces(self, plugin: str) -> Sequence[str]:
        """Return the namespaces of a plugin's tools, the part before the point in their names; raises as `find`."""
        offered = self._made.setdefault(asyncio.get_running_loop(), _Offered())
        self._make(plugin, offered)
        return offered.toolsets[plugin].namespaces if plugin in offered.toolsets else [plugin]

    async def _found(
        self, names: Sequence[str], known: list[Tool], asked: list[tuple[Toolset, list[str]]]
    ) -> FoundTools:
        found, problems, silent = {tool.name: tool for tool in known}, [], set()
        each = [(toolset, namespace) for toolset, namespaces in asked for namespace in namespaces]
        waiting = [_listed(toolset, namespace) for toolset, namespace in each]  # one failure does not cancel the others
        for (_, namespace), listed in zip(each, await asyncio.gather(*waiting), strict=True):
            if isinstance(listed, str):
                problems.append(listed)
                silent.add(namespace)
                continue
            tools = {tool.name: tool for tool in listed}
            found |= {name: tool for name, tool in tools.items() if any(fnmatchcase(name, item) for item in names)}
        problems += [
            f"there is no tool {name!r}; the run continues without it (see `afk tools`)"
            for name in names
            if name.partition(".")[0] not in silent and not any(fnmatchcase(tool, name) for tool in found)
        ]
        return [dataclasses.replace(tool, from_plugin=True) for tool in found.values()], problems

    def _how_to_write(self, name: str) -> str:
        """Return what to write in place of a name without a namespace or a tool."""
        namespace = name.strip(".*")
        if f"tools.{namespace}" in self._setup.plugins.found:
            return f"did you mean {namespace + '.*'!r}?"
        return "write namespace.tool, or namespace.* for all tools of a namespace; `afk tools` lists them"

    def _plugin_of(self, namespace: str, offered: _Offered) -> str:
        """Make and return the plugin with the tools of a namespace: the one of that name, else one that lists it."""
        setup = self._setup
        if f"tools.{namespace}" in (*setup.plugins.found, *setup.plugins.conflicts):
            self._make(namespace, offered)
            return namespace
        for plugin in setup.config.configured("tools"):
            self._make(plugin, offered)
            toolset = offered.toolsets.get(plugin)
            if toolset is not None and namespace in toolset.namespaces:
                return plugin
        if f"tools.{namespace}" in KNOWN:
            raise UnknownNameError(missing_line("tools", namespace, setup.plugins.names("tools")))
        others = [name for toolset in offered.toolsets.values() for name in toolset.namespaces]
        there = [*setup.plugins.names("tools"), *others]
        from afkcli.core.contract.suggestions import near_names

        near = near_names(namespace, there)
        hint = f"; did you mean {near[0] + '.*'!r}?" if near else f" (namespaces: {', '.join(there) or 'none'})"
        raise UnknownNameError(f"no plugin and no server has tools named {namespace + '.*'!r}{hint}")

    def _make(self, plugin: str, offered: _Offered) -> None:
        if plugin in offered.tools or plugin in offered.toolsets:
            return
        made: Any = make_tools(self._setup, plugin)
        if hasattr(made, "list_tools"):
            others = {name for name in self._setup.plugins.names("tools") if name != plugin}
            for name in others.intersection(made.namespaces):
                raise ConfigError(f"{name!r} is the name of a tool plugin; rename the server")
            offered.toolsets[plugin] = made
            return
        try:
            tools = [dataclasses.replace(tool, from_plugin=True) for tool in as_tools(made).values()]
        except UsageError as error:
            raise PluginContractError(f"the plugin tools.{plugin} has an unusable tool: {error}") from None
        strange = [tool.name for tool in tools if not tool.name.startswith(f"{plugin}.")]
        if strange:
            what = f"the plugin tools.{plugin} has a tool named {strange[0]!r}"
            raise PluginContractError(f"{what}; the names of its tools must begin with '{plugin}.'")
        offered.tools[plugin] = tools

    async def aclose(self) -> None:
        """Close what the running event loop has."""
        offered = self._made.pop(asyncio.get_running_loop(), _Offered())
        problems = await asyncio.gather(*(close_problem(toolset.aclose()) for toolset in offered.toolsets.values()))
        for name, problem in zip(offered.toolsets, problems, strict=True):
            if problem is not None:
                self._setup.notify(f"the tools of the plugin {name!r} {problem}")


async def _listed(toolset: Toolset, namespace: str) -> Sequence[Tool] | str:
    """Return the tools of a namespace of a toolset, or the line that says why there are none."""
    try:
        return await toolset.list_tools([namespace])
    except (ToolError, AfkError) as error:
        return f"{error}; the run continues without the tools of {namespace}"

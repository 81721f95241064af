"""Tools for afk from MCP servers: programs that are started and speak over stdio, and servers of streamable HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afk_tools_mcp.settings import ServerSettings, Settings
from afkcli.hookspecs import hookimpl

if TYPE_CHECKING:
    from afk_tools_mcp.toolset import McpToolset

__all__ = ["AFK_HOOKS", "ServerSettings", "Settings", "afk_tools"]

AFK_HOOKS = 1


@hookimpl
def afk_tools(settings: Settings) -> McpToolset:
    """Return the tools of all servers of the config; none is started before one of its tools is called or listed."""
    from afk_tools_mcp.toolset import McpToolset

    return McpToolset(settings.servers)

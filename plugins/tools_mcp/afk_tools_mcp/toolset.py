"""The tools of all servers: listed from copies on disk, called on servers that are started with the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from afk_tools_mcp.background import import_sdk, on_thread
from afk_tools_mcp.connection import Connection
from afk_tools_mcp.lists import ListedTool, ListFile
from afk_tools_mcp.results import Piece, result_pieces, text_of
from afk_tools_mcp.settings import ServerSettings
from afkcli.plugin import ConfigError, Image, JsonObject, Tool, ToolError, started, tool_context, waiting_for


class McpToolset:
    """The servers of the config, in one event loop; each is started once, and again if it has ended since."""

    def __init__(self, servers: Mapping[str, ServerSettings]) -> None:
        self._servers = {name: Server(name, settings) for name, settings in servers.items()}

    @property
    def namespaces(self) -> Sequence[str]:
        """The names of the servers."""
        return tuple(self._servers)

    async def list_tools(self, namespaces: Sequence[str]) -> Sequence[Tool]:
        """Return the tools of these servers; one whose list is kept is not started.

        Raises:
            ConfigError: a server's settings name a variable that is not set.
            ToolError: a server's tools cannot be listed, and why, or there is no such server.
        """
        for name in namespaces:
            if name not in self._servers:
                known = ", ".join(self._servers) or "none"
                raise ToolError(f"no MCP server is named {name!r} in [tools.mcp.servers] (servers: {known})")
        found = await asyncio.gather(*(self._servers[name].tools() for name in namespaces))
        return [tool for tools in found for tool in tools]

    async def aclose(self) -> None:
        """End all servers that were started, within a second."""
        await asyncio.gather(*(server.aclose() for server in self._servers.values()))


class Server:
    """One server of the config: its tools, and its connection while there is one."""

    def __init__(self, name: str, settings: ServerSettings) -> None:
        self.name, self.settings = name, settings
        self._file = ListFile(settings.list_key)
        self._connecting: asyncio.Task[Connection] | None = None
        self._connection: Connection | None = None
        self._live: dict[str, Tool] = {}
        self._warned: set[str] = set()

    async def tools(self) -> Sequence[Tool]:
        """Return its tools: as they were listed last, else as the server lists them now."""
        missing = self.settings.missing_variable()
        if missing is not None:
            key, variable = missing
            where = f"[tools.mcp.servers.{self.name}] {key}"
            raise ConfigError(f"{where} names the environment variable {variable}, which is not set")
        if not self._live:
            kept = await on_thread(self._file.read)
            if kept is not None:
                return [self._tool(listed) for listed in kept]
            await self._connected()
        return tuple(self._live.values())

    async def call(self, listed: ListedTool, fingerprint: str, arguments: JsonObject) -> str | list[Piece]:
        """Call one of its tools, as long as the server still describes it in the same way.

        Returns:
            The text of the result, or a list of texts and images where it has images.

        Raises:
            ToolError: the call failed, the server says so itself, or it changed the tool.
        """
        connection = await self._connected()
        live = self._live.get(listed.name)
        if live is None or live.fingerprint != fingerprint:
            what = "changed" if live is not None else "no longer has"
            raise ToolError(
                f"the MCP server {self.name!r} {what} the tool {listed.name!r} since its list was read, so it is not "
                "called; the next run has the new list"
            )
        try:
            async with asyncio.timeout(self.settings.timeout):
                result = await connection.call(listed.name, arguments)
        except TimeoutError:
            raise ToolError(
                f"the MCP server {self.name!r} did not answer within {self.settings.timeout:g} s{connection.last_words}"
            ) from None
        pieces = result_pieces(result, self.settings.max_output)
        if result.is_error:
            raise ToolError(text_of(pieces) or f"the MCP server {self.name!r} says that the call failed, and not why")
        return pieces if any(isinstance(piece, Image) for piece in pieces) else text_of(pieces)

    async def aclose(self) -> None:
        """End it, if it was started."""
        connecting, connection = self._connecting, self._connection
        self._connecting = self._connection = None
        if connecting is not None:
            connecting.cancel()
        if connection is not None:
            await connection.aclose()

    # -- the connection ------------------------------------------------------------------------------------------------

    async def _connected(self) -> Connection:
        """Return the connection, its list of tools read; parallel calls wait for the same one."""
        if self._connecting is None or (self._connecting.done() and not self._is_current()):
            self._connecting = started(self._connect())
        connecting = self._connecting
        await asyncio.wait({connecting})  # a call that is cancelled meanwhile does not take it from the others
        if connecting.cancelled():
            raise ToolError(f"the MCP server {self.name!r} was ended while it started")
        return connecting.result()

    def _is_current(self) -> bool:
        return self._connection is not None and self._connection.alive and not self._connection.list_changed

    async def _connect(self) -> Connection:
        """Start the server where it is not running, and read its list of tools."""
        with waiting_for(f"the MCP server {self.name!r} to start"):
            return await self._started()

    async def _started(self) -> Connection:
        await on_thread(import_sdk)
        connection = self._connection
        if connection is None or not connection.alive:
            if connection is not None:
                await connection.aclose()
            connection = self._connection = Connection(self.name, self.settings)
        try:
            async with asyncio.timeout(self.settings.start_timeout):
                await connection.opened()
                tools = await connection.list_tools()
        except BaseException as error:
            await connection.aclose()
            if not isinstance(error, TimeoutError):
                raise
            seconds = f"{self.settings.start_timeout:g} s"
            raise ToolError(
                f"the MCP server {self.name!r} did not start and list its tools within {seconds}{connection.last_words}"
            ) from None
        self._live = {listed.name: self._tool(listed) for listed in tools.tools}
        for line in (*tools.left_out, *self._unknown_read_only()):
            self._warn(line)
        await on_thread(lambda: self._file.write(tools.tools))
        return connection

    # -- its tools -----------------------------------------------------------------------------------------------------

    def _tool(self, listed: ListedTool) -> Tool:
        async def call(arguments: JsonObject) -> str | list[Piece]:
            return await self.call(listed, tool.fingerprint, arguments)

        tool = Tool(
            name=f"{self.name}.{listed.name}",
            description=listed.description,
            function=call,
            parameters=listed.parameters,
            pinned=True,
            changes=listed.name not in self.settings.read_only,
        )
        return tool

    def _unknown_read_only(self) -> list[str]:
        unknown = [name for name in self.settings.read_only if name not in self._live]
        return [f"`read_only` names the tool {name!r}, which the server does not have" for name in unknown]

    def _warn(self, line: str) -> None:
        """Raise a warning about the server, each only once."""
        if line not in self._warned:
            self._warned.add(line)
            tool_context().warn("mcp_server", f"the MCP server {self.name!r}: {line}")

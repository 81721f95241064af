"""One connection to a server: from its start, by the agreement on a protocol, to its end, whichever side ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from afk_tools_mcp.background import on_thread
from afk_tools_mcp.guard import Guard
from afk_tools_mcp.http import Status, http_streams, is_sse_server
from afk_tools_mcp.lists import MAX_LIST_BYTES, MAX_TOOLS, ToolList, usable_tools
from afk_tools_mcp.processes import ServerProcess, start_process
from afk_tools_mcp.settings import ServerSettings
from afk_tools_mcp.stdio import stdio_streams
from afkcli.plugin import JsonError, JsonObject, ToolError, dumps, mask_secrets, one_line, started

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.client._transport import TransportStreams
    from mcp.shared.dispatcher import CallOptions
    from mcp_types import CallToolResult

T = TypeVar("T")

LEAVE_SECONDS = 0.3
"""How long an HTTP server may take to say that the session is over."""

CLOSE_SECONDS = 0.9
"""How long the end of a connection is waited for: a little more than ending a process takes at most."""

MAX_PAGES = 200

MAX_ROUNDS = 10
"""How often a call is made again for a server that asks for it, as the SDKs have it."""

ROUND_SECONDS = 0.1
_WORDS = 300


class Connection:
    """A server that was started, or connected to. It lives in a task of its own, because the SDK's parts have to be
    left in the task that entered them.
    """

    def __init__(self, name: str, settings: ServerSettings) -> None:
        self.name = name
        self._settings = settings
        self._guard = Guard()
        self._status = Status()
        self._listed: list[tuple[str, str, Any]] = []
        self._listed_bytes = 0
        self._dropped: list[str] = []
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[ClientSession] = loop.create_future()
        self._broken: asyncio.Future[str] = loop.create_future()
        self._ended = asyncio.Event()
        self._why: str | ToolError = ""
        self._how = ""
        self._process: ServerProcess | None = None
        self._life = started(self._live())

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._life.done() and not self._ended.is_set()

    @property
    def list_changed(self) -> bool:
        """Whether the server said, since its tools were listed last, that they have changed."""
        return self._guard.list_changed

    async def opened(self) -> None:
        """Wait for the end of the handshake; `ToolError` if there is none."""
        ends: list[asyncio.Future[Any]] = [self._opened, self._life]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done() or self._opened.cancelled():
            await asyncio.wait({self._life}, timeout=CLOSE_SECONDS)
            raise self._ending()

    async def list_tools(self) -> ToolList:
        """Return the server's tools.

        A list that does not come to its end is kept as far as it was read, and the list says so.

        Raises:
            ToolError: there are too many, or the server cannot be asked.
        """
        from mcp_types import PaginatedRequestParams

        self._guard.list_changed = False
        self._listed, self._listed_bytes, self._dropped = [], 0, []
        session = self._opened.result()
        cursors: set[str] = set()
        names: set[str] = set()
        cursor: str | None = None
        problem = ""
        while True:
            before = len(self._listed)
            page = await self._answer(session.list_tools(params=PaginatedRequestParams(cursor=cursor)))
            self._drop(before, {tool.name for tool in page.tools})
            new = {name for name, _, _ in self._listed[before:]} - names
            if cursors and not new:
                del self._listed[before:]
            names |= new
            asked, cursor = cursor, page.next_cursor
            if cursor is None:
                break
            problem = _no_progress(cursor, cursors, bool(new))
            if problem:
                # An empty cursor is one since the protocol of 2026-07-28; older servers end with it.
                problem = "" if asked == cursor == "" else problem
                break
            cursors.add(cursor)
        listed = self._listed
        if problem and not listed:
            raise ToolError(f"the MCP server {self.name!r} lists no tools, and {problem}")
        found = await on_thread(lambda: usable_tools(listed))
        return replace(found, left_out=[*found.left_out, *self._dropped, *([problem] if problem else [])])

    def _drop(self, first: int, kept: set[str]) -> None:
        """Leave out the tools of a page, from the one listed as number `first` on, that the SDK did not keep: those
        with annotations for headers that the protocol forbids."""
        page = self._listed[first:]
        dropped = [name for name, _, schema in page if schema is not None and name not in kept]
        self._listed[first:] = [tool for tool in page if tool[0] not in dropped]
        self._dropped += [f"the tool {name[:128]!r} is left out: its x-mcp-header is not valid" for name in dropped]

    async def call(self, tool: str, arguments: JsonObject) -> CallToolResult:
        """Return what a tool of the server answers, its `isError` included.

        Raises:
            ToolError: it did not answer, or not in the form of the protocol, and why.
        """
        from mcp_types import CallToolResult

        session = self._opened.result()
        state: str | None = None
        for _ in range(MAX_ROUNDS):
            asking = session.call_tool(tool, arguments, allow_input_required=True, request_state=state)
            result = await self._answer(asking)
            if isinstance(result, CallToolResult):
                return result
            if result.input_requests:
                raise ToolError(
                    f"the MCP server {self.name!r} asks for more input in the middle of a call; afk gives none"
                )
            state = result.request_state  # it asks for nothing but the same call again
            await asyncio.sleep(ROUND_SECONDS)
        raise ToolError(f"the MCP server {self.name!r} asks for the same call again more than {MAX_ROUNDS} times")

    async def aclose(self) -> None:
        """End the connection and what was started for it; takes less than a second."""
        self._ended.set()
        await asyncio.wait({self._life}, timeout=LEAVE_SECONDS if self._process is None else CLOSE_SECONDS)
        if not self._life.done():
            self._life.cancel()
            await asyncio.wait({self._life}, timeout=CLOSE_SECONDS - LEAVE_SECONDS)

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _answer(self, request: Coroutine[Any, Any, T]) -> T:
        """Return what a request brings, or raise `ToolError` where it fails, or the connection ends before.

        The request is a task of its own, so that one who gives up is not held up by telling the server of it.
        """
        asking, broken = started(request), self._broken
        try:
            ends: list[asyncio.Future[Any]] = [asking, broken, self._life]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return await self._outcome(asking)
            if broken.done():
                raise ToolError(f"the call to the MCP server {self.name!r} failed: {broken.result()}")
            raise self._ending()
        finally:
            asking.cancel()

    async def _outcome(self, asked: asyncio.Task[T]) -> T:
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED
        from pydantic import ValidationError

        try:
            return asked.result()
        except ToolError:
            raise
        except MCPError as error:
            if error.code == CONNECTION_CLOSED and await self._is_ending():
                raise self._ending() from None
            if self._status.gone:  # the session is over; the next call begins a new one
                self._ended.set()
            if (refusal := self._refusal()) is not None:
                raise refusal from None
            said = f"{error.message} ({self._status.said})" if self._status.said else error.message
            raise ToolError(f"the MCP server {self.name!r} refused: {_line(said)}") from None
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ToolError(
                f"the MCP server {self.name!r} answered in no form of the protocol: {_line(what)}"
            ) from None
        except Exception as error:
            raise ToolError(f"the call to the MCP server {self.name!r} failed: {_cause(error)}") from None

    async def _is_ending(self) -> bool:
        """Whether the connection is over, or was on its way there and is now."""
        await asyncio.wait({self._life}, timeout=LEAVE_SECONDS if self._process is None else CLOSE_SECONDS)
        return not self.alive

    def interrupt(self, why: str) -> None:
        """Let all requests that wait fail: an answer came that cannot be told to be that of one of them."""
        if not self._broken.done():
            self._broken.set_result(why)
            self._broken = asyncio.get_running_loop().create_future()
        if not self._opened.done():  # it was the answer to the handshake
            self._why = self._why or why
            self._life.cancel()

    # -- its life ------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        from mcp import ClientSession
        from mcp_types import Implementation

        try:
            async with self._streams() as (reader, writer):
                dispatcher = _dispatcher(reader, writer, self._take_page)
                about = Implementation(name="afk", version="1")
                async with ClientSession(dispatcher=dispatcher, client_info=about) as session:
                    await self._agree(session)
                    self._opened.set_result(session)
                    await self._ended.wait()
        except Exception as error:
            if not self._ended.is_set():
                self._why = _cause(error)
        finally:
            self._ended.set()
            if not self._opened.done():
                self._opened.cancel()

    async def _agree(self, session: ClientSession) -> None:
        """Agree on a version of the protocol, whichever era of it the server speaks.

        A program is asked for the handshake first: some of the older ones end at anything else. An HTTP server is asked
        for `server/discover` first, as the protocol of 2026-07-28 has it, because one that knows that protocol alone
        may answer the handshake in any way.
        """
        from mcp.shared.exceptions import MCPError

        first, second = session.initialize, session.discover
        if self._settings.url:
            first, second = session.discover, session.initialize  # type: ignore[assignment]
        try:
            await first()
        except (MCPError, RuntimeError, ValueError) as error:
            if (refusal := self._refusal()) is not None:
                raise refusal from None
            try:
                await second()
            except (MCPError, RuntimeError, ValueError) as other:
                if (refusal := self._refusal()) is not None:
                    raise refusal from None
                if self._settings.url and await is_sse_server(self._settings):
                    raise ToolError(self._old_transport()) from None
                raise (other if self._settings.url else error) from None

    def _refusal(self) -> ToolError | None:
        """Return the error of an HTTP server that another try would not change, None for any other."""
        redirect = self._status.redirect
        if redirect is not None:
            step = f'set url = "{redirect.target}" in [tools.mcp.servers.{self.name}] if you mean that server'
            what = f"the MCP server {self.name!r} {redirect.what}"
            return ToolError(_line(f"{what}; {step}" if redirect.target else what))
        return self._wants_key() if self._status.wants_key else None

    def _wants_key(self) -> ToolError:
        """Return the error that tells what to set for a server that asks for authorization."""
        what = f"the MCP server {self.name!r} at {self._settings.url}"
        where = f"`headers` in [tools.mcp.servers.{self.name}]"
        given = any(name.lower() == "authorization" for name in self._settings.headers)
        if given:
            step = f"check the Authorization header under {where}"
        else:
            step = (
                f'set its token: headers = {{ Authorization = "Bearer ${{NAME}}" }} in [tools.mcp.servers.{self.name}]'
            )
        return ToolError(f"{what} asks for authorization ({self._status.said}); {step}. afk does not support OAuth yet")

    def _old_transport(self) -> str:
        return (
            f"the MCP server {self.name!r} at {self._settings.url} speaks the older transport HTTP with SSE (protocol "
            "2024-11-05), and afk speaks streamable HTTP: give the server's address for that, often one that ends with "
            "/mcp, or start a bridge as `command`"
        )

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[TransportStreams]:
        if self._settings.url:
            async with http_streams(self._settings, self._guard, self._status) as streams:
                yield streams
            return
        self._process = await start_process(self.name, self._settings)
        try:
            async with stdio_streams(self._process, self._guard, self._lost, self.interrupt) as streams:
                yield streams
        finally:
            await self._process.end()

    def _lost(self, why: str) -> None:
        """Be told that the program's output is at its end: because it ended, or because `why`."""
        if not self._ended.is_set() and self._process is not None:
            self._why, self._how = why, self._process.ending or "it closed its stdout"
            self._ended.set()

    def _take_page(self, page: JsonObject) -> None:
        """Take the tools of one page of the list, as the server sent them, and leave the SDK what it has a use for."""
        tools = page.get("tools")
        if not isinstance(tools, list):
            return
        kept = []
        for tool in tools:
            described, size = _described(tool)
            self._listed_bytes += size
            name = described["name"] if described else str(tool.get("name") if isinstance(tool, dict) else tool)[:128]
            self._listed.append((name, described.get("description", ""), described.get("inputSchema")))
            kept += [{**described, "inputSchema": _for_sdk(described["inputSchema"])}] if described else []
        page["tools"] = kept
        if len(self._listed) > MAX_TOOLS or self._listed_bytes > MAX_LIST_BYTES:
            most = f"{MAX_TOOLS} tools and {MAX_LIST_BYTES // 1024 // 1024} MB"
            raise ToolError(f"the MCP server {self.name!r} lists more tools than afk takes, {most} at most")

    def _ending(self) -> ToolError:
        """Return the error that tells how the connection came to its end."""
        if isinstance(self._why, ToolError):
            return self._why
        what = f"the MCP server {self.name!r}"
        if self._process is None:
            why = " ".join(filter(None, [self._why or "it was closed", self._status.said and f"({self._status.said})"]))
            return ToolError(f"the connection to {what} at {self._settings.url} failed: {_line(why)}")
        how = f"was ended: {_line(self._why)}" if self._why else f"ended ({self._how or 'by afk'})"
        return ToolError(f"{what} {how}{self.last_words}")

    @property
    def last_words(self) -> str:
        """What its program said last on stderr, to be put behind an error."""
        lines = self._process.last_words.splitlines() if self._process is not None else []
        return f"; its stderr ends with: {_line(lines[-1])}" if lines else ""


def _no_progress(cursor: str, seen: set[str], has_new: bool) -> str:
    """Return why the next page of a list is not asked for, "" if it is."""
    if cursor in seen or (seen and not has_new):
        return "its list of tools does not come to an end: the same page comes again; what it listed before is kept"
    if len(seen) + 1 >= MAX_PAGES:
        return f"its list of tools has more than {MAX_PAGES} pages; what it listed on these is kept"
    return ""


def _dispatcher(reader: Any, writer: Any, take_page: Callable[[JsonObject], None]) -> Any:
    """Return the SDK's dispatcher, which shows `take_page` each page of the list of tools before the SDK checks it:
    the SDK refuses a list as a whole for one tool that is described wrongly, and fails calls whose results do not fit
    a schema that is not needed here.
    """
    from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

    class Dispatcher(JSONRPCDispatcher):
        async def send_raw_request(
            self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None, **others: Any
        ) -> dict[str, Any]:
            result = await super().send_raw_request(method, params, opts, **others)
            if method == "tools/list":
                take_page(result)
            return result

    return Dispatcher(reader, writer)


def _described(tool: Any) -> tuple[JsonObject, int]:
    """Return the name, description and schema of a tool as a server sent it, and their length as JSON; nothing of one
    that is not described as the protocol asks.

    A tool without a schema takes no arguments, and `null` says no more than nothing.
    """
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        return {}, 0
    schema = tool.get("inputSchema")
    if schema is None or schema is True:
        schema = {}
    if not isinstance(schema, dict) or schema.get("type") not in ("object", None, ["object"], ["object", "null"]):
        return {}, 0
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    description = str(tool.get("description") or tool.get("title") or "")
    described = {"name": tool["name"], "description": description, "inputSchema": schema}
    try:
        return described, len(dumps(described))
    except JsonError:
        return {}, 0


_SDK_KINDS: Mapping[str, type] = {"properties": dict, "required": list, "$defs": dict, "$schema": str}


def _for_sdk(schema: JsonObject) -> JsonObject:
    """Return a schema without what the SDK would refuse the whole list for; it looks for headers in it, no more."""
    return {name: value for name, value in schema.items() if isinstance(value, _SDK_KINDS.get(name, object))}


def _cause(error: BaseException) -> str | ToolError:
    """Return the first cause of an error, on one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, ToolError) else _line(str(error) or type(error).__name__)


def _line(text: str) -> str:
    """Return words of a server as one line of a bounded length, without what is secret."""
    with contextlib.suppress(Exception):
        text = mask_secrets(text)
    line = one_line(text[: 4 * _WORDS])
    return line if len(line) <= _WORDS else f"{line[:_WORDS]}..."

"""A server's process, below a supervisor that ends it and all of its children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from afk_tools_mcp.background import on_thread
from afk_tools_mcp.settings import ServerSettings
from afkcli.plugin import (
    PIPE,
    ConfigError,
    Sandbox,
    SandboxError,
    Start,
    SupervisedProcess,
    ToolError,
    expand_user,
    hide_memory,
    make_sandbox,
    start_environment,
    start_problem,
)

READ_BYTES = 64 * 1024
STDERR_TAIL = 4 * 1024
"""How much of what a server says on stderr is kept, for the line that tells how it ended."""

POLITE_SECONDS = 0.2
"""How long a server may take to end: once after its stdin was closed, once more after SIGTERM. Then it is killed."""

_FLOOD_PAUSE = 0.01


class ServerProcess:
    """One running program. `exited` is set when it has ended, whether or not a child of it holds its pipes open."""

    def __init__(self, process: SupervisedProcess) -> None:
        assert process.stdin is not None
        self.stdin, self.stdout = process.stdin, process.stdout
        self.exited = process.ended
        self._process = process
        self._tail = bytearray()
        self._listening = asyncio.ensure_future(self._listen(process.stderr))

    @property
    def last_words(self) -> str:
        """The last lines that it said on stderr."""
        return self._tail.decode("utf-8", "replace").strip()

    @property
    def ending(self) -> str:
        """How it ended, in words; "" while it runs."""
        code = self._process.exit_code
        if code is None:
            return "how is unknown" if self.exited.is_set() else ""
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Keep the end of stderr; one who talks without end is slowed down, not stored."""
        while chunk := await stderr.read(READ_BYTES):
            self._tail += chunk
            del self._tail[:-STDERR_TAIL]
            if len(chunk) >= READ_BYTES // 2:
                await asyncio.sleep(_FLOOD_PAUSE)

    async def end(self) -> None:
        """End it and its children: ask by closing stdin, then by SIGTERM, then kill what is left."""
        try:
            self.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), POLITE_SECONDS)
            await self._process.stop(0 if self.exited.is_set() else POLITE_SECONDS)
        finally:  # also where the wait was cancelled
            self._listening.cancel()
            await self._process.aclose()


async def start_process(name: str, settings: ServerSettings) -> ServerProcess:
    """Start a server's program, in a session and a process group of its own.

    Raises:
        ToolError: there is no such program or folder, or it cannot be run.
    """
    if os.name == "nt":
        raise ToolError(f"the MCP server {name!r} is not started: on Windows afk uses MCP servers by `url` only")
    if not hide_memory():
        raise ToolError(f"the MCP server {name!r} is not started: the system does not let afk hide its keys from it")
    environment = settings.environment()
    try:
        folder = settings.folder()
        program = _program(name, settings.command, environment, folder)
    except ConfigError as error:
        raise ToolError(f"the MCP server {name!r} cannot be started: {error}") from None
    start = Start(command=settings.command, args=settings.args, env=settings.env, cwd=settings.cwd)
    problem = await on_thread(lambda: start_problem(start, program, folder))
    if problem is not None:
        raise ToolError(f"the MCP server {name!r} is not started: {problem}")
    environment |= start_environment(start)
    try:
        process = await SupervisedProcess.start(
            [program, *settings.args],
            folder=None if folder is None else str(folder),
            environment=environment,
            stdin=PIPE,
            sandbox=_sandbox(settings, folder),
        )
    except SandboxError as error:
        why = f"{error}; or remove `sandbox` from [tools.mcp.servers.{name}] to run it with all your rights"
        raise ToolError(f"the MCP server {name!r} is not started: {why}") from None
    except (OSError, ValueError) as error:
        raise ToolError(f"the MCP server {name!r} cannot be started: {error}") from None
    return ServerProcess(process)


def _sandbox(settings: ServerSettings, folder: Path | None) -> Sandbox | None:
    return make_sandbox(
        settings.sandbox,
        workspace=str(folder or Path.cwd()),
        writable=settings.writable,
        hidden=settings.hidden,
        network=settings.network,
    )


def _program(name: str, command: str, environment: dict[str, str], folder: Path | None) -> str:
    if folder is not None and not folder.is_dir():
        raise ToolError(f"the MCP server {name!r} cannot be started: its `cwd` {str(folder)!r} is not a folder")
    path = expand_user(command, f"[tools.mcp.servers.{name}] command")
    if len(path.parts) > 1:
        found = shutil.which(path if path.is_absolute() or folder is None else folder / path)
    else:
        found = shutil.which(command, path=environment.get("PATH"))
    if found is None:
        where = f"[tools.mcp.servers.{name}] command"
        raise ToolError(f"the MCP server {name!r} cannot be started: there is no program {command!r}; see {where}")
    return str(found)

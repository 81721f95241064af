"""A server's process: started in a session of its own, and ended with all of its children."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from pathlib import Path

from afk_tools_mcp.settings import ServerSettings
from afkcli.plugin import ToolError, hide_memory

READ_BYTES = 64 * 1024
STDERR_TAIL = 4 * 1024
"""How much of what a server says on stderr is kept, for the line that tells how it ended."""

POLITE_SECONDS = 0.2
"""How long a server may take to end: once after its stdin was closed, once more after SIGTERM. Then it is killed."""

_FLOOD_PAUSE = 0.01
_KILLED_CHECKS = 20


class ServerProcess:
    """One running program. `exited` is set when it has ended, whether or not a child of it holds its pipes open."""

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport, exited: asyncio.Event) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin, self.stdout = process.stdin, process.stdout
        self.exited = exited
        self._process, self._transport = process, transport
        self._tail = bytearray()
        self._listening = asyncio.ensure_future(self._listen(process.stderr))

    @property
    def last_words(self) -> str:
        """The last lines that it said on stderr."""
        return self._tail.decode("utf-8", "replace").strip()

    @property
    def ending(self) -> str:
        """How it ended, in words; "" while it runs."""
        code = self._process.returncode
        if code is None:
            return ""
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
        """End it and its children: ask by closing stdin, then by SIGTERM, then kill what is left. At most 0.6 s."""
        family = _Family(self._process.pid)
        try:
            self.stdin.close()
            if not await self._ended_within(POLITE_SECONDS):
                family.signal(signal.SIGTERM)
                await self._ended_within(POLITE_SECONDS)
        finally:  # also where the wait was cancelled
            family.kill()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._ended_within(POLITE_SECONDS / 2)
        await family.end()
        self._listening.cancel()
        self._transport.close()  # a process that could not be killed would hold the pipes

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), seconds)
        return self.exited.is_set()


class _LateEnds(logging.Filter):
    """Drops what asyncio logs of a process that ends when nothing waits for it any more.

    The thread that waits for a process in asyncio may see its end after the event loop was closed, or when somebody
    else has waited for it. Both are ends that afk has seen to, and neither belongs on stderr.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(("Loop %r that handles pid", "Unknown child process pid"))


_LATE_ENDS = _LateEnds()


async def start_process(name: str, settings: ServerSettings) -> ServerProcess:
    """Start a server's program, in a session and a process group of its own.

    Raises:
        ToolError: there is no such program or folder, or it cannot be run.
    """
    if not hide_memory():
        raise ToolError(f"the MCP server {name!r} is not started: the system does not let afk hide its keys from it")
    environment = settings.environment()
    folder = settings.folder()
    if folder is not None and not folder.is_dir():
        raise ToolError(f"the MCP server {name!r} cannot be started: its `cwd` {str(folder)!r} is not a folder")
    program = _program(name, settings.command, environment, folder)
    exited = asyncio.Event()
    loop = asyncio.get_running_loop()
    logging.getLogger("asyncio").addFilter(_LATE_ENDS)
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(exited, loop),
            program,
            *settings.args,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"the MCP server {name!r} cannot be started: {error}") from None
    return ServerProcess(Process(transport, protocol, loop), transport, exited)


def _program(name: str, command: str, environment: dict[str, str], folder: Path | None) -> str:
    path = Path(command).expanduser()
    if len(path.parts) > 1:
        found = shutil.which(path if path.is_absolute() or folder is None else folder / path)
    else:
        found = shutil.which(command, path=environment.get("PATH"))
    if found is None:
        where = f"[tools.mcp.servers.{name}] command"
        raise ToolError(f"the MCP server {name!r} cannot be started: there is no program {command!r}; see {where}")
    return str(found)


class _Protocol(SubprocessStreamProtocol):
    """Tells when the program itself has ended; `Process.wait` waits for its pipes too, which a child may hold open."""

    def __init__(self, exited: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=READ_BYTES, loop=loop)
        self._exited = exited

    def process_exited(self) -> None:
        self._exited.set()
        super().process_exited()


class _Family:
    """A process and those that come from it: its group, its session, and its descendants wherever they went."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._known = _relatives(pid)  # now: a child that left the session cannot be told when its parent has ended

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        if os.name == "nt":
            return
        self._known |= _relatives(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self._known:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill all of them that are left."""
        if os.name != "nt":
            self.signal(signal.SIGKILL)

    async def end(self) -> None:
        """Wait for the end of those that were killed, which takes them a moment."""
        for _ in range(_KILLED_CHECKS):
            if not any(map(_runs, self._known)):
                return
            await asyncio.sleep(POLITE_SECONDS / 2 / _KILLED_CHECKS)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended, and whose parent does not want to know, does not."""
    try:
        return _stat(Path(f"/proc/{pid}/stat"))[0] != b"Z"
    except (OSError, IndexError):
        return False


def _stat(file: Path) -> list[bytes]:
    """Return the fields of a process behind its name: state, parent, group, session ... (proc(5))."""
    return file.read_bytes().rpartition(b")")[2].split()


def _relatives(pid: int) -> set[int]:
    """Return the processes of the session that `pid` leads, and its descendants, without itself; Linux alone tells."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _stat(file)
            child = int(file.parent.name)
            parents[child] = int(fields[1])
            if int(fields[3]) == pid:
                found.add(child)
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent == pid or parent in found} - found
        found |= more
        grown = bool(more)
    return found - {pid, os.getpid()}

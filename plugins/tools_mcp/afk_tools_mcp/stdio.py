"""The messages of a server that is a program: one JSON text a line, on its stdin and stdout.

The SDK has such a transport. This one differs in what a bad server can do to it: a line has a longest length, what
floods is cut off, and the end of the program is seen even where a child of it holds its pipes open.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from afk_tools_mcp.guard import MAX_MESSAGE_BYTES, MAX_VALUES, FloodError, Guard, Weight
from afk_tools_mcp.processes import READ_BYTES, ServerProcess
from afkcli.plugin import JsonError, loads_object

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCMessage

LAST_OUTPUT_SECONDS = 0.1
"""How long what a program said before it ended may take to arrive."""

WAITING_MESSAGES = 64
"""Messages to a server that does not read them; the next one waits."""


class BadMessageError(Exception):
    """A server sent an answer that cannot be read; the message says why."""


@asynccontextmanager
async def stdio_streams(
    process: ServerProcess, guard: Guard, ended: Callable[[str], None], broken: Callable[[str], None]
) -> AsyncIterator[TransportStreams]:
    """Yield the SDK's streams of the messages of a process.

    Args:
        ended: called when nothing will come any more, with the reason if that is not the end of the process.
        broken: called with the reason why an answer could not be read; its request is unknown.
    """
    import anyio

    to_sdk, incoming = anyio.create_memory_object_stream["SessionMessage | Exception"](0)
    outgoing, from_sdk = anyio.create_memory_object_stream["SessionMessage"](WAITING_MESSAGES)
    tasks = [
        asyncio.ensure_future(_read(process, guard, to_sdk, ended, broken)),
        asyncio.ensure_future(_write(process, guard, from_sdk)),
    ]
    try:
        yield incoming, outgoing
    finally:
        for task in tasks:
            task.cancel()
        for stream in (to_sdk, incoming, outgoing, from_sdk):
            stream.close()


async def _read(
    process: ServerProcess,
    guard: Guard,
    to_sdk: MemoryObjectSendStream[SessionMessage | Exception],
    ended: Callable[[str], None],
    broken: Callable[[str], None],
) -> None:
    import anyio
    from mcp.shared.message import SessionMessage

    why = ""
    try:
        async for line in _lines(process, guard, broken):
            try:
                message = _message(line)
            except BadMessageError as error:
                broken(str(error))
                continue
            if message is None:
                guard.spend(len(line))
            elif guard.passes(message, len(line)):
                await to_sdk.send(SessionMessage(message))
    except FloodError as error:
        why = str(error)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass
    if not why:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.exited.wait(), LAST_OUTPUT_SECONDS)
    ended(why)
    to_sdk.close()


async def _lines(process: ServerProcess, guard: Guard, broken: Callable[[str], None]) -> AsyncIterator[bytes]:
    """Yield the lines of a program's stdout until it ends, without those that are too long."""
    begun = bytearray()
    while chunk := await _chunk(process):
        *ends, beginning = chunk.split(b"\n")
        for end in ends:
            line = bytes(begun + end)
            begun.clear()
            if len(line) <= MAX_MESSAGE_BYTES:
                yield line
        if len(begun) > MAX_MESSAGE_BYTES:  # it was reported already, and this is more of the same line
            guard.spend(len(beginning))
            continue
        begun += beginning
        if len(begun) > MAX_MESSAGE_BYTES:
            broken(f"it sent a message of more than {MAX_MESSAGE_BYTES // 1024 // 1024} MB")


async def _chunk(process: ServerProcess) -> bytes:
    """Return what comes next, b"" at the end: also where the program has ended and a child of it holds stdout open."""
    reading = asyncio.ensure_future(process.stdout.read(READ_BYTES))
    exited = asyncio.ensure_future(process.exited.wait())
    try:
        await asyncio.wait({reading, exited}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            await asyncio.wait({reading}, timeout=LAST_OUTPUT_SECONDS)
        return reading.result() if reading.done() else b""
    finally:
        reading.cancel()
        exited.cancel()


def _message(line: bytes) -> JSONRPCMessage | None:
    """Return the message in a line, None if it has none: many programs greet, or log, on stdout.

    Raises:
        BadMessageError: it is meant as one.
    """
    from mcp_types import jsonrpc_message_adapter

    text = line.strip()
    if not (text.startswith(b"{") and b'"jsonrpc"' in text):
        return None
    if not Weight().add(text):
        raise BadMessageError(f"it sent a message of more than {MAX_VALUES} values")
    with contextlib.suppress(ValueError):
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    try:  # a lone surrogate, which the SDK refuses, is replaced as everywhere in afk
        return jsonrpc_message_adapter.validate_python(loads_object(text), by_name=False)
    except (JsonError, ValueError):
        raise BadMessageError("it sent a line that is not a message of the protocol") from None


async def _write(process: ServerProcess, guard: Guard, from_sdk: MemoryObjectReceiveStream[SessionMessage]) -> None:
    import anyio

    try:
        while True:
            message = (await from_sdk.receive()).message
            line = message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
            guard.answered(message)
    except (anyio.EndOfStream, anyio.ClosedResourceError, OSError):
        from_sdk.close()

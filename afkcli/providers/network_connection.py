"""One connection on asyncio: made to the first address of a host that takes it, and read as a whole.

asyncio decrypts all that has arrived before it hands it on, so that one read gives the records of TLS together, and not
one at a time: model servers send each event in a record of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any, TypeAlias

MAX_UNREAD_BYTES = 256 * 1024
"""How much is received ahead of the reader, about; then the server waits."""

ATTEMPT_SECONDS = 0.25
"""How long one address of a host is tried before the next one is tried beside it (RFC 8305, section 5)."""

LOST_SECONDS = 2.0
"""How long after a request the end of a connection can mean that the server had closed it before: a round trip.

A server that closes it later may have worked on the request, and be paid for it.
"""

SocketOption: TypeAlias = tuple[int, int, int]
_Address: TypeAlias = tuple[int, Any]


class LostRequestError(ConnectionResetError):
    """A request was sent over a connection that had served others, and that ended soon without a byte of the answer.

    Servers close a connection that is idle, some without announcing it. What is sent meanwhile is not read by them.
    """


class Connection(asyncio.Protocol):
    """One connection: what it has received and its reader has not taken yet.

    Since: 0.2.
    """

    def __init__(self, *, has_tls: bool = False) -> None:
        self.transport: Any = None
        self._has_tls = has_tls
        self._is_closed = False
        self._received: list[bytes] = []
        self._size = 0
        self._has_ended = False
        self._error: Exception | None = None
        self._is_paused = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self.takes_writes = True
        self._has_answered = False  # the request that was written last
        self._has_served = False  # a request before that one
        self._sent_at = 0.0

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._size += len(data)
        if self._size > MAX_UNREAD_BYTES and not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()
        _wake(self._readable)

    def eof_received(self) -> None:
        self._has_ended = True
        _wake(self._readable)

    def connection_lost(self, error: Exception | None) -> None:
        self._has_ended = self._is_closed = True
        self._error = error
        _wake(self._readable)
        _wake(self._writable)

    def pause_writing(self) -> None:
        self.takes_writes = False

    def resume_writing(self) -> None:
        self.takes_writes = True
        _wake(self._writable)

    # -- the reader's side ---------------------------------------------------------------------------------------------

    @property
    def is_readable(self) -> bool:
        """Whether a read returns at once; for a connection that is idle this means that it is of no more use."""
        return bool(self._received) or self._has_ended or self._is_closed or _has_input(self.transport)

    def information(self, name: str) -> Any:
        """Return what asyncio tells of the connection under a name; None once it is closed."""
        return None if self._is_closed else self.transport.get_extra_info(name)

    async def read(self, most: int) -> bytes:
        """Return what has arrived, at most so many bytes; wait if nothing has. Empty at the end.

        Raises:
            OSError: the connection broke; `LostRequestError` where another one would take the request.
        """
        while not self._received:
            if self._has_ended and self._is_lost():
                raise LostRequestError("the connection was closed before the request") from self._error
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return b""
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        self._has_answered = True
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        if len(data) > most:
            self._received.append(data[most:])
            data = data[:most]
        self._size -= len(data)
        if self._is_paused and self._size <= MAX_UNREAD_BYTES // 2:
            self._is_paused = False
            if not self._has_ended:
                self.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes of a request; wait while the other side takes none. Raises as `read`."""
        self.put(data)
        await self.drained()

    def put(self, data: bytes) -> None:
        """Send bytes of a request, without waiting. Raises as `read`."""
        if self._has_answered:
            self._begin_next()
        self._sent_at = monotonic()
        if self._has_ended or self._is_closed:
            raise self._error or ConnectionResetError("the connection was closed")
        self.transport.write(data)

    async def drained(self) -> None:
        """Wait while the other side takes nothing. Raises as `read`."""
        while not self.takes_writes:
            if self._has_ended:
                raise self._error or ConnectionResetError("the connection was closed")
            self._writable = asyncio.get_running_loop().create_future()
            try:
                await self._writable
            finally:
                self._writable = None

    def _is_lost(self) -> bool:
        """Return whether the end of the connection means that the server has not read the request."""
        return self._has_served and not self._has_answered and monotonic() - self._sent_at < LOST_SECONDS

    def _begin_next(self) -> None:
        """Begin another request; none is sent on a connection on which something came unasked."""
        self._has_answered, self._has_served = False, True
        self._has_ended = self._has_ended or bool(self._received)
        self._received.clear()

    async def start_tls(self, context: ssl.SSLContext, host: str | None) -> Connection:
        """Return the connection inside of TLS, which takes the place of this one.

        Raises:
            OSError: the other side has no TLS, or a certificate that is not valid.
        """
        inner = Connection(has_tls=True)
        try:
            inner.transport = await asyncio.get_running_loop().start_tls(
                self.transport, inner, context, server_hostname=host
            )
        except BaseException:
            self.transport.abort()
            raise
        return inner

    async def aclose(self) -> None:
        """Close it, whether or not the other side takes note."""
        if self._is_closed:  # asyncio's TLS transport is of no use any more then
            return
        self._is_closed = True
        self.transport.close()
        if self._has_tls or self.transport.get_write_buffer_size():
            try:
                await asyncio.sleep(0)  # TLS may say that it ends
            finally:
                self.transport.abort()


async def connect(host: str, port: int, options: Sequence[SocketOption]) -> Connection:
    """Return a connection to the first address of a host that takes one.

    Args:
        host: a name or an address.
        port: the port.
        options: socket options to set.

    Raises:
        OSError: no address takes one.

    Since: 0.2.
    """
    opened = await _first_opened(_literal(host, port) or _in_turn(await _resolved(host, port)))
    try:
        for option in options:
            opened.setsockopt(*option)
        _, connection = await asyncio.get_running_loop().create_connection(Connection, sock=opened)
    except BaseException:
        opened.close()
        raise
    return connection


def _literal(host: str, port: int) -> list[_Address]:
    """Return the address that a host is written as; [] for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return [(family, (host, port))]
    return []


async def _resolved(host: str, port: int) -> list[_Address]:
    # As bytes, because a name that is too long for the codec of international names is no error of its own.
    found = await asyncio.get_running_loop().getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _in_turn(addresses: Sequence[_Address]) -> list[_Address]:
    """Return addresses with those of the two families in turn, as RFC 8305 (section 4) has them."""
    first = [one for one in addresses if one[0] == addresses[0][0]]
    others = [one for one in addresses if one[0] != addresses[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [one for pair in pairs for one in pair if one is not None]


async def _first_opened(addresses: Sequence[_Address]) -> socket.socket:
    """Return a socket that is connected to one of the addresses; each gets a head start over the next one."""
    if len(addresses) == 1:
        return await _opened(addresses[0])
    errors: list[Exception] = []
    attempts: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_opened(waiting.pop(0))))
            limit = ATTEMPT_SECONDS if waiting else None
            done, attempts = await asyncio.wait(attempts, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            opened = [task.result() for task in done if task.exception() is None]
            for late in opened[1:]:
                late.close()
            if opened:
                return opened[0]
            errors += [error for task in done if isinstance(error := task.exception(), Exception)]
    finally:
        for task in attempts:
            task.add_done_callback(_close_late)
            task.cancel()
    raise OSError("no address of the host takes a connection") from ExceptionGroup("attempts", errors)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that succeeded when no one wanted it any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _opened(address: _Address) -> socket.socket:
    family, where = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, where)
    except BaseException:
        opened.close()
        raise
    return opened


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _has_input(transport: Any) -> bool:
    """Return whether the socket has something that the event loop has not taken yet."""
    found = transport.get_extra_info("socket")
    descriptor = found.fileno() if found is not None else -1
    if descriptor < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])

"""The network below the HTTP library: connections of ours in the place of its own (see `network_connection`).

The libraries take a network backend of one's own, by the parameter `network_backend` of httpcore's connection pools.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeVar

from afkcli.providers.network_connection import Connection, SocketOption, connect

T = TypeVar("T")

# ruff: noqa: ASYNC109  (the interface gives the time limits as parameters)


def make_network_backend(core: ModuleType, socket_options: Sequence[SocketOption]) -> Any:
    """Return a network backend for the connection pools of `core`, which is `httpcore` or a later version of it.

    Its errors are those of `core`. Proxies are the pool's: they connect and start TLS through this.

    Args:
        core: the library.
        socket_options: set on each connection.

    Since: 0.2.
    """
    base: Any = core.AsyncNetworkBackend
    stream_of = _stream_class(core)

    class Backend(base):  # type: ignore[misc]  # a class that is known when it is made
        async def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> Any:
            with mapped(core.ConnectTimeout, core.ConnectError):
                return stream_of(await within(timeout, connect(host, port, socket_options)))

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return Backend()


def _stream_class(core: ModuleType) -> Any:
    base: Any = core.AsyncNetworkStream

    class Stream(base):  # type: ignore[misc]  # a class that is known when it is made
        def __init__(self, connection: Connection) -> None:
            self._connection = connection

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            with mapped(core.ReadTimeout, core.ReadError):
                return await within(timeout, self._connection.read(max_bytes))

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            with mapped(core.WriteTimeout, core.WriteError):
                await within(timeout, self._connection.write(buffer))

        async def aclose(self) -> None:
            await self._connection.aclose()

        async def start_tls(
            self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
        ) -> Any:
            with mapped(core.ConnectTimeout, core.ConnectError):
                return Stream(await within(timeout, self._connection.start_tls(ssl_context, server_hostname)))

        def get_extra_info(self, info: str) -> Any:
            if info == "is_readable":
                return self._connection.is_readable
            return self._connection.information({"client_addr": "sockname", "server_addr": "peername"}.get(info, info))

    return Stream


async def within(seconds: float | None, awaited: Awaitable[T]) -> T:
    """Return what `awaited` gives; `TimeoutError` if it takes longer than so many seconds. Since: 0.2."""
    if seconds is None:
        return await awaited
    async with asyncio.timeout(seconds):
        return await awaited


@contextlib.contextmanager
def mapped(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    """Raise a `timeout` in place of `TimeoutError`, and a `failure` in place of any other error of the network.

    Since: 0.2.
    """
    try:
        yield
    except TimeoutError as error:  # which is an `OSError`, too
        raise timeout(str(error)) from error
    except OSError as error:
        raise failure(str(error)) from error

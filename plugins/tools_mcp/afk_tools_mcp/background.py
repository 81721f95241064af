"""Work that would hold up the event loop, done beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")

_SDK_LOGGERS = ("mcp", "client", "httpx2", "httpcore2")


async def on_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns, done on a daemon thread, which holds up neither the event loop nor the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(settle: Callable[[], None]) -> None:
        if not future.done():
            settle()

    def run() -> None:
        settle: Callable[[], None]
        try:
            value = work()
            settle = partial(future.set_result, value)
        except Exception as error:
            settle = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
            loop.call_soon_threadsafe(finish, settle)

    threading.Thread(target=run, name="afk-mcp", daemon=True).start()
    return await future


def import_sdk() -> None:
    """Import the SDK, which takes a second, and keep it from writing to stderr what is reported as errors here."""
    import mcp.client.streamable_http  # noqa: F401

    for name in _SDK_LOGGERS:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())

"""Tasks that may be left behind, and code of others that must not end more than its run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from afkcli.core.contract.errors import AfkError, PluginError

T = TypeVar("T")


def started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Return a task of `work` whose exception is not logged if nobody waits for it any more when it fails."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def seen_through(work: asyncio.Future[T]) -> T:
    """Wait for the end of short work even if the waiting task is cancelled, as by an event loop that closes."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    return work.result()


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn whatever a plugin's code raises into an error of afk that names it; `sys.exit` too, or it would end afk.

    Args:
        what: the plugin, as in "the provider 'x'".

    Raises:
        PluginError: for anything but an error of afk's own.
    """
    try:
        yield
    except (AfkError, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        raise PluginError(f"{what} failed: {type(error).__name__}: {error}") from error

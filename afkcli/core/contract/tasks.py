"""Tasks that may be abandoned, and errors of plugin code, which must not end more than their run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from afkcli.core.contract.errors import MAX_ERROR_CHARS, AfkError, PluginError

T = TypeVar("T")


def started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Return a task of `work`; its exception is not logged if no one waits for it when it fails."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def seen_through(work: asyncio.Future[T]) -> T:
    """Wait for the end of short work, even if the waiting task is cancelled, as it is when the event loop closes."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    return work.result()


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn any exception of plugin code, `sys.exit` included, into an error that names the plugin.

    Args:
        what: the plugin, as in "the provider 'x'".

    Raises:
        PluginError: for any exception but an `AfkError`.
    """
    try:
        yield
    except (AfkError, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        raise PluginError(f"{what} failed: {type(error).__name__}: {str(error)[:MAX_ERROR_CHARS]}") from error

"""Tasks that may be abandoned, and errors of plugin code, which must not end more than their run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from afkcli.core.contract.errors import MAX_ERROR_CHARS, AfkError, PluginError
from afkcli.core.contract.text import error_text

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long a provider or a toolset may take to close."""


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


async def close_problem(closing: Coroutine[Any, Any, object]) -> str | None:
    """Wait for `closing`, `CLOSE_SECONDS` at most, and return what is to be said of it, None if it closed.

    It runs in a task of its own, which is left behind: code that ignores its cancellation cannot be ended.
    """

    async def close() -> str | None:
        try:
            await closing
        except (Exception, SystemExit) as error:  # a plugin's
            return f"could not be closed: {error_text(error)}"
        return None

    task = started(close())
    await asyncio.wait({task}, timeout=CLOSE_SECONDS)
    if not task.done():
        task.cancel()
        return f"did not close within {CLOSE_SECONDS:g} s"
    return None if task.cancelled() else task.result()


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

"""Tasks that may be abandoned, results of other threads, and errors of plugin code that end no more than their run."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

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


class Inbox:
    """What other threads have for an event loop: calls that come while it is being woken do not wake it again.

    To wake a loop takes a system call, and another thread gets its turn meanwhile; a store that ends fifty calls in one
    transaction, or a sink that has taken the events of many runs, would do so for each of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # not the loop itself, which would keep its own entry in `_inboxes`
        self._calls: deque[Callable[[], object]] = deque()
        self._is_waking = False

    def put(self, call: Callable[[], object]) -> None:
        """Have the loop make `call` soon; nothing happens if it has ended. To be called on any thread."""
        self._calls.append(call)
        loop = self._loop()
        if not self._is_waking and loop is not None:
            self._is_waking = True
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._make_calls)

    def _make_calls(self) -> None:
        self._is_waking = False  # before the first call: what is put from here on wakes it again
        while self._calls:
            self._calls.popleft()()


_inboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox] = WeakKeyDictionary()


def inbox() -> Inbox:
    """Return the inbox of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _inboxes.get(loop)
    if found is None:
        found = _inboxes[loop] = Inbox(loop)
    return found


def of_thread(future: Future[T]) -> asyncio.Future[T]:
    """Return a future of the running event loop for one of another thread, as `asyncio.wrap_future` does.

    To cancel it does not cancel `future`.
    """
    arriving: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def take() -> None:
        if arriving.done():
            return
        if future.cancelled():
            arriving.cancel()
        elif error := future.exception():
            arriving.set_exception(error)
        else:
            arriving.set_result(future.result())

    put = inbox().put
    future.add_done_callback(lambda done: put(take))
    return arriving


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

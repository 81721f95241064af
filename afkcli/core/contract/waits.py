"""What code waits for, said to whoever shows it to a person: the start of a server, a lock, a summary.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class WaitObserver(Protocol):
    """Is told what is waited for. Its methods may be called from any thread."""

    def begin(self, what: str) -> object:
        """Take note of a wait, and return what identifies it."""

    def end(self, wait: object) -> None:
        """Take note that a wait is over."""


_OBSERVER: ContextVar[WaitObserver | None] = ContextVar("afk_wait_observer", default=None)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say that a person has to wait for `what` while the block runs.

    Where a person looks on, a line with the seconds is shown after a second of silence, and it is erased at the end.
    Nothing else happens, so it may be used around everything that may take long, from any thread that has the context
    of the run (asynchronous and synchronous tools, tasks, `asyncio.to_thread`).

    Args:
        what: a noun with what is expected of it, such as `the MCP server 'git' to start`. Without secrets.

    Since: 0.2.
    """
    observer = _OBSERVER.get()
    if observer is None:
        yield
        return
    wait = observer.begin(what)
    try:
        yield
    finally:
        observer.end(wait)


@contextmanager
def observed_waits(observer: WaitObserver) -> Iterator[None]:
    """Have `observer` told of the waits in this context, and in those that are copied from it."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)

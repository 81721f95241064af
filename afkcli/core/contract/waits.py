"""What code waits for and how far it has come, said to whoever shows it to a person.

It is no event: nothing is kept of it, and nothing happens where no person looks on.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeAlias

Progress: TypeAlias = Callable[[float, float], None]
"""Takes how much is done, and how much there is. It costs little, so it may be called for every piece."""


class Observer(Protocol):
    """Is told what a person waits for. Its methods may be called from any thread."""

    def begin(self, text: str, *, in_bytes: bool = False) -> Wait:
        """Take note of a wait, and return it."""
        ...


class Wait(Protocol):
    """A wait that was taken note of."""

    def tell(self, done: float, total: float) -> None:
        """Take note of how far it has come."""
        ...

    def end(self) -> None:
        """Take note that it is over."""
        ...


_OBSERVER: ContextVar[Observer | None] = ContextVar("afk_observer", default=None)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say that a person has to wait for `what` while the block runs.

    Where a person looks on, a line with the seconds is shown after a second of silence, and it is erased at the end.
    It may be used around everything that may take long, on any thread that has the context of the run (asynchronous
    and synchronous tools, tasks, `asyncio.to_thread`).

    Args:
        what: a noun with what is expected of it, such as `the MCP server 'git' to start`. Without secrets.

    Since: 0.2.
    """
    with progress(f"waiting for {what}"):
        yield


@contextmanager
def progress(what: str, *, in_bytes: bool = False) -> Iterator[Progress]:
    """Say how far something has come while the block runs; it is shown as `waiting_for` says, with a bar.

    Args:
        what: what is done, such as `making the search index`. Without secrets.
        in_bytes: whether what is done is counted in bytes.

    Returns:
        A function that takes how much is done, and how much there is.

    Since: 0.2.
    """
    observer = _OBSERVER.get()
    if observer is None:
        yield _tell_nobody
        return
    wait = observer.begin(what, in_bytes=in_bytes)
    try:
        yield wait.tell
    finally:
        wait.end()


def _tell_nobody(done: float, total: float) -> None:
    pass


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Have `observer` told of the waits in this context, and in those that are copied from it."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)

"""Lists of threads that cost what is shown, where the store can; else of all threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Store, ThreadInfo

RUNNING = "running"
"""The state of a thread whose turn is being written now; all other states are those of `RunState`."""


def each_thread(store: Store, *, folder: str | None = None, search: str | None = None) -> Iterator[ThreadInfo]:
    """Yield the threads of `store`, the last used first; they are read while they are asked for, if the store can.

    Args:
        store: where they are kept.
        folder, search: as in `Store.list`.
    """
    iterate = getattr(store, "iterate", None)
    if iterate is None:
        yield from store.list(folder=folder, search=search)
    else:
        yield from iterate(folder=folder, search=search)


def thread_count(store: Store, *, folder: str | None = None, search: str | None = None) -> int:
    """Return how many threads `each_thread` yields."""
    count = getattr(store, "count", None)
    return len(store.list(folder=folder, search=search)) if count is None else count(folder=folder, search=search)


def thread_names(store: Store, prefix: str = "") -> Sequence[str]:
    """Return the names of the threads of `store` that begin with `prefix`, the last used first."""
    names = getattr(store, "names", None)
    found = [info.name for info in store.list()] if names is None else names(prefix)
    return [name for name in found if name.startswith(prefix)]

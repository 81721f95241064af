"""Lists of threads that cost what is shown, where the store can; else of all threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from afkcli.core.contract.listing import ALL_THREADS, ThreadFilter, ThreadPage
from afkcli.core.thread.short_names import (
    SHORTEST,
    is_unnamed,
    may_begin_a_short_name,
    may_end_a_name,
    short_names_among,
)

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Store, ThreadInfo

RUNNING = "running"
"""The state of a thread whose turn is being written now; all other states are those of `RunState`."""


def each_thread(store: Store, wanted: ThreadFilter = ALL_THREADS, *, limit: int | None = None) -> Iterator[ThreadInfo]:
    """Yield the threads of `store`, the last used first; they are read while they are asked for, if the store can.

    Args:
        store: where they are kept.
        wanted: which threads.
        limit: how many at most.
    """
    iterate = getattr(store, "iterate", None)
    if iterate is not None:
        yield from iterate(wanted, limit=limit)
    else:
        yield from islice(_listed(store, wanted), limit)


def _listed(store: Store, wanted: ThreadFilter) -> Iterator[ThreadInfo]:
    """Yield the threads that are wanted, from the list of all."""
    return filter(wanted.takes, store.list(folder=wanted.folder, search=wanted.search))


def thread_page(store: Store, wanted: ThreadFilter, limit: int) -> ThreadPage:
    """Return the first `limit` threads that `each_thread` yields, and how many it yields in all."""
    page = getattr(store, "page", None)
    if page is not None:
        found: ThreadPage = page(wanted, limit)
        return found
    threads = list(_listed(store, wanted))
    return ThreadPage(threads[:limit], len(threads))


def thread_count(store: Store, wanted: ThreadFilter = ALL_THREADS) -> int:
    """Return how many threads `each_thread` yields."""
    count = getattr(store, "count", None)
    return sum(1 for _ in _listed(store, wanted)) if count is None else count(wanted)


def thread_names(store: Store, prefix: str = "") -> Sequence[str]:
    """Return the names of the threads of `store` that begin with `prefix`, the last used first."""
    return [name for name in names_meant(store, prefix) if name.startswith(prefix)]


def names_meant(store: Store, text: str, *, limit: int | None = None) -> Sequence[str]:
    """Return the names of the threads that `text` may mean, the last used first.

    They are the names that begin with it, and those of unnamed threads that end with it. If there are none, they are
    those of unnamed threads whose last six characters, which a list shows as their short name, begin with it.

    Args:
        store: where they are kept.
        text: what was written.
        limit: how many names at most.

    Since: 0.2.
    """
    meant = getattr(store, "names_meant", None)
    found: Sequence[str]
    if meant is not None:
        found = meant(text, limit=limit)
    else:
        found = list(islice((info.name for info in store.list() if _means(text, info.name)), limit))
    if found or not may_begin_a_short_name(text):
        return found
    return list(islice((name for name in names_meant(store, "") if _has_short_name(name, text)), limit))


def _has_short_name(name: str, beginning: str) -> bool:
    return is_unnamed(name) and name[-SHORTEST:].lower().startswith(beginning.lower())


def _means(text: str, name: str) -> bool:
    if name.startswith(text):
        return True
    return may_end_a_name(text) and is_unnamed(name) and name.lower().endswith(text.lower())


def short_names(store: Store, names: Sequence[str]) -> Mapping[str, str]:
    """Return the short names of those of `names` that are unnamed (`afkcli.core.thread.short_names`). Since: 0.2."""
    wanted = [name for name in names if is_unnamed(name)]
    if not wanted:
        return {}
    shorten = getattr(store, "short_names", None)
    if shorten is None:
        return short_names_among(wanted, (info.name for info in store.list()))
    found: Mapping[str, str] = shorten(wanted)
    return found

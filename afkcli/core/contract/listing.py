"""What a list of threads asks of a store: which threads, and what a store may answer without reading all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from afkcli.core.contract.protocols import Store, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct


class ThreadFilter(FrozenStruct, kw_only=True):
    """Which threads are wanted; a field that is None rules out no thread.

    Args:
        folder: the folder in which the thread was last used.
        search: words that its text contains, as in `Store.list`.
        since, until: RFC 3339 times; threads that were last used from the first and before the second.
        agent: the agent that it used last.
        model: the model that it used last: the full name, or the part after the provider.
        tag: one of its tags.

    Since: 0.2.
    """

    folder: str | None = None
    search: str | None = None
    since: str | None = None
    until: str | None = None
    agent: str | None = None
    model: str | None = None
    tag: str | None = None

    def takes(self, thread: ThreadInfo) -> bool:
        """Return whether the metadata of `thread` is as wanted; `search` is about its text and does not count."""
        model = thread.model or ""
        return (
            self.folder in (None, thread.folder)
            and (self.since or "") <= thread.used
            and (self.until is None or thread.used < self.until)
            and self.agent in (None, thread.agent)
            and self.model in (None, model, model.partition("/")[2])
            and (self.tag is None or self.tag in thread.tags)
        )

    def is_narrow(self) -> bool:
        """Return whether it rules out any thread."""
        return self != ALL_THREADS


ALL_THREADS = ThreadFilter()


class ThreadPage(NamedTuple):
    """The first threads of a list, and how many the list has in all. Since: 0.2."""

    threads: Sequence[ThreadInfo]
    total: int


class ListingStore(Store, Protocol):
    """A store whose lists cost what is shown of them. Each of the methods is optional. Since: 0.2.

    Without them, afk calls `list` without a limit and takes from it what it needs. A name is unnamed if it has the form
    of a UUID, as the run id has that names a thread without a name.
    """

    def iterate(self, wanted: ThreadFilter, *, limit: int | None = None) -> Iterator[ThreadInfo]:
        """Yield threads, the last used first, each read when it is asked for; other methods are called in between.

        A thread that is there from the first to the last is yielded once, also if it is used meanwhile.
        """
        ...

    def page(self, wanted: ThreadFilter, limit: int) -> ThreadPage:
        """Return the first `limit` threads that `iterate` yields, and how many it would yield in all."""
        ...

    def count(self, wanted: ThreadFilter) -> int:
        """Return how many threads `iterate` would yield."""
        ...

    def names_meant(self, text: str, *, limit: int | None = None) -> Sequence[str]:
        """Return the names of the threads that `text` may mean, the last used first.

        They are the names that begin with it, and the unnamed ones that end with it
        (`afkcli.plugin.may_end_a_name`).
        """
        ...

    def short_names(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return, for each of these unnamed names, its shortest end that means no other thread.

        `afkcli.plugin.short_name` makes it from the neighbours of a name.
        """
        ...

    def names_near(self, name: str) -> Sequence[str]:
        """Return the names that `afkcli.plugin.is_slip_of` takes for `name` with one slip, in any order."""
        ...

    def counters(self, prefix: str) -> Mapping[str, float]:
        """Return the counters whose names begin with `prefix`; it makes none, as `add` would."""
        ...

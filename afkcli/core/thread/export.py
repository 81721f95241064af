"""Exports threads as lines of JSON: to the letter, each as it was at one moment, also while runs write to them.

A thread is exported whole also where it is damaged, or where a newer afk wrote records that this one does not know:
an export loses nothing, and the import is what refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from afkcli.core.contract.errors import AfkError, StoreError, UnknownNameError
from afkcli.core.contract.jsonform import JsonError
from afkcli.core.contract.protocols import Record, Store, ThreadInfo
from afkcli.core.thread.contents import LostContentError, read_content
from afkcli.core.thread.exchange import Refused, content_line, end_line, named_contents, read_lines, thread_lines
from afkcli.core.thread.operations import find_thread

_SNAPSHOT_TRIES = 20

Say = Callable[[str], None]
"""Takes one line for a person."""


class TooLongError(AfkError):
    """A record of a thread is longer than a line may be; nothing of the thread was yielded."""


def export_thread(store: Store, thread: ThreadInfo, warn: Say) -> Iterator[str]:
    """Yield the lines of `thread` and the closing line of an export.

    Args:
        store: where it is kept.
        thread: the thread; it is read again by its name.
        warn: called for each thing that is missing, or that an import will refuse.

    Raises:
        TooLongError: a record does not fit into a line.
        StoreError: the store failed, or the thread changes all the time.
    """
    yield from _lines(store, *snapshot(store, thread), warn)
    yield end_line(1)


def export_all(store: Store, warn: Say, leave_out: Say) -> Iterator[str]:
    """Yield the lines of all threads, the oldest first, and the closing line. Nothing is written to the store.

    Args:
        store: where they are kept.
        warn: as in `export_thread`.
        leave_out: called with the line of each thread that no file can hold; it is left out.
    """
    count = 0
    for info in sorted(store.list(), key=lambda info: info.key):
        taken = _taken(store, info)
        if taken is None:
            continue
        try:
            yield from _lines(store, *taken, warn)
            count += 1
        except TooLongError as error:
            leave_out(str(error))
    yield end_line(count)


def snapshot(store: Store, thread: ThreadInfo) -> tuple[ThreadInfo, list[Record]]:
    """Return a thread and its records as they were at one moment, also while a run writes to it.

    Raises:
        UnknownNameError: the name of `thread` leads to no thread any more.
        StoreError: the store failed, or the thread changes all the time.
    """
    for _ in range(_SNAPSHOT_TRIES):
        before = find_thread(store, thread.name)
        records = list(store.load(before.key))
        if find_thread(store, thread.name).head == before.head:
            return before, records
    raise StoreError(f"the thread {thread.name!r} changes all the time; export it when its run has ended")


def _taken(store: Store, info: ThreadInfo) -> tuple[ThreadInfo, list[Record]] | None:
    """Return the thread and its records by whatever name it has now, or None if it was deleted meanwhile."""
    named: ThreadInfo | None = info
    while named is not None:
        try:
            thread, records = snapshot(store, named)
        except UnknownNameError:
            pass
        else:
            if thread.key == info.key:
                return thread, records
        named = next((other for other in store.list() if other.key == info.key), None)
    return None


def _lines(store: Store, thread: ThreadInfo, records: list[Record], warn: Say) -> Iterator[str]:
    """Yield the lines of a thread, read as an import will, so that damage is known while there is still a store."""
    try:
        lines = list(thread_lines(thread, records))
    except JsonError as error:
        raise TooLongError(
            f"the thread {thread.name!r} is not exported: {error}; `--format markdown` writes it for people"
        ) from None
    for item in read_lines(line.encode() for line in lines):
        if isinstance(item, Refused):
            warn(f"{item.what}; it is exported unchanged, and an import will refuse it")
    yield "".join(lines)
    for sha256, name in named_contents(records).items():
        try:
            yield content_line(sha256, read_content(store, thread.key, sha256))
        except (LostContentError, StoreError) as error:
            what = error if isinstance(error, LostContentError) else f"cannot be read ({error})"
            warn(f"the content of {name} in the thread {thread.name!r} {what}; the thread is exported without it")

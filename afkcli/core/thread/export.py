"""Exports threads as lines of JSON: to the letter, each as it was at one moment, also while runs write to them.

A thread is exported whole also where it is damaged, or where a newer afk wrote records that this one does not know:
an export loses nothing, and the import is what refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from afkcli.core.contract.errors import StoreError, UnknownNameError
from afkcli.core.contract.jsonform import JsonError, to_plain
from afkcli.core.contract.protocols import Record, Store, ThreadInfo
from afkcli.core.contract.text import collapsed, in_mb
from afkcli.core.contract.waits import progress
from afkcli.core.thread.contents import LostContentError, read_content
from afkcli.core.thread.exchange import (
    ThreadChecker,
    content_line,
    end_line,
    left_out_line,
    named_contents,
    record_line,
    size_of,
    thread_line,
)
from afkcli.core.thread.operations import find_thread
from afkcli.core.thread.pages import records_in_pages

_SNAPSHOT_TRIES = 20
_PIECE = 1 << 20

Say = Callable[[str], None]
"""Takes one line for a person."""


def export_thread(store: Store, thread: ThreadInfo, warn: Say) -> Iterator[str]:
    """Yield the lines of `thread` and the closing line of an export.

    Args:
        store: where it is kept.
        thread: the thread; it is read again by its name.
        warn: called for each thing that is missing, or that an import will refuse.

    Raises:
        UnknownNameError: the first turn of the thread has not begun yet, so that there is nothing to export.
        StoreError: the store failed, or the thread changes all the time.
    """
    taken = snapshot(store, thread)
    if taken.is_empty:
        raise UnknownNameError(f"the first turn of the thread {thread.name!r} has not begun yet; export it later")
    yield from _lines(store, taken, warn)
    yield end_line(1)


def export_all(store: Store, warn: Say) -> Iterator[str]:
    """Yield the lines of all threads that have a turn, the oldest first, and the closing line. It writes nothing.

    Args:
        store: where they are kept.
        warn: as in `export_thread`.
    """
    count = 0
    found = sorted(store.list(), key=lambda info: info.key)
    with progress("exporting threads") as tell:
        for number, info in enumerate(found):
            tell(number, len(found))
            taken = _taken(store, info)
            if taken is None or taken.is_empty:
                continue
            yield from _lines(store, taken, warn)
            count += 1
    yield end_line(count)


class Snapshot(NamedTuple):
    """A thread as it was at one moment: its metadata, and the records from the question of its open turn on.

    The records before these never change, so they are read page by page.
    """

    thread: ThreadInfo
    opened: tuple[Record, ...]

    @property
    def is_empty(self) -> bool:
        """Whether it has no record yet: a run has taken a new thread, and has not written its question."""
        return not (self.thread.next_index or self.thread.head)

    def records(self, store: Store) -> Iterator[Record]:
        """Yield all records as they were then."""
        opened = self.thread.open_turn
        yield from records_in_pages(store, self.thread.key, end=opened.index if opened else self.thread.next_index)
        yield from self.opened


def snapshot(store: Store, thread: ThreadInfo) -> Snapshot:
    """Return a thread as it is at one moment, also while a run writes to it.

    Raises:
        UnknownNameError: the name of `thread` leads to no thread any more.
        StoreError: the store failed, or the thread changes all the time.
    """
    for _ in range(_SNAPSHOT_TRIES):
        before = find_thread(store, thread.name)
        opened = before.open_turn
        records = tuple(store.load(before.key, after=opened.index - 1)) if opened is not None else ()
        if find_thread(store, thread.name).head == before.head:
            return Snapshot(before, records)
    raise StoreError(f"the thread {thread.name!r} changes all the time; export it when its run has ended")


def _taken(store: Store, info: ThreadInfo) -> Snapshot | None:
    """Return the thread by whatever name it has now, or None if it was deleted meanwhile."""
    named: ThreadInfo | None = info
    while named is not None:
        try:
            taken = snapshot(store, named)
        except UnknownNameError:
            pass
        else:
            if taken.thread.key == info.key:
                return taken
        named = next((other for other in store.list() if other.key == info.key), None)
    return None


def _lines(store: Store, taken: Snapshot, warn: Say) -> Iterator[str]:
    """Yield the lines of a thread, checked as an import checks them; a long line comes in pieces.

    A record that is too large for a line is left out, and its place is kept.
    """
    thread = taken.thread
    checked = _Checked(thread, warn)
    named: dict[str, str] = {}
    yield from _pieces(thread_line(thread))
    for record in taken.records(store):
        line = record_line(record)
        if line is None:
            warn(
                f"record {record.index} (turn {record.turn}) of the thread {thread.name!r} is left out of the export: "
                f"its {in_mb(size_of(record))} are too much for a line of JSON; it stays in the thread"
            )
        yield from _pieces(line or left_out_line(record))
        left_out = line is None
        del line  # the check makes more of the record
        checked.take(record, left_out=left_out)
        named |= named_contents([record])
    checked.finish()
    for sha256, name in named.items():
        try:
            yield content_line(sha256, read_content(store, thread.key, sha256))
        except (LostContentError, StoreError) as error:
            what = error if isinstance(error, LostContentError) else f"cannot be read ({error})"
            warn(f"the content of {name} in the thread {thread.name!r} {what}; the thread is exported without it")


def _pieces(line: str) -> Iterator[str]:
    """Yield a line in pieces, so that what writes it need not copy all of it."""
    for start in range(0, len(line), _PIECE):
        yield line[start : start + _PIECE]


class _Checked:
    """Checks the records of a thread as an import will, and warns once if one will be refused."""

    def __init__(self, thread: ThreadInfo, warn: Say) -> None:
        self._warn = warn
        self._checker: ThreadChecker | None = None
        with self._refused(f"the thread {thread.name!r}"):
            self._checker = ThreadChecker(1, {"thread": to_plain(thread)}, keep=False)

    def take(self, record: Record, *, left_out: bool) -> None:
        checker = self._checker
        if checker is not None:
            with self._refused(checker.label):
                if left_out:
                    checker.add_left_out({**to_plain(record), "size": size_of(record)})
                else:
                    checker.add(to_plain(record))

    def finish(self) -> None:
        checker = self._checker
        if checker is not None:
            with self._refused(checker.label):
                checker.whole()

    @contextmanager
    def _refused(self, label: str) -> Iterator[None]:
        try:
            yield
        except JsonError as error:
            self._checker = None
            what = collapsed(str(error), 300)
            self._warn(f"{label} is exported unchanged, but an import will refuse it: {what}")

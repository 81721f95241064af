"""Reads the records of a thread page by page, so that no more than a few of them are in memory at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from afkcli.core.contract.protocols import LargeRecord, Record, Store
from afkcli.core.thread.records import record_hash

_PAGE_BYTES = 8 << 20
_FIRST, _MOST = 2, 256


def records_in_pages(store: Store, key: str, *, end: int) -> Iterator[Record]:
    """Yield the records of a thread with an index below `end`, in order of index.

    It is not one moment: sealed turns and changes stay as they are, but the question and the journal of a turn that is
    open may be dropped meanwhile.

    Args:
        store: where the thread is kept.
        key: its key.
        end: the index behind the last record that is wanted; damaged records are yielded whatever their index.

    Raises:
        StoreError: the store failed.
    """
    after, limit = -1, _FIRST
    while True:
        page = list(store.load(key, after=after, limit=limit))
        is_last = len(page) < limit
        if not (is_last or _can_be_followed(key, page, after)):
            limit *= 2  # read again, until what is damaged does not decide where the next page begins
            continue
        size = sum(len(record.body) for record in page) // max(1, len(page))
        limit = max(1, min(4 * limit, _MOST, _PAGE_BYTES // max(1, size)))
        after = page[-1].index if page else after
        page.reverse()
        while page:  # each is let go when the next one is taken
            if page[-1].index < end or record_hash(key, page[-1]) != page[-1].hash:
                yield page.pop()
            else:
                page.pop()
        if is_last or after >= end - 1:
            return


def _can_be_followed(key: str, page: list[Record], after: int) -> bool:
    """Return whether the next page begins behind the last record: its index is right, and the others are below it."""
    last = page[-1]
    if isinstance(last, LargeRecord) or record_hash(key, last) != last.hash:
        return False
    indexes = [after, *(record.index for record in page)]
    return all(first < second for first, second in itertools.pairwise(indexes))

"""What a store puts aside while the database is locked, and how it is cleared away; the files are in spool.py."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from afk_store_disk import rows
from afk_store_disk.cache import ThreadCache
from afk_store_disk.leases import ChangedError, Leases, keep_seconds
from afk_store_disk.repair import read_info
from afk_store_disk.spool import KINDS, Spool, follow, name_of
from afk_store_disk.writes import Writes
from afkcli.plugin import AfkError, HeadMismatchError, Lease, Owner, Record, ThreadInfo, replace

_SWEPT_AT_ONCE = 50


def is_this_process(owner: Owner) -> bool:
    """Return whether `owner` is this process, so that no other process writes with its lease."""
    return owner.pid == os.getpid()


class Aside:
    """Puts aside what the owners of leases write while the database is locked.

    Args:
        cache: the database.
        spool: the files.
        leases: who may write.
        writes: what is written inside transactions.
    """

    def __init__(self, cache: ThreadCache, spool: Spool, leases: Leases, writes: Writes) -> None:
        self._cache = cache
        self._spool = spool
        self._leases = leases
        self._writes = writes

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes],
    ) -> bool:
        """Put what was to be appended aside, if it belongs to an open turn; return whether it did."""
        name = name_of(lease.thread.key, lease.token)
        with self._cache.snapshot():
            holder, row = self._writes.held_info(lease)
        info = self._spool.now(name, row.info)
        kinds = {record.kind for record in records}
        if not is_this_process(holder.owner):  # two with one lease are kept apart by the database's lock alone
            return False
        if info.open_turn is None or not kinds or not kinds <= KINDS or thread.name != info.name:
            return False
        if info.head != expected_head:
            error = HeadMismatchError(f"thread {thread.name!r} has changed since it was read")
            raise ChangedError(lease.thread.key, error)
        self._spool.put_records(name, thread, records, contents)
        self._check_held(lease)
        return True

    def renew(self, lease: Lease) -> Lease | None:
        """Put the renewal of a lease aside; None if another process may write with the lease."""
        name = name_of(lease.thread.key, lease.token)
        with self._cache.snapshot():
            holder = self._leases.renewed(lease)
            row = self._writes.info(lease)
        if not is_this_process(holder.owner):
            return None
        info = self._spool.now(name, row.info)
        self._spool.put_renewal(name, holder)
        self._check_held(lease)
        return replace(lease, thread=info, expires=holder.expires)

    def release(self, lease: Lease) -> bool:
        """Put aside that a lease is over; return whether it did."""
        with self._cache.snapshot():
            holder = self._leases.holder(lease.thread.key)
        if holder is None or holder.token != lease.token:
            return True
        if not is_this_process(holder.owner):
            return False
        self._spool.put_renewal(name_of(lease.thread.key, lease.token), rows.ended(holder))
        return True

    def keeper(self, *held: Lease, others_wait: bool = False) -> Callable[[], None]:
        """Return what keeps leases while their owner waits for the write lock, which may take longer than they last.

        A lease that is lost ends the wait, unless others wait too: then it is found when the lock is taken.

        Args:
            held: the leases.
            others_wait: whether operations without a lease wait as well.
        """
        leases = {lease.token: lease for lease in held}.values()
        ignored = (AfkError, OSError) if others_wait or len(leases) > 1 else ()
        every = keep_seconds()
        kept = time.monotonic()

        def keep() -> None:
            nonlocal kept
            if time.monotonic() - kept >= every:
                for lease in leases:
                    with suppress(*ignored):
                        self.renew(lease)
                kept = time.monotonic()

        return keep

    def _check_held(self, lease: Lease) -> None:
        """Raise `LeaseLostError` if the lease was taken over, so that what was put aside will not be brought in."""
        with self._cache.snapshot():
            self._leases.held(lease)

    def sweep(self) -> None:
        """Remove the files of leases that are over; what they held was brought in when they ended.

        It comes after what its caller wrote, which is not undone if this fails: a file that stays does no harm.
        """
        with suppress(sqlite3.Error, OSError, AfkError):
            self._sweep()

    def _sweep(self) -> None:
        names = self._spool.names()
        if not names:
            return
        with self._cache.snapshot():
            holders = {name: self._leases.holder(name.partition(".")[0]) for name in names}
        ended: list[str] = []
        for name, holder in holders.items():
            if holder is None or name != name_of(name.partition(".")[0], holder.token):
                self._spool.remove(name)
            elif len(ended) < _SWEPT_AT_ONCE and self._is_ended(name):
                ended.append(name)
        if ended:
            self._end(ended)

    def _is_ended(self, name: str) -> bool:
        with self._cache.snapshot():
            row = read_info(self._cache, name.partition(".")[0])
        renewed = follow(row.info, self._spool.read(name)).renewed if row is not None else None
        return renewed is not None and rows.is_ended(renewed)

    def _end(self, names: Sequence[str]) -> None:
        """End the leases whose owners put aside that they are over, if the database is not locked."""
        with suppress(sqlite3.OperationalError), self._cache.transaction(durable=False, at_once=True):
            for name in names:
                key, _, token = name.partition(".")
                self._writes.end(key, token)

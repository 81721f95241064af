"""Leases: who may write to a thread, until when, and whether it was lost or only cannot be found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from afk_store_disk import rows
from afk_store_disk.spool import Spool, follow, name_of
from afkcli.plugin import LEASE_SECONDS, AfkError, Lease, LeaseLostError, Owner, boot_id, proven_dead

if TYPE_CHECKING:
    from afk_store_disk.buffer import Rows


def keep_seconds() -> float:
    """Return how often to renew a lease while its owner waits for the write lock."""
    return LEASE_SECONDS * 0.3


class ChangedError(AfkError):
    """The thread `key` is not as its writer left it: the reason is `error`, unless the database is damaged."""

    def __init__(self, key: str, error: AfkError) -> None:
        super().__init__(str(error))
        self.key = key
        self.error = error


class Leases:
    """The rows of leases in one database; called inside transactions and snapshots.

    Args:
        cache: the database.
        spool: where leases are renewed while it is locked.
        of_boot: the id of this boot, if it is known.
    """

    def __init__(self, cache: Rows, spool: Spool, of_boot: str | None = None) -> None:
        self._cache = cache
        self._spool = spool
        self._boot_id = boot_id() if of_boot is None else of_boot

    def of(self, rows: Rows, spool: Spool) -> Leases:
        """Return the leases as `rows` and `spool` have them."""
        return Leases(rows, spool, self._boot_id)

    def holder(self, key: str) -> rows.Holder | None:
        """Return who holds the thread `key`, None if no one does or if the row is damaged."""
        return rows.holder_from_text(self._cache.text_if_sound(rows.holder_key(key))[0])

    def held(self, lease: Lease) -> rows.Holder:
        """Return the row of `lease`; `ChangedError` if it is not there any more."""
        return self.checked_holder(lease, self.holder(lease.thread.key))

    def checked_holder(self, lease: Lease, holder: rows.Holder | None) -> rows.Holder:
        """Return `holder` if it is that of `lease`; `ChangedError` if another one is there, or none."""
        if holder is None or holder.token != lease.token:
            error = LeaseLostError(f"another run took over the thread {lease.thread.name!r}")
            raise ChangedError(lease.thread.key, error)
        return holder

    def holder_token(self, key: str) -> str | None:
        """Return the token of the lease of the thread `key`, None if there is none."""
        holder = self.holder(key)
        return holder.token if holder is not None else None

    def is_sound(self, key: str) -> bool:
        """Return whether the rows of a thread's lease and metadata are found, and can be read, if they are there."""
        for row in (rows.holder_key(key), rows.info_key(key)):
            if not self._cache.is_shown_by_index(row):
                return False
        holder, there = self._cache.text_if_sound(rows.holder_key(key))
        info, info_there = self._cache.text_if_sound(rows.info_key(key))
        return (not there or rows.holder_from_text(holder) is not None) and (
            not info_there or rows.info_from_text(info or "") is not None
        )

    def renewed(self, lease: Lease) -> rows.Holder:
        """Return the row of a lease that lasts from now."""
        return self.new_holder(lease.token, self.held(lease).owner)

    def new_holder(self, token: str, owner: Owner) -> rows.Holder:
        """Return the row of a lease of `owner` that lasts from now."""
        return rows.Holder(
            token=token,
            owner=owner,
            boot_id=self._boot_id,
            expires=time.monotonic() + LEASE_SECONDS,
            expires_wall=time.time() + LEASE_SECONDS,
        )

    def hold(self, holder: rows.Holder, key: str) -> float:
        """Write the lease's row and return when it expires, by the store's clock."""
        self._cache.put(rows.holder_key(key), rows.holder_to_text(holder))
        return holder.expires

    def may_be_replaced(self, row: rows.InfoRow, holder: rows.Holder) -> bool:
        """Return whether the holder is proven dead, or its lease is over, by what was put aside or by the database."""
        if proven_dead(holder.owner):
            return True
        aside = follow(row.info, self._spool.read(name_of(row.info.key, holder.token))).renewed
        return self.is_over(holder, aside)

    def is_over(self, holder: rows.Holder, aside: rows.Holder | None) -> bool:
        """Return whether a lease was ended or has run out, by the database and by what was put aside last."""
        if aside is not None and rows.is_ended(aside):
            return True
        return self._expired(holder) and (aside is None or self._expired(aside))

    def _expired(self, holder: rows.Holder) -> bool:
        """Return whether a lease has run out; the wall clock decides only where the boots cannot be compared."""
        if self._boot_id and holder.boot_id == self._boot_id:
            return holder.expires <= time.monotonic()
        return holder.expires_wall <= time.time()

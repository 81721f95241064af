"""What is written inside a transaction of the database: threads, their records, leases and counters."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from afk_store_disk import rows
from afk_store_disk.leases import ChangedError, Leases
from afk_store_disk.problems import INDEX_DAMAGED, damaged
from afk_store_disk.repair import find_thread, read_info, read_lease
from afk_store_disk.spool import Spool, follow, name_of
from afkcli.plugin import (
    KEPT_KINDS,
    NO_CONTENTS,
    CounterLimitError,
    HeadMismatchError,
    Lease,
    NameTakenError,
    Owner,
    Record,
    RecordKind,
    StoreError,
    ThreadInfo,
    UnknownNameError,
    dumps,
    replace,
    rfc3339,
    uuid7,
)

if TYPE_CHECKING:
    from afk_store_disk.buffer import Rows


def _name_rows(name: str, key: str) -> dict[str, str]:
    """Return the rows by which the thread `key` has its name."""
    return dict.fromkeys(rows.name_keys(name), dumps(key))


class Writes:
    """The methods of a store that write, each inside a transaction that the caller has begun.

    Args:
        file: the database.
        cache: its rows.
        spool: what was put aside; it comes in with the next write of its lease.
        leases: who may write.
    """

    def __init__(self, file: Path, cache: Rows, spool: Spool, leases: Leases) -> None:
        self._file = file
        self._cache = cache
        self._spool = spool
        self._leases = leases

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        """As `Store.acquire`."""
        row = find_thread(self._cache, name)
        if row is None and not create:
            raise UnknownNameError(f"there is no thread {name!r}")
        is_new = row is None
        row = row or self._create(name, key)
        key = row.info.key
        holder = self._leases.holder(key) if not is_new else None
        if holder is not None:
            if not self._leases.may_be_replaced(row, holder):
                return None
            row = self._bring_in(row, holder.token)
        token = os.urandom(16).hex()
        lease = Lease(
            token=token, thread=row.info, expires=self._leases.hold(self._leases.new_holder(token, owner), key)
        )
        if self._leases.holder_token(key) != token:  # found now, a damaged index is not taken for another run later
            raise damaged(self._file, INDEX_DAMAGED)
        return lease

    def renew(self, lease: Lease) -> Lease:
        """As `Store.renew`."""
        held, before = self.held_info(lease)
        holder = self._leases.new_holder(lease.token, held.owner)
        info = self._bring_in(before, lease.token).info
        return replace(lease, thread=info, expires=self._leases.hold(holder, lease.thread.key))

    def release(self, lease: Lease) -> None:
        """As `Store.release`."""
        self.end(lease.thread.key, lease.token)

    def end(self, key: str, token: str) -> None:
        """End the lease `token`, if it is held; a thread to which nothing was appended is dropped with it."""
        holder, row = read_lease(self._cache, key)
        if holder is None or holder.token != token:
            return
        if row is not None:
            row = self._bring_in(row, token)
        self._cache.drop_rows(rows.holder_key(key))
        if row is not None and not row.info.head:
            self._drop(row)

    def delete(self, lease: Lease) -> None:
        """As `Store.delete`."""
        self._leases.held(lease)
        self._drop(self.info(lease))

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        """As `Store.append`."""
        key = lease.thread.key
        _, before = self.held_info(lease)
        row = self._bring_in(before, lease.token)
        if row is not before and records and row.info.head == records[-1].hash:  # it came in just now
            return
        if row.info.head != expected_head:
            raise ChangedError(key, HeadMismatchError(f"thread {thread.name!r} has changed since it was read"))
        if thread.name != row.info.name:
            self._rename(key, row.info.name, thread.name)
        self._save(row, thread, records)
        self._cache.put_contents(key, contents)

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        """As `Store.add`."""
        key = rows.counter_key(counter)
        before = rows.number_from_text(self._cache.text(key))
        if before is None:
            raise StoreError(f"the counter {counter!r} is damaged in {self._file}; restore it from a backup")
        value = before + amount
        if limit is not None and value > limit:
            raise CounterLimitError(f"the counter {counter!r} would pass its limit of {limit}")
        self._cache.put(key, dumps(value))
        return value

    def held_info(self, lease: Lease) -> tuple[rows.Holder, rows.InfoRow]:
        """Return the row of a lease that is held, and its thread's row; raises as `Leases.held` and `info`."""
        holder, row = read_lease(self._cache, lease.thread.key)
        return self._leases.checked_holder(lease, holder), self._checked_info(lease, row)

    def info(self, lease: Lease) -> rows.InfoRow:
        """Return the row of a lease's thread; `StoreError` if it cannot be read."""
        return self._checked_info(lease, read_info(self._cache, lease.thread.key))

    def _create(self, name: str, key: str | None) -> rows.InfoRow:
        if key is not None and any(self._cache.keys(rows.thread_prefix(key))):
            raise StoreError(f"another thread has the key of {name!r}")
        now = rfc3339(time.time())
        info = ThreadInfo(key=key or uuid7(), name=name, created=now, used=now)
        row = rows.InfoRow(info, 0)
        self._cache.put_all({**_name_rows(name, info.key), rows.info_key(info.key): rows.info_to_text(row)})
        return row

    def _drop(self, row: rows.InfoRow) -> None:
        """Drop all rows of a thread."""
        key = row.info.key
        self._cache.drop_rows(rows.changed_key(row.changed, key), *rows.name_keys(row.info.name))
        self._cache.drop(rows.all_under(rows.thread_prefix(key)))
        self._cache.drop_contents(key)

    def _rename(self, key: str, old: str, new: str) -> None:
        if find_thread(self._cache, new) is not None:
            raise NameTakenError(f"there is already a thread {new!r}; choose another name")
        self._cache.drop_rows(*rows.name_keys(old))
        self._cache.put_all(_name_rows(new, key))

    def _checked_info(self, lease: Lease, row: rows.InfoRow | None) -> rows.InfoRow:
        if row is None:
            raise StoreError(f"thread {lease.thread.name!r} is damaged in {self._file}; restore it from a backup")
        return row

    def _next_number(self, before: int) -> int:
        """Return the number of a change after all others and after `before`."""
        last = rows.changed_threads([self._cache.last_key(rows.CHANGED)])
        return max(before, *last.values()) + 1 if last else before + 1

    def _save(self, before: rows.InfoRow, thread: ThreadInfo, records: Sequence[Record]) -> rows.InfoRow:
        """Write records, and the thread as it is after them; return its row.

        The thread's row in `changed/` becomes the last one, unless all is journal.
        """
        key, changed = thread.key, before.changed
        sealed = {record.turn: at for at, record in enumerate(records) if record.kind is RecordKind.SEAL}
        new: Iterable[tuple[str, str]] = (
            (rows.record_key(key, record), rows.record_to_text(record))
            for at, record in enumerate(records)
            if record.kind in KEPT_KINDS or sealed.get(record.turn, -1) < at
        )
        if not rows.is_journal(records):
            changed = self._next_number(before.changed)
            new = chain(new, [(rows.changed_key(changed, key), "true")])
            old = rows.changed_key(before.changed, key)
            opened = (rows.all_under(rows.turn_prefix(key, turn)) for turn in sealed)
            self._cache.drop((old, f"{old}\0"), *opened)
        self._cache.put_new(new)
        row = rows.InfoRow(thread, changed)
        self._cache.put(rows.info_key(key), rows.info_to_text(row))
        return row

    def _bring_in(self, row: rows.InfoRow, token: str) -> rows.InfoRow:
        """Write what the lease `token` put aside, inside a transaction; return the thread's row as it is then.

        The file is removed when the transaction is through.
        """
        name = name_of(row.info.key, token)
        content = self._spool.read(name)
        if not content:
            return row
        followed = follow(row.info, content)
        if followed.damaged:
            self._spool.keep_copy(name, content)
        if not followed.records:
            return row
        self._cache.put_contents(row.info.key, followed.contents())
        return self._save(row, followed.info, followed.records)

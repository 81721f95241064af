"""The store: the contract of `afkcli.core.protocols.Store` on rows of a diskcache database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from afk_store_disk import rows
from afk_store_disk.creation import DATABASE, INDEX, open_database
from afk_store_disk.index import list_keys
from afk_store_disk.problems import store_errors
from afk_store_disk.repair import find_thread, read_info, read_records
from afkcli.core.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.ids import rfc3339, uuid7
from afkcli.core.jsonform import dumps
from afkcli.core.protocols import (
    DURABLE_KINDS,
    LEASE_SECONDS,
    NO_CONTENTS,
    Lease,
    Owner,
    Record,
    RecordKind,
    Store,
    ThreadInfo,
)
from afkcli.owner import boot_id, proven_dead

P = ParamSpec("P")
T = TypeVar("T")


def open_store(path: str = "") -> Store:
    """Open the store in the folder `path`, or in the platform's data folder for afk; it is created if it is missing.

    Raises:
        StoreError: it cannot be opened.
    """
    if path:
        return DiskStore(Path(path).expanduser().absolute())
    from afkcli.paths import data_dir

    return DiskStore(data_dir())


def _one_line_errors(
    method: Callable[Concatenate[DiskStore, P], T],
) -> Callable[Concatenate[DiskStore, P], T]:
    @wraps(method)
    def wrapped(self: DiskStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors(self.file):
            return method(self, *args, **kwargs)

    return wrapped


class DiskStore:
    """Threads in one SQLite database, shared by any number of processes and threads of one host.

    Args:
        folder: where the database is; created (0700) where it is missing.

    Raises:
        StoreError: the database cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / DATABASE
        self._boot_id = boot_id()
        with store_errors(self.file):
            self._cache = open_database(folder)

    @_one_line_errors
    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        with self._cache.transaction(durable=False):
            row = find_thread(self._cache, name)
            if row is None and not create:
                raise UnknownNameError(f"there is no thread {name!r}")
            info = row.info if row is not None else self._create(name, key)
            holder = self._holder(info.key)
            if holder is not None and not self._expired(holder) and not proven_dead(holder.owner):
                return None
            token = os.urandom(16).hex()
            return Lease(token=token, thread=info, expires=self._hold(info.key, token, owner))

    @_one_line_errors
    def holder(self, name: str) -> Owner | None:
        with self._cache.snapshot():
            row = find_thread(self._cache, name)
            holder = self._holder(row.info.key) if row is not None else None
            return holder.owner if holder is not None and not self._expired(holder) else None

    @_one_line_errors
    def renew(self, lease: Lease) -> Lease:
        key = lease.thread.key
        self._cache.move_log()  # every 3 s, so that damage of the log takes no more than that, and reading it is short
        with self._cache.transaction(durable=False):
            holder = self._held(lease)
            expires = self._hold(key, lease.token, holder.owner)
            return replace(lease, thread=self._info(lease).info, expires=expires)

    @_one_line_errors
    def release(self, lease: Lease) -> None:
        key = lease.thread.key
        with self._cache.transaction(durable=False):
            holder = self._holder(key)
            if holder is None or holder.token != lease.token:
                return
            self._cache.drop_row(rows.holder_key(key))
            row = read_info(self._cache, key)
            if row is not None and not row.info.head:
                self._drop(row)

    @_one_line_errors
    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        key = lease.thread.key
        journal_only = bool(records) and not any(record.kind in DURABLE_KINDS for record in records)
        if journal_only and self._cache.to_move:  # the question has gone out, so that nobody waits for this
            self._cache.move_log()
        with self._cache.transaction(durable=not journal_only):
            self._held(lease)
            row = self._info(lease)
            if row.info.head != expected_head:
                raise HeadMismatchError(f"thread {thread.name!r} has changed since it was read")
            if thread.name != row.info.name:
                self._rename(key, row.info.name, thread.name)
            for record in records:
                self._add_record(key, record)
            self._cache.put_contents(key, contents)
            changed = row.changed if journal_only else self._mark_changed(key, row.changed)
            self._cache.put(rows.info_key(key), rows.info_to_text(rows.InfoRow(thread, changed)))

    @_one_line_errors
    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        with self._cache.snapshot():
            return read_records(self._cache, key, after=after, limit=limit, reverse=reverse)

    @_one_line_errors
    def content(self, key: str, sha256: str) -> bytes | None:
        with self._cache.snapshot():
            return self._cache.content(key, sha256)

    @_one_line_errors
    def find(self, name: str) -> ThreadInfo | None:
        with self._cache.snapshot():
            row = find_thread(self._cache, name)
            return row.info if row is not None else None

    @_one_line_errors
    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        with self._cache.snapshot():
            keys = list_keys(self._cache, self.file.with_name(INDEX), folder, search)
            found = (read_info(self._cache, key) for key in keys[:limit])
            return [row.info for row in found if row is not None]

    @_one_line_errors
    def delete(self, lease: Lease) -> None:
        with self._cache.transaction(durable=True):
            self._held(lease)
            self._drop(self._info(lease))

    @_one_line_errors
    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        key = rows.counter_key(counter)
        with self._cache.transaction(durable=False):
            before = rows.number_from_text(self._cache.text(key))
            if before is None:
                raise StoreError(f"the counter {counter!r} is damaged in {self.file}; restore it from a backup")
            value = before + amount
            if limit is not None and value > limit:
                raise CounterLimitError(f"the counter {counter!r} would pass its limit of {limit}")
            self._cache.put(key, dumps(value))
            return value

    @_one_line_errors
    def close(self) -> None:
        self._cache.close()

    def _create(self, name: str, key: str | None) -> ThreadInfo:
        if key is not None and any(self._cache.keys(rows.thread_prefix(key))):
            raise StoreError(f"another thread has the key of {name!r}")
        now = rfc3339(time.time())
        info = ThreadInfo(key=key or uuid7(), name=name, created=now, used=now)
        self._put_name(name, info.key)
        self._cache.put(rows.info_key(info.key), rows.info_to_text(rows.InfoRow(info, 0)))
        return info

    def _put_name(self, name: str, key: str) -> None:
        for row in rows.name_keys(name):
            self._cache.put(row, dumps(key))

    def _drop_name(self, name: str) -> None:
        for row in rows.name_keys(name):
            self._cache.drop_row(row)

    def _drop(self, row: rows.InfoRow) -> None:
        """Drop all rows of a thread."""
        key = row.info.key
        self._cache.drop_row(rows.changed_key(row.changed, key))
        self._drop_name(row.info.name)
        self._cache.drop(*rows.all_under(rows.thread_prefix(key)))
        self._cache.drop_contents(key)

    def _rename(self, key: str, old: str, new: str) -> None:
        if find_thread(self._cache, new) is not None:
            raise NameTakenError(f"there is a thread {new!r} already; choose another name")
        self._drop_name(old)
        self._put_name(new, key)

    def _info(self, lease: Lease) -> rows.InfoRow:
        row = read_info(self._cache, lease.thread.key)
        if row is None:
            raise StoreError(f"thread {lease.thread.name!r} is damaged in {self.file}; restore it from a backup")
        return row

    def _mark_changed(self, key: str, before: int) -> int:
        """Make the thread's row in `changed/` the last one, in place of the row `before`; return its number."""
        last = rows.changed_threads([self._cache.last_key(rows.CHANGED)])
        number = max(before, *last.values()) + 1 if last else before + 1
        self._cache.drop_row(rows.changed_key(before, key))
        self._cache.put(rows.changed_key(number, key), "true")
        return number

    def _add_record(self, key: str, record: Record) -> None:
        if record.kind is RecordKind.SEAL:
            self._cache.drop(*rows.all_under(rows.turn_prefix(key, record.turn)))
        self._cache.put(rows.record_key(key, record), rows.record_to_text(record))

    def _holder(self, key: str) -> rows.Holder | None:
        return rows.holder_from_text(self._cache.text_if_sound(rows.holder_key(key))[0])

    def _held(self, lease: Lease) -> rows.Holder:
        holder = self._holder(lease.thread.key)
        if holder is None or holder.token != lease.token:
            raise LeaseLostError(f"another run took over the thread {lease.thread.name!r}")
        return holder

    def _hold(self, key: str, token: str, owner: Owner) -> float:
        """Write the lease's row and return when it expires, by the store's clock."""
        expires = time.monotonic() + LEASE_SECONDS
        holder = rows.Holder(
            token=token,
            owner=owner,
            boot_id=self._boot_id,
            expires=expires,
            expires_wall=time.time() + LEASE_SECONDS,
        )
        self._cache.put(rows.holder_key(key), dumps(holder))
        return expires

    def _expired(self, holder: rows.Holder) -> bool:
        """Return whether a lease has run out; the wall clock decides only where the boots cannot be compared."""
        if self._boot_id and holder.boot_id == self._boot_id:
            return holder.expires <= time.monotonic()
        return holder.expires_wall <= time.time()

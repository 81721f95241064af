"""The store: the contract of `afkcli.plugin.Store` on rows of a diskcache database."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from afk_store_disk import rows, write_lock
from afk_store_disk.creation import DATABASE, INDEX, open_database
from afk_store_disk.index import Listing
from afk_store_disk.leases import ChangedError, Leases, keep_seconds
from afk_store_disk.problems import INDEX_DAMAGED, UNSTORABLE, damaged, is_locked, store_errors, unstorable
from afk_store_disk.repair import find_thread, read_info, read_lease, read_records
from afk_store_disk.spool import KINDS, Files, Followed, Spool, follow, name_of
from afk_store_disk.write_lock import patiently
from afkcli.plugin import (
    DURABLE_KINDS,
    KEPT_KINDS,
    NO_CONTENTS,
    Add,
    AfkError,
    Append,
    CounterLimitError,
    HeadMismatchError,
    Lease,
    NameTakenError,
    Operation,
    OperationResult,
    Owner,
    Record,
    RecordKind,
    Renew,
    Store,
    StoreError,
    ThreadInfo,
    UnknownNameError,
    data_dir,
    dumps,
    expand_user,
    replace,
    rfc3339,
    uuid7,
)

_SWEPT_AT_ONCE = 50
_READ_AT_ONCE = 200
"""How many threads of a long list are read in one go."""

P = ParamSpec("P")
T = TypeVar("T")


def is_this_process(owner: Owner) -> bool:
    """Return whether `owner` is this process, so that no other process writes with its lease."""
    return owner.pid == os.getpid()


def is_journal(records: Sequence[Record]) -> bool:
    """Return whether all that is appended is journal, which need not survive power loss."""
    return bool(records) and not any(record.kind in DURABLE_KINDS for record in records)


def open_store(path: str = "", lock_timeout: float | None = None) -> Store:
    """Open the store in the folder `path`, or in the platform's data folder for afk; it is created if it is missing.

    Args:
        path: the folder.
        lock_timeout: as of `DiskStore`.

    Raises:
        StoreError: it cannot be opened.
    """
    if path:
        return DiskStore(expand_user(path, "[stores.disk] path").absolute(), lock_timeout)
    return DiskStore(data_dir(), lock_timeout)


def _one_line_errors(
    method: Callable[Concatenate[DiskStore, P], T],
) -> Callable[Concatenate[DiskStore, P], T]:
    @wraps(method)
    def wrapped(self: DiskStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors(self.file, self._lock_timeout):
            try:
                return method(self, *args, **kwargs)
            except ChangedError as changed:
                raise self._explained(changed) from None

    return wrapped


def _reading(
    method: Callable[Concatenate[DiskStore, P], T],
) -> Callable[Concatenate[DiskStore, P], T]:
    """As `_one_line_errors`, for a method that only reads: it is called again while the database is locked."""

    @wraps(method)
    def wrapped(self: DiskStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors(self.file, self._lock_timeout):
            return patiently(self.file, self._lock_timeout, lambda: method(self, *args, **kwargs))

    return wrapped


def _name_rows(name: str, key: str) -> dict[str, str]:
    """Return the rows by which the thread `key` has its name."""
    return dict.fromkeys(rows.name_keys(name), dumps(key))


class DiskStore:
    """Threads in one SQLite database, shared by any number of processes and threads of one host.

    Args:
        folder: where the database is; created (0700) where it is missing.
        lock_timeout: seconds to wait while other processes lock the database; None for 60 s.

    Raises:
        StoreError: the database cannot be opened.
    """

    def __init__(self, folder: Path, lock_timeout: float | None = None) -> None:
        self.file = folder / DATABASE
        self._lock_timeout = write_lock.LOCK_TIMEOUT if lock_timeout is None else lock_timeout
        with store_errors(self.file, self._lock_timeout):
            self._cache = open_database(folder, self._lock_timeout)
        self._spool = Spool(folder)
        self._leases = Leases(self._cache, self._spool)
        self._listing = Listing(self._cache, folder / INDEX)

    @_one_line_errors
    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        if self._is_held(name):  # whoever waits for the thread asks often, and must not lock the database each time
            return None
        with self._cache.transaction(durable=False):
            row = find_thread(self._cache, name)
            if row is None and not create:
                raise UnknownNameError(f"there is no thread {name!r}")
            row = row or self._create(name, key)
            key = row.info.key
            holder = self._leases.holder(key)
            if holder is not None:
                if not self._leases.may_be_replaced(row, holder):
                    return None
                row = self._bring_in(row, holder.token)
            token = os.urandom(16).hex()
            lease = Lease(
                token=token, thread=row.info, expires=self._leases.hold(self._leases.new_holder(token, owner), key)
            )
            if self._leases.holder_token(key) != token:  # found now, a damaged index is not taken for another run later
                raise damaged(self.file, INDEX_DAMAGED)
        self._sweep()
        return lease

    def _is_held(self, name: str) -> bool:
        """Return whether another owner holds the thread now; its lease may end before the next call."""

        def look() -> bool:
            with self._cache.snapshot():
                row = find_thread(self._cache, name)
                holder = self._leases.holder(row.info.key) if row is not None else None
                return row is not None and holder is not None and not self._leases.may_be_replaced(row, holder)

        return patiently(self.file, self._lock_timeout, look)

    @_reading
    def holder(self, name: str) -> Owner | None:
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            row = find_thread(self._cache, name)
            holder = self._leases.holder(row.info.key) if row is not None else None
            if row is None or holder is None:
                return None
            renewed = follow(row.info, spooled.get(name_of(row.info.key, holder.token), b"")).renewed
            return holder.owner if not self._leases.is_over(holder, renewed) else None

    @_one_line_errors
    def renew(self, lease: Lease) -> Lease:
        self._cache.move_log()  # every 3 s, so that damage of the log costs no more than that
        try:
            return self._renew(lease, at_once=True)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return self._renew_aside(lease) or self._renew(lease)

    def _renew(self, lease: Lease, *, at_once: bool = False) -> Lease:
        with self._cache.transaction(durable=False, at_once=at_once, keep=self._keeper(lease)):
            renewed = self._write_renewal(lease)
        self._spool.remove(name_of(lease.thread.key, lease.token))
        return renewed

    def _write_renewal(self, lease: Lease) -> Lease:
        """Renew a lease, inside a transaction."""
        held, before = self._held_info(lease)
        holder = self._leases.new_holder(lease.token, held.owner)
        info = self._bring_in(before, lease.token).info
        return replace(lease, thread=info, expires=self._leases.hold(holder, lease.thread.key))

    @_one_line_errors
    def release(self, lease: Lease) -> None:
        """Give the lease back, as `Store.release` does. It does not wait for the write lock.

        Where that is out of reach, the lease is put aside as ended: the next process that wants the thread takes it.
        """
        try:
            self._release(lease, at_once=True)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            if not self._end_aside(lease):
                self._release(lease)

    def _release(self, lease: Lease, *, at_once: bool = False) -> None:
        key = lease.thread.key
        with self._cache.transaction(durable=False, at_once=at_once):
            holder, row = read_lease(self._cache, key)
            if holder is None or holder.token != lease.token:
                return
            self._drop_holder(key, lease.token, row)
        self._sweep()

    @_one_line_errors
    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        journal_only = is_journal(records)
        try:
            self._append(thread, records, expected_head, lease, contents, at_once=True)
            if journal_only and self._cache.to_move:  # the question was sent already, so no one waits for this
                self._cache.move_log()
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            aside = self._append_aside(thread, records, expected_head, lease, contents)
            if not (aside and journal_only):  # a seal is put aside too, for it may be killed while it waits
                self._append(thread, records, expected_head, lease, contents)

    def _append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes],
        *,
        at_once: bool = False,
    ) -> None:
        durable = not is_journal(records)
        with self._cache.transaction(durable=durable, at_once=at_once, keep=self._keeper(lease)):
            self._write(thread, records, expected_head, lease, contents)
        self._spool.remove(name_of(lease.thread.key, lease.token))

    def _write(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes],
    ) -> None:
        """Append as `append` does, inside a transaction."""
        key = lease.thread.key
        _, before = self._held_info(lease)
        row = self._bring_in(before, lease.token)
        if row is not before and records and row.info.head == records[-1].hash:  # it came in just now
            return
        if row.info.head != expected_head:
            raise ChangedError(key, HeadMismatchError(f"thread {thread.name!r} has changed since it was read"))
        if thread.name != row.info.name:
            self._rename(key, row.info.name, thread.name)
        self._save(row, thread, records)
        self._cache.put_contents(key, contents)

    @_reading
    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            row = read_info(self._cache, key) if any(name.startswith(key) for name in spooled) else None
            if row is None:
                return read_records(self._cache, key, after=after, limit=limit, reverse=reverse)
            records = read_records(self._cache, key, after=after)
            followed = self._followed(row, spooled)
        for record in followed.records:
            if record.kind is RecordKind.SEAL:
                records = [old for old in records if old.kind in KEPT_KINDS or old.turn != record.turn]
            records.append(record)
        return [record for record in records[:: -1 if reverse else 1] if record.index > after][:limit]

    @_reading
    def content(self, key: str, sha256: str) -> bytes | None:
        spooled = self._spool.read_all(key)
        with self._cache.snapshot():
            row = read_info(self._cache, key) if spooled else None
            aside = self._followed(row, spooled).content(sha256) if row is not None else None
            return self._cache.content(key, sha256) if aside is None else aside

    @_reading
    def find(self, name: str) -> ThreadInfo | None:
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            row = find_thread(self._cache, name)
            return self._followed(row, spooled).info if row is not None else None

    @_reading
    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            found = [read_info(self._cache, key) for key in self._listing.keys(folder, search, limit)]
            if None in found:  # the index is wrong
                keys = self._listing.keys(folder, search, limit, compare=True)
                found = [read_info(self._cache, key) for key in keys]
            return [self._followed(row, spooled).info for row in found if row is not None]

    def iterate(self, *, folder: str | None = None, search: str | None = None) -> Iterator[ThreadInfo]:
        keys = self._keys(folder, search)
        for start in range(0, len(keys), _READ_AT_ONCE):
            yield from self._infos(keys[start : start + _READ_AT_ONCE])

    @_reading
    def _keys(self, folder: str | None, search: str | None) -> Sequence[str]:
        with self._cache.snapshot():
            return self._listing.keys(folder, search)

    @_reading
    def _infos(self, keys: Sequence[str]) -> Sequence[ThreadInfo]:
        """Return the threads with `keys`, as far as they are still there."""
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            found = (read_info(self._cache, key) for key in keys)
            return [self._followed(row, spooled).info for row in found if row is not None]

    @_reading
    def count(self, *, folder: str | None = None, search: str | None = None) -> int:
        with self._cache.snapshot():
            return self._listing.count(folder, search)

    @_reading
    def names(self, prefix: str) -> Sequence[str]:
        with self._cache.snapshot():
            return self._listing.names(prefix)

    @_one_line_errors
    def delete(self, lease: Lease) -> None:
        with self._cache.transaction(durable=True):
            self._leases.held(lease)
            self._drop(self._info(lease))
        self._sweep()

    @_one_line_errors
    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        with self._cache.transaction(durable=False):
            return self._count(counter, amount, limit)

    def _count(self, counter: str, amount: float, limit: float | None) -> float:
        """Add to a counter as `add` does, inside a transaction."""
        key = rows.counter_key(counter)
        before = rows.number_from_text(self._cache.text(key))
        if before is None:
            raise StoreError(f"the counter {counter!r} is damaged in {self.file}; restore it from a backup")
        value = before + amount
        if limit is not None and value > limit:
            raise CounterLimitError(f"the counter {counter!r} would pass its limit of {limit}")
        self._cache.put(key, dumps(value))
        return value

    @_one_line_errors
    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        if not operations:
            return []
        if any(isinstance(operation, Renew) for operation in operations):
            self._cache.move_log()  # as `renew` does
        durable = any(isinstance(item, Append) and not is_journal(item.records) for item in operations)
        try:
            with self._cache.transaction(durable=durable, at_once=True):
                results = [self._carried_out(operation) for operation in operations]
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return [self._result(self._aside_or_alone(operation)) for operation in operations]
        results = [self._result(result) for result in results]
        for operation, result in zip(operations, results, strict=True):
            if not isinstance(operation, Add) and not isinstance(result, Exception):
                self._spool.remove(name_of(operation.lease.thread.key, operation.lease.token))
        if not durable and self._cache.to_move:
            self._cache.move_log()
        return results

    def _result(self, result: OperationResult) -> OperationResult:
        return self._explained(result) if isinstance(result, ChangedError) else result

    def _carried_out(self, operation: Operation) -> OperationResult:
        """Carry out one operation of several, inside their transaction; what fails for itself changes nothing.

        Raises:
            sqlite3.Error: the transaction has failed.
        """
        try:
            with self._cache.savepoint():
                match operation:
                    case Append():
                        self._write(*operation)
                        return None
                    case Renew():
                        return self._write_renewal(*operation)
                    case Add():
                        return self._count(*operation)
        except AfkError as error:
            return error
        except UNSTORABLE as error:
            return unstorable(error, self.file)

    def _aside_or_alone(self, operation: Operation) -> OperationResult:
        """Put an operation aside, for the database is locked; what cannot be put aside waits."""
        try:
            with store_errors(self.file, self._lock_timeout):
                match operation:
                    case Append() if is_journal(operation.records):
                        if self._append_aside(*operation):
                            return None
                    case Renew(lease):
                        if renewed := self._renew_aside(lease):
                            return renewed
        except AfkError as error:
            return error
        return self._alone(operation)

    def _alone(self, operation: Operation) -> OperationResult:
        try:
            match operation:
                case Append():
                    self.append(*operation)
                    return None
                case Renew():
                    return self.renew(*operation)
                case Add():
                    return self.add(*operation)
        except AfkError as error:
            return error

    @_one_line_errors
    def close(self) -> None:
        self._cache.close()

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

    def _info(self, lease: Lease) -> rows.InfoRow:
        return self._checked_info(lease, read_info(self._cache, lease.thread.key))

    def _checked_info(self, lease: Lease, row: rows.InfoRow | None) -> rows.InfoRow:
        if row is None:
            raise StoreError(f"thread {lease.thread.name!r} is damaged in {self.file}; restore it from a backup")
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
        if not is_journal(records):
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

    def _append_aside(
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
            holder, row = self._held_info(lease)
        info = self._spool.now(name, row.info)
        kinds = {record.kind for record in records}
        if not is_this_process(
            holder.owner
        ):  # two that write with one lease are kept apart by the database's lock alone
            return False
        if info.open_turn is None or not kinds or not kinds <= KINDS or thread.name != info.name:
            return False
        if info.head != expected_head:
            error = HeadMismatchError(f"thread {thread.name!r} has changed since it was read")
            raise ChangedError(lease.thread.key, error)
        self._spool.put_records(name, thread, records, contents)
        self._check_held(lease)
        return True

    def _renew_aside(self, lease: Lease) -> Lease | None:
        """Put the renewal of a lease aside; None if another process may write with the lease."""
        name = name_of(lease.thread.key, lease.token)
        with self._cache.snapshot():
            holder = self._leases.renewed(lease)
            row = self._info(lease)
        if not is_this_process(holder.owner):
            return None
        info = self._spool.now(name, row.info)
        self._spool.put_renewal(name, holder)
        self._check_held(lease)
        return replace(lease, thread=info, expires=holder.expires)

    def _end_aside(self, lease: Lease) -> bool:
        """Put aside that a lease is over; return whether it did."""
        with self._cache.snapshot():
            holder = self._leases.holder(lease.thread.key)
        if holder is None or holder.token != lease.token:
            return True
        if not is_this_process(holder.owner):
            return False
        self._spool.put_renewal(name_of(lease.thread.key, lease.token), rows.ended(holder))
        return True

    def _keeper(self, lease: Lease) -> Callable[[], None]:
        """Return what keeps a lease while its owner waits for the write lock, which may take longer than it lasts."""
        every = keep_seconds()
        kept = time.monotonic()

        def keep() -> None:
            nonlocal kept
            if time.monotonic() - kept >= every:
                self._renew_aside(lease)
                kept = time.monotonic()

        return keep

    def _check_held(self, lease: Lease) -> None:
        """Raise `LeaseLostError` if the lease was taken over, so that what was put aside will not be brought in."""
        with self._cache.snapshot():
            self._leases.held(lease)

    def _followed(self, row: rows.InfoRow, spooled: Files) -> Followed:
        """Return a thread as it is with what its owner put aside."""
        holder = self._leases.holder(row.info.key) if spooled and row.info.open_turn is not None else None
        return follow(row.info, spooled.get(name_of(row.info.key, holder.token), b"") if holder is not None else b"")

    def _sweep(self) -> None:
        """Remove the files of leases that are over; what they held was brought in when they ended."""
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
                holder, row = read_lease(self._cache, key)
                if holder is not None and holder.token == token:
                    self._drop_holder(key, token, row)

    def _drop_holder(self, key: str, token: str, row: rows.InfoRow | None) -> None:
        """End a lease, inside a transaction; a thread to which nothing was appended is dropped with it."""
        if row is not None:
            row = self._bring_in(row, token)
        self._cache.drop_rows(rows.holder_key(key))
        if row is not None and not row.info.head:
            self._drop(row)

    def _held_info(self, lease: Lease) -> tuple[rows.Holder, rows.InfoRow]:
        """Return the row of a lease that is held, and its thread's row; raises as `_held` and `_info`."""
        holder, row = read_lease(self._cache, lease.thread.key)
        return self._leases.checked_holder(lease, holder), self._checked_info(lease, row)

    def _explained(self, changed: ChangedError) -> AfkError:
        """Return why a thread is not as its writer left it: another run wrote to it, or the database is damaged.

        It reads the table of the database, so it is called outside transactions.
        """

        def look() -> AfkError:
            with self._cache.snapshot():
                return changed.error if self._leases.is_sound(changed.key) else damaged(self.file, INDEX_DAMAGED)

        try:
            with store_errors(self.file, self._lock_timeout):
                return patiently(self.file, self._lock_timeout, look)
        except StoreError as error:
            return error

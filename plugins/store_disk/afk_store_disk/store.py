"""The store: the contract of `afkcli.plugin.Store` on rows of a diskcache database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from afk_store_disk import rows, write_lock
from afk_store_disk.cache import BUSY_MOVE_SECONDS
from afk_store_disk.creation import DATABASE, INDEX, TEXTS, open_database
from afk_store_disk.index import Among, Listing
from afk_store_disk.leases import ChangedError, Leases
from afk_store_disk.problems import (
    INDEX_DAMAGED,
    OF_THE_TRANSACTION,
    as_store_error,
    damaged,
    is_locked,
    store_errors,
)
from afk_store_disk.repair import find_thread, read_info, read_records
from afk_store_disk.spool import Files, Followed, Spool, follow, name_of
from afk_store_disk.write_lock import patiently
from afkcli.plugin import (
    KEPT_KINDS,
    NO_CONTENTS,
    Acquire,
    Add,
    AfkError,
    Append,
    Lease,
    Leftovers,
    Operation,
    OperationResult,
    Owner,
    Record,
    RecordKind,
    Release,
    Renew,
    Store,
    StoreError,
    ThreadFilter,
    ThreadInfo,
    ThreadPage,
    TurnMatch,
    TurnSearch,
    data_dir,
    expand_user,
)

if TYPE_CHECKING:
    from afk_store_disk.aside import Aside
    from afk_store_disk.text_index import TextSearch
    from afk_store_disk.writes import Writes

_READ_AT_ONCE = 200
"""How many threads of a long list are read in one go."""

P = ParamSpec("P")
T = TypeVar("T")


def _is_durable(operations: Sequence[Operation]) -> bool:
    """Return whether one of the operations has to survive power loss."""
    return any(isinstance(item, Append) and not rows.is_journal(item.records) for item in operations)


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


def _carry_out(target: DiskStore | Writes, operation: Operation) -> Lease | float | None:
    """Make the one call that `operation` is, and return what it returns."""
    match operation:
        case Acquire(name, owner, create, key):
            return target.acquire(name, owner, create=create, key=key)
        case Append():
            target.append(*operation)
            return None
        case Renew():
            return target.renew(*operation)
        case Release():
            target.release(*operation)
            return None
        case Add():
            return target.add(*operation)


class DiskStore:
    """Threads in one SQLite database, shared by any number of processes and threads of one host.

    Args:
        folder: where the database is; created (0700) where it is missing.
        lock_timeout: seconds to wait while other processes lock the database; None for 60 s.

    Raises:
        StoreError: the database cannot be opened.

    Attributes:
        buffered_from: how many operations are worth to be read and written together, see buffer.py.
        buffered_chars: how long all their records may be for that.
    """

    buffered_from = 4
    buffered_chars = 1 << 20

    def __init__(self, folder: Path, lock_timeout: float | None = None) -> None:
        self.file = folder / DATABASE
        self._lock_timeout = write_lock.LOCK_TIMEOUT if lock_timeout is None else lock_timeout
        with store_errors(self.file, self._lock_timeout):
            self._cache = open_database(folder, self._lock_timeout)
        self._spool = Spool(folder)
        self._leases = Leases(self._cache, self._spool)
        self._listing = Listing(self._cache, folder / INDEX)
        self._text_search: TextSearch | None = None

    @cached_property
    def _writes(self) -> Writes:
        from afk_store_disk.writes import Writes  # not at the top: a list of threads writes nothing

        return Writes(self.file, self._cache, self._spool, self._leases)

    @cached_property
    def _aside(self) -> Aside:
        from afk_store_disk.aside import Aside

        return Aside(self._cache, self._spool, self._leases, self._writes)

    @_one_line_errors
    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        if self._is_held(name):  # whoever waits for the thread asks often, and must not lock the database each time
            return None
        with self._cache.transaction(durable=False):
            lease = self._writes.acquire(name, owner, create=create, key=key)
        self._aside.sweep()
        return lease

    def _is_held(self, name: str) -> bool:
        """Return whether another owner holds the thread now; its lease may end before the next call.

        A lease that is put aside as ended may be brought into the database between the two reads of one look; the
        second look finds it there.
        """

        def look() -> bool:
            with self._cache.snapshot():
                row = find_thread(self._cache, name)
                holder = self._leases.holder(row.info.key) if row is not None else None
                return row is not None and holder is not None and not self._leases.may_be_replaced(row, holder)

        return all(patiently(self.file, self._lock_timeout, look) for _ in range(2))

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
            return self._aside.renew(lease) or self._renew(lease)

    def _renew(self, lease: Lease, *, at_once: bool = False) -> Lease:
        with self._cache.transaction(durable=False, at_once=at_once, keep=self._aside.keeper(lease)):
            renewed = self._writes.renew(lease)
        self._spool.remove(name_of(lease.thread.key, lease.token))
        return renewed

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
            if not self._aside.release(lease):
                self._release(lease)

    def _release(self, lease: Lease, *, at_once: bool = False) -> None:
        with self._cache.transaction(durable=False, at_once=at_once):
            self._writes.release(lease)
        self._aside.sweep()

    @_one_line_errors
    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        journal_only = rows.is_journal(records)
        try:
            self._append(thread, records, expected_head, lease, contents, at_once=True)
            if journal_only and self._cache.to_move:  # the question was sent already, so no one waits for this
                self._cache.move_log()
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            aside = self._aside.append(thread, records, expected_head, lease, contents)
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
        durable = not rows.is_journal(records)
        with self._cache.transaction(durable=durable, at_once=at_once, keep=self._aside.keeper(lease)):
            self._writes.append(thread, records, expected_head, lease, contents)
        self._spool.remove(name_of(lease.thread.key, lease.token))

    @_reading
    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        spooled = self._spool.read_all()
        if limit is None and not reverse and not any(name.startswith(key) for name in spooled):
            return read_records(self._cache, key, after=after)  # one statement is one moment
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
        wanted, among = ThreadFilter(folder=folder), self._among(search)
        return self._read_listed(lambda compare: self._listing.keys(wanted, among, limit, compare=compare))

    def iterate(self, wanted: ThreadFilter, *, limit: int | None = None) -> Iterator[ThreadInfo]:
        keys = self._keys(wanted, limit)
        for start in range(0, len(keys), _READ_AT_ONCE):
            yield from self._infos(keys[start : start + _READ_AT_ONCE])

    @_reading
    def page(self, wanted: ThreadFilter, limit: int) -> ThreadPage:
        among, total = self._among(wanted.search), 0

        def keys(compare: bool) -> Sequence[str]:
            nonlocal total
            found, total = self._listing.page(wanted, among, limit, compare=compare)
            return found

        threads = self._read_listed(keys)
        return ThreadPage(threads, total)

    def _read_listed(self, keys: Callable[[bool], Sequence[str]]) -> Sequence[ThreadInfo]:
        """Return the threads of the keys that `keys` returns; it is told to compare the index if that was wrong."""
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            found = [read_info(self._cache, key) for key in keys(False)]
            if None in found:
                found = [read_info(self._cache, key) for key in keys(True)]
            return [self._followed(row, spooled).info for row in found if row is not None]

    @_reading
    def _keys(self, wanted: ThreadFilter, limit: int | None) -> Sequence[str]:
        among = self._among(wanted.search)
        with self._cache.snapshot():
            return self._listing.keys(wanted, among, limit)

    @_reading
    def _infos(self, keys: Sequence[str]) -> Sequence[ThreadInfo]:
        """Return the threads with `keys`, as far as they are still there."""
        spooled = self._spool.read_all()
        with self._cache.snapshot():
            found = (read_info(self._cache, key) for key in keys)
            return [self._followed(row, spooled).info for row in found if row is not None]

    @_reading
    def count(self, wanted: ThreadFilter) -> int:
        among = self._among(wanted.search)
        with self._cache.snapshot():
            return self._listing.count(wanted, among)

    @_reading
    def names_meant(self, text: str, *, limit: int | None = None) -> Sequence[str]:
        with self._cache.snapshot():
            return self._listing.names_meant(text, limit)

    @_reading
    def short_names(self, names: Sequence[str]) -> Mapping[str, str]:
        with self._cache.snapshot():
            return self._listing.short_names(names)

    @_reading
    def names_near(self, name: str) -> Sequence[str]:
        with self._cache.snapshot():
            return self._listing.names_near(name)

    @_reading
    def counters(self, prefix: str) -> Mapping[str, float]:
        start = rows.counter_key(prefix)
        with self._cache.snapshot():
            found = {key: rows.number_from_text(text) for key, text in self._cache.texts(start, f"{start}\U0010ffff")}
        return {key.partition("/")[2]: value for key, value in found.items() if value is not None}

    @_reading
    def search_turns(self, search: TurnSearch, limit: int) -> Sequence[TurnMatch]:
        return self._texts().matches(search, limit)

    @_one_line_errors
    def drop_leftovers(self, *, dry_run: bool) -> Leftovers:
        """Delete the contents of threads of which no row is left, neither by the index of keys nor in the table."""
        with self._cache.snapshot():
            sizes = self._cache.sizes_of_contents()
            lost = [key for key in sizes if not any(self._cache.keys(rows.thread_prefix(key)))]
            lost = [key for key in lost if not any(self._cache.scanned_texts(*rows.all_under(rows.thread_prefix(key))))]
        if lost and not dry_run:
            with self._cache.transaction(durable=True):
                for key in lost:
                    if not any(self._cache.keys(rows.thread_prefix(key))):  # an import may just have brought it
                        self._cache.drop_contents(key)
        return Leftovers(sum(sizes[key][0] for key in lost), sum(sizes[key][1] for key in lost))

    def _among(self, search: str | None) -> Among:
        """Return the keys of the threads that have all words of `search`; None if there are no words."""
        if not (search or "").strip():
            return None
        from afkcli.plugin import words_of  # not at the top: a run needs no search

        words = words_of(search or "")
        return self._texts().threads(words) if words else None

    def _texts(self) -> TextSearch:
        if self._text_search is None:
            from afk_store_disk.text_index import TextSearch

            self._text_search = TextSearch(self._cache, self.file.with_name(TEXTS))
        return self._text_search

    @_one_line_errors
    def delete(self, lease: Lease) -> None:
        with self._cache.transaction(durable=True):
            self._writes.delete(lease)
        self._aside.sweep()
        self._forget(lease.thread.key)

    def _forget(self, key: str) -> None:
        """Take a deleted thread out of the indexes too, as far as there are any; what fails is done by the next use."""
        with suppress(sqlite3.Error, OSError, StoreError):
            if self.file.with_name(INDEX).exists():
                self._listing.forget(key)
        with suppress(sqlite3.Error, OSError, StoreError):
            if self.file.with_name(TEXTS).exists():
                self._texts().forget(key)

    @_one_line_errors
    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        with self._cache.transaction(durable=False):
            return self._writes.add(counter, amount, limit)

    @_one_line_errors
    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        if any(isinstance(operation, Renew) for operation in operations):
            self._cache.move_log()  # as `renew` does
        if self._all_are_held(operations):
            return [None] * len(operations)  # as in `acquire`
        try:
            results = self._together(operations, at_once=True)
        except OF_THE_TRANSACTION as error:
            return self._while_locked(operations) if is_locked(error) else self._one_by_one(operations)
        if self._cache.to_move and not _is_durable(operations):
            several = len({operation.lease.token for operation in operations if isinstance(operation, Append)}) > 1
            self._cache.move_log(at_most_every=BUSY_MOVE_SECONDS if several else 0.0)
        return results

    def _all_are_held(self, operations: Sequence[Operation]) -> bool:
        """Return whether all operations ask for threads that others hold; what fails here, fails with its own one."""
        with suppress(AfkError, sqlite3.Error, OSError):
            return all(isinstance(operation, Acquire) and self._is_held(operation.name) for operation in operations)
        return False

    def _together(self, operations: Sequence[Operation], *, at_once: bool = False) -> Sequence[OperationResult]:
        """Carry out operations in one transaction.

        Raises:
            sqlite3.Error, MemoryError: the transaction has failed; nothing was written.
            OSError: what was written may not survive power loss.
        """
        leases = [operation.lease for operation in operations if not isinstance(operation, Acquire | Add)]
        keep = self._aside.keeper(*leases, others_wait=len(leases) < len(operations))
        with self._cache.transaction(durable=_is_durable(operations), at_once=at_once, keep=keep):
            spool = self._spool.listed()
            done = self._buffered(operations, spool) if self._is_worth_a_buffer(operations) else None
            done = done or [self._carried_out(operation) for operation in operations]
        for operation, result in zip(operations, done, strict=True):
            if isinstance(operation, Append | Renew) and not isinstance(result, Exception):
                spool.remove(name_of(operation.lease.thread.key, operation.lease.token))
        if any(isinstance(operation, Acquire | Release) for operation in operations):
            self._aside.sweep()
        return [self._explained(result) if isinstance(result, ChangedError) else result for result in done]

    def _is_worth_a_buffer(self, operations: Sequence[Operation]) -> bool:
        """Return whether operations are many, and small enough to be in memory once more."""
        if len(operations) < self.buffered_from:
            return False
        appends = [operation for operation in operations if isinstance(operation, Append)]
        return sum(len(record.body) for append in appends for record in append.records) <= self.buffered_chars

    def _buffered(self, operations: Sequence[Operation], spool: Spool) -> Sequence[OperationResult] | None:
        """Carry out operations by a few statements, inside their transaction; None if that cannot be done.

        Raises:
            sqlite3.Error, MemoryError: the transaction has failed.
        """
        from afk_store_disk.buffer import Buffer, NotPlainError  # a single turn does not need it
        from afk_store_disk.writes import Writes

        buffer = Buffer(self._cache)
        writes = Writes(self.file, buffer, spool, self._leases.of(buffer, spool))
        done: list[OperationResult] = []
        try:
            with self._cache.savepoint():
                buffer.read(operations)
                for operation in operations:
                    before = buffer.changes
                    try:
                        done.append(_carry_out(writes, operation))
                    except AfkError as error:
                        if buffer.changes != before:
                            raise NotPlainError from None
                        done.append(error)
                buffer.write([result.thread.key for result in done if isinstance(result, Lease)])
        except OF_THE_TRANSACTION:
            raise
        except Exception:  # found again with the operation that it comes from
            return None
        return done

    def _carried_out(self, operation: Operation) -> OperationResult:
        """Carry out one operation of several, inside their transaction; what fails for itself changes nothing.

        Raises:
            sqlite3.Error, MemoryError: the transaction has failed.
        """
        try:
            with self._cache.savepoint():
                return _carry_out(self._writes, operation)
        except OF_THE_TRANSACTION:
            raise
        except Exception as error:
            return as_store_error(error, self.file)

    def _while_locked(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        """Put operations aside, for the database is locked; those that cannot be put aside wait together."""
        results: dict[int, OperationResult] = {}
        waiting: dict[int, Operation] = {}
        tokens: set[str] = set()
        for at, operation in enumerate(operations):
            token = operation.lease.token if not isinstance(operation, Acquire | Add) else ""
            done = self._put_aside(operation) if token not in tokens else []  # not past one of its lease that waits
            if done:
                (results[at],) = done
            else:
                waiting[at] = operation
                tokens.add(token)
        if waiting:
            results.update(zip(waiting, self._waited(list(waiting.values())), strict=True))
        return [results[at] for at in range(len(operations))]

    def _put_aside(self, operation: Operation) -> Sequence[OperationResult]:
        """Put an operation aside and return its result; none if it has to wait for the lock.

        A seal is put aside as well, for it may be killed while it waits.
        """
        try:
            with store_errors(self.file, self._lock_timeout):
                match operation:
                    case Append() if self._aside.append(*operation) and rows.is_journal(operation.records):
                        return [None]
                    case Renew() if renewed := self._aside.renew(operation.lease):
                        return [renewed]
                    case Release() if self._aside.release(operation.lease):
                        return [None]
        except ChangedError as changed:
            return [self._explained(changed)]
        except AfkError as error:
            return [error]
        return []

    def _waited(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        """Carry out operations that wait for the lock."""
        try:
            with store_errors(self.file, self._lock_timeout):
                try:
                    return self._together(operations)
                except OF_THE_TRANSACTION as error:
                    if is_locked(error):
                        raise
                    return self._one_by_one(operations)
        except ChangedError as changed:  # all of them are of one lease, which was lost meanwhile
            return [self._explained(changed)] * len(operations)
        except AfkError as error:
            return [error] * len(operations)

    def _one_by_one(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        """Carry out operations each by itself, after their transaction failed: one may be all that does not fit."""
        results: list[OperationResult] = []
        for operation in operations:
            try:
                results.append(_carry_out(self, operation))
            except Exception as error:  # others were written already
                results.append(error)
        return results

    @_one_line_errors
    def close(self) -> None:
        with suppress(Exception):  # the next search does what this does not
            if self._cache.has_written and self.file.with_name(TEXTS).exists():
                self._texts().keep()
        self._cache.close()

    def _followed(self, row: rows.InfoRow, spooled: Files) -> Followed:
        """Return a thread as it is with what its owner put aside."""
        holder = self._leases.holder(row.info.key) if spooled and row.info.open_turn is not None else None
        return follow(row.info, spooled.get(name_of(row.info.key, holder.token), b"") if holder is not None else b"")

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

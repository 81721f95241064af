"""One transaction that writes: it locks the rows of its threads, checks each operation, and writes all at its end.

Every operation is checked against the locked rows, so one that fails has written nothing, and needs no savepoint. What
is written waits in a list and goes to the server in one go, with the end of the transaction. So a transaction takes two
round trips: the journal of an answer is late by each one that has to wait for a processor or a network.

An operation may come a second time, when the connection was lost while its transaction ended. Then it finds what it
has done: its own last record as the head, its own token as the lease, its own mark at the counter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from psycopg import Cursor, sql

from afk_store_postgres import rows
from afk_store_postgres.connections import REPLY_SECONDS, WatchedConnection
from afk_store_postgres.damage import info_again
from afk_store_postgres.layout import Layout
from afk_store_postgres.unsynced import Unsynced, needs_sync
from afkcli.plugin import (
    DURABLE_KINDS,
    KEPT_KINDS,
    LEASE_SECONDS,
    Acquire,
    Add,
    AfkError,
    Append,
    CounterLimitError,
    HeadMismatchError,
    Lease,
    LeaseLostError,
    NameTakenError,
    Operation,
    OperationResult,
    Record,
    RecordKind,
    Release,
    Renew,
    StoreError,
    ThreadInfo,
    UnknownNameError,
    proven_dead,
    replace,
    rfc3339,
    uuid7,
)

_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    f"SET LOCAL lock_timeout = {int(REPLY_SECONDS * 800)}",
    f"SET LOCAL idle_in_transaction_session_timeout = {int(REPLY_SECONDS * 1000)}",
)
"""A transaction of a process that cannot be reached any more gives its locks back in time."""
_SYNCED = "SET LOCAL synchronous_commit = on"
_NOT_SYNCED = "SET LOCAL synchronous_commit = off"

SLOWEST_BYTES = 250_000
"""The bytes a second of the slowest connection that a large attachment or answer is sent by."""

_LOCK = f"SELECT {rows.THREAD_COLUMNS} FROM {{s}}.thread WHERE key = ANY(%s) OR name = ANY(%s) ORDER BY key FOR UPDATE"  # noqa: S608
_CREATE = (
    "INSERT INTO {s}.thread (key, name, tail, used, tags, listed, info, crc)"
    " VALUES (%s, %s, %s, %s, '{{}}', false, %b, %s) ON CONFLICT DO NOTHING RETURNING key"
)
_LEASE = (
    "UPDATE {s}.thread SET token = %s, owner = %b, expires = clock_timestamp() + make_interval(secs => %s)"
    " WHERE key = %s RETURNING extract(epoch FROM expires)::float8"
)
_RENEW = (
    "UPDATE {s}.thread SET expires = clock_timestamp() + make_interval(secs => %s) WHERE key = %s"
    " RETURNING extract(epoch FROM expires)::float8"
)
_END = "UPDATE {s}.thread SET token = '', owner = NULL, expires = NULL WHERE key = %s"
_DELETE = "DELETE FROM {s}.thread WHERE key = %s"
_SAVE_JOURNAL = "UPDATE {s}.thread SET info = %b, crc = %s WHERE key = %s"
_SAVE = (
    "UPDATE {s}.thread SET name = %s, tail = %s, used = %s, folder = %s, agent = %s, model = %s, tags = %s,"
    " listed = %s, forked = %s, stale = true, info = %b, crc = %s WHERE key = %s"
)
_RECORD = (
    "INSERT INTO {s}.record (thread, index, kind, turn, prev, hash, body) VALUES (%s, %s, %s, %s, %s, %s, %b)"
    " ON CONFLICT (thread, index) DO UPDATE SET kind = excluded.kind, turn = excluded.turn, prev = excluded.prev,"
    " hash = excluded.hash, body = excluded.body"
)
_DROP_TURN = "DELETE FROM {s}.record WHERE thread = %s AND turn = %s AND kind IN ('question', 'journal')"
_CONTENT = (
    "INSERT INTO {s}.content (thread, sha256, data) VALUES (%s, %s, %b)"
    " ON CONFLICT (thread, sha256) DO UPDATE SET data = excluded.data"
)
_ADD = (
    "UPDATE {s}.counter SET value = value + %(amount)s, last = %(mark)s"
    " WHERE name = %(name)s AND last <> %(mark)s"
    " AND (%(limit)s::float8 IS NULL OR value + %(amount)s <= %(limit)s::float8) RETURNING value"
)
_COUNTER = "SELECT value, last FROM {s}.counter WHERE name = %s"
_NEW_COUNTER = (
    "INSERT INTO {s}.counter (name, value, last) VALUES (%s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING value"
)


class Wanted(NamedTuple):
    """An operation, and what is the same each time it is tried: the token of the lease or the mark at the counter."""

    operation: Operation
    mark: str


def wanted(operations: Iterable[Operation]) -> list[Wanted]:
    """Return operations with marks of their own."""
    return [Wanted(operation, os.urandom(16).hex()) for operation in operations]


class _Write(NamedTuple):
    query: sql.Composed
    values: Sequence[object]
    take: Callable[[Any], None] | None = None  # the one value that it returns


class Unit:
    """A transaction on an open connection.

    Args:
        connection: the connection; it has no transaction.
        layout: the tables.
        unsynced: what the server may have forgotten when it lost its power.
        is_repeated: whether the operations may have been carried out already.
    """

    def __init__(self, connection: WatchedConnection, layout: Layout, unsynced: Unsynced, *, is_repeated: bool) -> None:
        self._connection = connection
        self._layout = layout
        self._unsynced = unsynced
        self._is_repeated = is_repeated
        self._rows: dict[str, rows.ThreadRow | None] = {}
        self._keys: dict[str, str | None] = {}
        self._writes: list[_Write] = []
        self._returned: list[tuple[Cursor[tuple[Any, ...]], Callable[[Any], None]]] = []

    def carry_out(self, operations: Sequence[Wanted]) -> list[OperationResult]:
        """Carry out operations in one transaction; return a result for each.

        Raises:
            psycopg.Error: the transaction has failed.
        """
        is_synced = any(needs_sync(operation) for operation, _ in operations)
        with self._connection.pipeline():
            self._begin(is_synced=is_synced)
            self._lock(operations)
            results = [self._result(item) for item in operations]
            self._end()
        self._take_returned()
        done = [result() if callable(result) else result for result in results]
        self._unsynced.note([operation for operation, _ in operations], done, is_synced=is_synced)
        return done

    def delete(self, lease: Lease) -> None:
        """Delete the thread of a lease, in a transaction.

        Raises:
            LeaseLostError: the lease is not held.
            psycopg.Error: the transaction has failed.
        """
        key = lease.thread.key
        with self._connection.pipeline():
            self._begin(is_synced=True)
            self._read([key], [])
            if not (self._is_repeated and self._rows[key] is None):
                try:
                    self._held(lease)
                except LeaseLostError:
                    self._connection.execute("ROLLBACK")
                    raise
                self._write(_DELETE, key)
            self._end()

    def _begin(self, *, is_synced: bool) -> None:
        for statement in (*_BEGIN, _SYNCED if is_synced else _NOT_SYNCED):
            self._connection.execute(statement)

    def _lock(self, operations: Sequence[Wanted]) -> None:
        keys, names = set[str](), set[str]()
        for operation, _ in operations:
            if isinstance(operation, Acquire):
                names.add(operation.name)
            elif not isinstance(operation, Add):
                keys.add(operation.lease.thread.key)
        if keys or names:
            self._read(sorted(filter(rows.is_column, keys)), sorted(filter(rows.is_column, names)))

    def _read(self, keys: Sequence[str], names: Sequence[str]) -> None:
        self._rows.update(dict.fromkeys(keys))
        self._keys.update(dict.fromkeys(names))
        query = self._layout.query(_LOCK)
        for row in map(rows.thread_row, self._connection.execute(query, (list(keys), list(names))).fetchall()):
            self._rows[row.key] = row
            self._keys[row.name] = row.key

    def _result(self, item: Wanted) -> OperationResult | Callable[[], OperationResult]:
        """Carry out one operation; what it returns is known when all is written, where it is a function."""
        try:
            match item.operation:
                case Acquire():
                    return self._acquire(item.operation, item.mark)
                case Append():
                    self._append(item.operation)
                    return None
                case Renew(lease):
                    return self._renew(lease)
                case Release(lease):
                    self._release(lease)
                    return None
                case Add():
                    return self._add(item.operation, item.mark)
        except AfkError as error:
            return error
        except UnicodeError as error:
            return StoreError(f"this cannot be stored in PostgreSQL: {error}")

    def _acquire(self, wanted: Acquire, token: str) -> Callable[[], Lease] | None:
        row = self._named(wanted.name) or self._created(wanted)
        if row.token and row.token != token and row.live:
            owner = rows.owner_of(row.owner)
            if owner is None or not proven_dead(owner):
                return None
        row.token, row.owner, row.live = token, rows.owner_bytes(wanted.owner), True
        info, expires = self._info(row), list[float]()
        self._write(_LEASE, token, row.owner, LEASE_SECONDS, row.key, take=expires.append)
        return lambda: Lease(token=token, thread=info, expires=expires[0])

    def _created(self, wanted: Acquire) -> rows.ThreadRow:
        if not wanted.create:
            raise UnknownNameError(f"there is no thread {wanted.name!r}")
        if not rows.is_column(wanted.name):
            raise StoreError(f"the name {wanted.name!r} cannot be stored in PostgreSQL")
        now = rfc3339(time.time())
        info = ThreadInfo(key=wanted.key or uuid7(), name=wanted.name, created=now, used=now)
        data = rows.info_bytes(info)
        values = (info.key, info.name, rows.tail_of(info.name), info.used, data.data, data.crc)
        if self._connection.execute(self._layout.query(_CREATE), values).fetchall():
            row = rows.ThreadRow(info.key, info.name, info, "", None, live=False)
            self._rows[info.key], self._keys[info.name] = row, info.key
            return row
        self._read([], [wanted.name])  # another process was faster, or the key is that of another thread
        found = self._named(wanted.name)
        if found is None:
            raise StoreError(f"another thread has the key of {wanted.name!r}")
        return found

    def _renew(self, lease: Lease) -> Callable[[], Lease]:
        row = self._held(lease)
        row.live = True
        info, expires = self._info(row), list[float]()
        self._write(_RENEW, LEASE_SECONDS, row.key, take=expires.append)
        return lambda: replace(lease, thread=info, expires=expires[0])

    def _release(self, lease: Lease) -> None:
        row = self._rows.get(lease.thread.key)
        if row is None or not lease.token or row.token != lease.token:
            return
        row.token, row.live = "", False
        if row.info is not None and not row.info.head:
            self._rows[row.key] = self._keys[row.name] = None
            self._write(_DELETE, row.key)
        else:
            self._write(_END, row.key)

    def _append(self, append: Append) -> None:
        thread, records = append.thread, append.records
        row = self._rows.get(append.lease.thread.key)
        if self._is_repeated and row is not None and records and self._info(row).head == records[-1].hash:
            return  # the try before this one was carried out
        row = self._held(append.lease)
        head, contents = self._info(row).head, append.contents
        if head != append.expected_head:
            forgotten = self._unsynced.behind(append.lease.token, head)
            if not forgotten or forgotten[-1].records[-1].hash != append.expected_head:
                raise HeadMismatchError(f"thread {thread.name!r} has changed since it was read")
            records = [record for each in (*forgotten, append) for record in each.records]
            contents = {sha256: data for each in (*forgotten, append) for sha256, data in each.contents.items()}
        bodies = [record.body.encode() for record in records]  # raises before anything is written
        if thread.name != row.name:
            self._rename(row, thread.name)
        self._put_records(row.key, records, bodies)
        for sha256, data in contents.items():
            self._write(_CONTENT, row.key, sha256, data)
        row.info = thread
        self._save(thread, is_journal=bool(records) and all(record.kind not in DURABLE_KINDS for record in records))

    def _put_records(self, key: str, records: Sequence[Record], bodies: Sequence[bytes]) -> None:
        sealed = {record.turn: at for at, record in enumerate(records) if record.kind is RecordKind.SEAL}
        for turn in sealed:
            self._write(_DROP_TURN, key, turn)
        for at, (record, body) in enumerate(zip(records, bodies, strict=True)):
            if record.kind in KEPT_KINDS or sealed.get(record.turn, -1) < at:
                self._write(_RECORD, key, record.index, record.kind.value, record.turn, record.prev, record.hash, body)

    def _save(self, thread: ThreadInfo, *, is_journal: bool) -> None:
        data = rows.info_bytes(thread)
        if is_journal:
            self._write(_SAVE_JOURNAL, data.data, data.crc, thread.key)
            return
        self._write(
            _SAVE,
            thread.name,
            rows.tail_of(thread.name),
            thread.used,
            rows.column(thread.folder),
            rows.column(thread.agent),
            rows.column(thread.model),
            [rows.column(tag) for tag in thread.tags],
            bool(thread.head),
            thread.parent is not None,
            data.data,
            data.crc,
            thread.key,
        )

    def _rename(self, row: rows.ThreadRow, name: str) -> None:
        if not rows.is_column(name):
            raise StoreError(f"the name {name!r} cannot be stored in PostgreSQL")
        if name not in self._keys:
            found = self._connection.execute(
                self._layout.query("SELECT key FROM {s}.thread WHERE name = %s"), (name,)
            ).fetchall()
            owner = found[0][0] if found else None
            if owner is None or owner not in self._rows:  # else this transaction has taken the name from it
                self._keys[name] = owner
        if self._keys.get(name) is not None:
            raise NameTakenError(f"there is already a thread {name!r}; choose another name")
        self._keys[row.name], self._keys[name] = None, row.key
        row.name = name

    def _add(self, add: Add, mark: str) -> float:
        values = {"name": add.counter, "amount": float(add.amount), "limit": add.limit, "mark": mark}
        if not rows.is_column(add.counter):
            raise StoreError(f"the name {add.counter!r} of a counter cannot be stored in PostgreSQL")
        for _ in range(3):  # another process may create the counter in between
            changed = self._connection.execute(self._layout.query(_ADD), values).fetchall()
            if changed:
                return float(changed[0][0])
            there = self._connection.execute(self._layout.query(_COUNTER), (add.counter,)).fetchall()
            if there and there[0][1] == mark:
                return float(there[0][0])
            if (there or add.limit is not None) and not self._fits(add, float(there[0][0]) if there else 0.0):
                raise CounterLimitError(f"the counter {add.counter!r} would pass its limit of {add.limit}")
            if not there:
                made = self._connection.execute(
                    self._layout.query(_NEW_COUNTER), (add.counter, float(add.amount), mark)
                ).fetchall()
                if made:
                    return float(made[0][0])
        raise StoreError(f"the counter {add.counter!r} changes all the time; try again")

    def _fits(self, add: Add, before: float) -> bool:
        return add.limit is None or before + add.amount <= add.limit

    def _named(self, name: str) -> rows.ThreadRow | None:
        key = self._keys.get(name)
        return self._rows.get(key) if key is not None else None

    def _held(self, lease: Lease) -> rows.ThreadRow:
        row = self._rows.get(lease.thread.key)
        if row is None or not lease.token or row.token != lease.token:
            raise LeaseLostError(f"another run took over the thread {lease.thread.name!r}")
        return row

    def _info(self, row: rows.ThreadRow) -> ThreadInfo:
        if row.info is None:
            row.info = info_again(self._connection, self._layout, row.key, row.name)
        return row.info

    def _write(self, query: str, *values: object, take: Callable[[Any], None] | None = None) -> None:
        self._writes.append(_Write(self._layout.query(query), values, take))

    def _end(self) -> None:
        """Send what waits, and the end of the transaction: it is not carried out if something before it fails."""
        size = sum(len(value) for write in self._writes for value in write.values if isinstance(value, bytes))
        if size > SLOWEST_BYTES:  # it may take longer to send than a reply may take else
            seconds = REPLY_SECONDS + size / SLOWEST_BYTES
            self._connection.reply_seconds = seconds
            self._connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {int(seconds * 1000)}".encode())
        for write in self._writes:
            cursor = self._connection.execute(write.query, write.values)
            if write.take is not None:
                self._returned.append((cursor, write.take))
        self._writes.clear()
        self._connection.execute("COMMIT")

    def _take_returned(self) -> None:
        for cursor, take in self._returned:
            take(cursor.fetchall()[0][0])

"""The store: the contract of `afkcli.plugin.Store` on tables of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import psycopg

from afk_store_postgres import rows
from afk_store_postgres.connections import Connections, WatchedConnection
from afk_store_postgres.damage import RECORDS
from afk_store_postgres.layout import Layout
from afk_store_postgres.listing import Among, Listing
from afk_store_postgres.problems import is_passing
from afk_store_postgres.unit import Unit, Wanted, wanted
from afk_store_postgres.unsynced import Unsynced
from afkcli.plugin import (
    NO_CONTENTS,
    Acquire,
    Add,
    Append,
    Lease,
    Operation,
    OperationResult,
    Owner,
    Record,
    Release,
    Renew,
    StoreError,
    ThreadFilter,
    ThreadInfo,
    ThreadPage,
    TurnMatch,
    TurnSearch,
    proven_dead,
)

if TYPE_CHECKING:
    from afk_store_postgres.search import Search

T = TypeVar("T")

READ_SECONDS = 60.0
"""How long the server may be silent while it answers a question."""
_READ_AT_ONCE = 200
"""How many threads of a long list are read in one go."""


class PostgresStore:
    """Threads in the tables of one schema, shared by any number of hosts, processes and operating-system threads.

    Args:
        url: a connection string of libpq; "" leaves all to libpq's own variables and files.
        schema: the schema of the tables.
        wait_timeout: seconds that a call waits for a server that is away.

    Raises:
        StoreError: the server cannot be reached or refuses, or the tables are of a newer afk.
    """

    def __init__(self, url: str = "", *, schema: str = "afk", wait_timeout: float = 60.0) -> None:
        self._connections = Connections(url, wait_timeout)
        self._layout = Layout(schema)
        self._unsynced = Unsynced()
        self._connections.use(lambda connection, _: self._layout.prepare(connection))

    # leases

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        return self._lease_or_none(self._one(Acquire(name, owner, create, key)))

    def holder(self, name: str) -> Owner | None:
        if not rows.is_column(name):
            return None
        query = self._layout.query(
            "SELECT owner FROM {s}.thread WHERE name = %s AND token <> '' AND expires > clock_timestamp()"
        )
        found = self._read(lambda connection: connection.execute(query, (name,)).fetchall())
        return rows.owner_of(found[0][0]) if found else None

    def renew(self, lease: Lease) -> Lease:
        renewed = self._lease_or_none(self._one(Renew(lease)))
        assert renewed is not None
        return renewed

    def release(self, lease: Lease) -> None:
        self._one(Release(lease))

    # records

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        self._one(Append(thread, records, expected_head, lease, contents))

    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        if not rows.is_column(key):
            return []
        query = self._layout.query(f"{RECORDS} ORDER BY index {'DESC' if reverse else 'ASC'} LIMIT %s")
        found = self._read(lambda connection: connection.execute(query, (key, after, limit), binary=True).fetchall())
        return [rows.record_of(row) for row in found]

    def content(self, key: str, sha256: str) -> bytes | None:
        if not (rows.is_column(key) and rows.is_column(sha256)):
            return None
        query = self._layout.query("SELECT data FROM {s}.content WHERE thread = %s AND sha256 = %s")
        found = self._read(lambda connection: connection.execute(query, (key, sha256), binary=True).fetchall())
        return bytes(found[0][0]) if found else None

    def delete(self, lease: Lease) -> None:
        self._connections.use(
            lambda connection, again: Unit(connection, self._layout, self._unsynced, is_repeated=again).delete(lease)
        )

    # lists

    def find(self, name: str) -> ThreadInfo | None:
        return self._list(lambda listing: listing.find(name))

    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        wanted, among = ThreadFilter(folder=folder), self._among(search)
        return self._list(lambda listing: listing.infos(listing.keys(wanted, among, limit)))

    def iterate(self, wanted: ThreadFilter, *, limit: int | None = None) -> Iterator[ThreadInfo]:
        among = self._among(wanted.search)
        keys = self._list(lambda listing: listing.keys(wanted, among, limit))
        for start in range(0, len(keys), _READ_AT_ONCE):
            some = keys[start : start + _READ_AT_ONCE]
            yield from self._list(lambda listing, some=some: listing.infos(some))  # type: ignore[misc]

    def page(self, wanted: ThreadFilter, limit: int) -> ThreadPage:
        among = self._among(wanted.search)
        return self._list(
            lambda listing: ThreadPage(listing.infos(listing.keys(wanted, among, limit)), listing.count(wanted, among))
        )

    def count(self, wanted: ThreadFilter) -> int:
        among = self._among(wanted.search)
        return self._list(lambda listing: listing.count(wanted, among))

    def names_meant(self, text: str, *, limit: int | None = None) -> Sequence[str]:
        return self._list(lambda listing: listing.names_meant(text, limit))

    def short_names(self, names: Sequence[str]) -> Mapping[str, str]:
        return self._list(lambda listing: listing.short_names(names))

    def names_near(self, name: str) -> Sequence[str]:
        return self._list(lambda listing: listing.names_near(name))

    def search_turns(self, search: TurnSearch, limit: int) -> Sequence[TurnMatch]:
        return self._search(lambda searching: searching.matches(search, limit))

    # counters, and several operations at once

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        value = self._one(Add(counter, amount, limit))
        assert isinstance(value, float)
        return value

    def counters(self, prefix: str) -> Mapping[str, float]:
        return self._list(lambda listing: listing.counters(prefix))

    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        return self._together(wanted(operations)) if operations else []

    def close(self) -> None:
        self._connections.close()

    def _one(self, operation: Operation) -> OperationResult:
        """Carry out one operation; raise what it fails with."""
        if isinstance(operation, Acquire) and self._is_held(operation.name):
            return None
        (item,) = wanted([operation])
        (result,) = self._connections.use(lambda connection, again: self._unit(connection, [item], again=again))
        if isinstance(result, Exception):
            raise result
        return result

    def _together(self, items: Sequence[Wanted]) -> Sequence[OperationResult]:
        try:
            return self._connections.use(
                lambda connection, again: self._unit(connection, items, again=again, alone=True)
            )
        except _AloneError:
            return [self._by_itself(item) for item in items]

    def _by_itself(self, item: Wanted) -> OperationResult:
        """Carry out one of several operations, after their transaction failed: one may be all that does not fit."""
        try:
            (result,) = self._connections.use(lambda connection, _: self._unit(connection, [item], again=True))
        except Exception as error:
            return error
        return result

    def _unit(
        self, connection: WatchedConnection, items: Sequence[Wanted], *, again: bool, alone: bool = False
    ) -> Sequence[OperationResult]:
        try:
            return Unit(connection, self._layout, self._unsynced, is_repeated=again).carry_out(items)
        except psycopg.Error as error:
            if alone and len(items) > 1 and not is_passing(error):
                connection.execute("ROLLBACK")
                raise _AloneError from error
            raise

    def _is_held(self, name: str) -> bool:
        """Return whether another owner holds the thread: who waits for it asks often, and should lock nothing."""
        holder = self.holder(name)
        return holder is not None and not proven_dead(holder)

    def _among(self, search: str | None) -> Among:
        """Return the keys of the threads that have all words of `search`; None if there are no words."""
        if not (search or "").strip():
            return None
        from afkcli.plugin import words_of  # not at the top: a run needs no search

        words = words_of(search or "")
        return self._search(lambda searching: searching.threads(words)) if words else None

    def _search(self, ask: Callable[[Search], T]) -> T:
        from afk_store_postgres.search import Search

        return self._read(lambda connection: ask(Search(connection, self._layout)))

    def _list(self, ask: Callable[[Listing], T]) -> T:
        return self._read(lambda connection: ask(Listing(connection, self._layout)))

    def _read(self, ask: Callable[[WatchedConnection], T]) -> T:
        return self._connections.use(lambda connection, _: ask(connection), reply_seconds=READ_SECONDS)

    @staticmethod
    def _lease_or_none(result: OperationResult) -> Lease | None:
        assert result is None or isinstance(result, Lease)
        return result


class _AloneError(StoreError):
    """The operations of a transaction have to be carried out each by itself."""

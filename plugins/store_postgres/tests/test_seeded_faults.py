"""The contract suite finds each fault that a store on PostgreSQL is likely to have."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest
from afk_store_postgres import unit
from afk_store_postgres.connections import Connections, WatchedConnection
from afk_store_postgres.layout import Layout
from afk_store_postgres.store import PostgresStore
from psycopg import sql

from afkcli.plugin import NO_CONTENTS, Lease, OperationResult, Record, Store, StoreError, ThreadInfo
from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_steps import ShiftedTime
from tests.postgres_server import postgres_server, schema_of
from tests.seeded_stores import Test, in_processes, on_a_store


class ChangedLayout(Layout):
    """Tables that are asked by changed queries."""

    def __init__(self, name: str, changes: Mapping[str, str]) -> None:
        super().__init__(name)
        self._changes = changes

    def query(self, text: str, **parts: sql.Composable) -> sql.Composed:
        for old, new in self._changes.items():
            text = text.replace(old, new)
        return super().query(text.replace("NOW", f"to_timestamp({time.time()!r})"), **parts)


class ChangedStore(PostgresStore):
    """A store that asks by changed queries."""

    changes: ClassVar[Mapping[str, str]] = {}

    def __init__(self, url: str, schema: str) -> None:
        super().__init__(url, schema=schema, wait_timeout=20)
        self._layout = ChangedLayout(schema, self.changes)


class UnlockedStore(ChangedStore):
    changes: ClassVar[Mapping[str, str]] = {" FOR UPDATE": ""}


class ClientClockStore(ChangedStore):
    changes: ClassVar[Mapping[str, str]] = {"clock_timestamp()": "NOW"}


class ReadAndWrittenCounter(ChangedStore):
    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        value = self.counters(counter).get(counter, 0.0) + amount
        query = self._layout.query(
            "INSERT INTO {s}.counter (name, value, last) VALUES (%s, %s, '')"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        self._read(lambda connection: connection.execute(query, (counter, value)))
        return value


class NeverDurableStore(ChangedStore):
    """Commits before the server has written its log."""

    def _unit(
        self, connection: WatchedConnection, items: Sequence[unit.Wanted], **options: bool
    ) -> Sequence[OperationResult]:
        synced = unit._SYNCED
        vars(unit)["_SYNCED"] = unit._NOT_SYNCED
        try:
            return super()._unit(connection, items, **options)
        finally:
            vars(unit)["_SYNCED"] = synced


class StaleStore(ChangedStore):
    def __init__(self, url: str, schema: str) -> None:
        super().__init__(url, schema)
        self._known: dict[str, ThreadInfo] = {}

    def find(self, name: str) -> ThreadInfo | None:
        found = self._known.get(name) or super().find(name)
        if found is not None:
            self._known[name] = found
        return found


class ReadingStore(ChangedStore):
    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        self.load(thread.key)
        super().append(thread, records, expected_head, lease, contents)


class OnceConnected(Connections):
    def _is_worth_another_try(self, *_: object) -> bool:
        return False

    def _put_away(self, connection: WatchedConnection | None, error: psycopg.Error | None) -> None:
        if connection is not None:
            self._keep(connection)


class StoreOfOneConnection(ChangedStore):
    def __init__(self, url: str, schema: str) -> None:
        super().__init__(url, schema)
        self._connections = OnceConnected(url, 20)


class Contract(StoreContract):
    __test__ = False
    has_own_clock = True

    def __init__(self, kind: type[ChangedStore]) -> None:
        self._kind = kind
        self._time = ShiftedTime()

    def make_store(self, path: Path) -> Store:
        self._path = path
        return self._kind(postgres_server().url(application_name=schema_of(path)), schema_of(path))

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        earlier = f"UPDATE {schema_of(self._path)}.thread SET expires = expires - make_interval(secs => %s)"
        postgres_server().execute(earlier, seconds)

    def drop_store(self, path: Path) -> None:
        postgres_server().execute(f"DROP SCHEMA IF EXISTS {schema_of(path)} CASCADE")

    def cut_connections(self, path: Path) -> None:
        postgres_server().cut_connections(schema_of(path))

    def lose_power(self, path: Path) -> None:
        postgres_server().lose_power()


TRIES = 5
"""A server that was idle for ten seconds writes its log at once where it need not, which hides a fault."""

FAULTS: Sequence[tuple[type[ChangedStore], Test]] = [
    (ReadAndWrittenCounter, StoreContract.test_no_addition_of_several_processes_is_lost),
    (UnlockedStore, StoreContract.test_of_several_processes_that_want_a_thread_one_gets_it),
    (UnlockedStore, StoreContract.test_of_several_appends_behind_one_record_one_is_made),
    (NeverDurableStore, StoreContract.test_a_seal_is_as_durable_as_the_store_says),
    (NeverDurableStore, in_processes(StoreContract.test_what_a_killed_process_wrote_is_there)),
    (StaleStore, StoreContract.test_what_another_opening_changed_is_found_at_once),
    (ClientClockStore, StoreContract.test_leases_go_by_the_clock_of_the_store_and_not_of_its_user),
    (ReadingStore, on_a_store(StoreContract.test_an_append_reads_nothing_of_the_turns_before_it)),
    (StoreOfOneConnection, StoreContract.test_a_lost_connection_is_made_again),
]


@pytest.mark.parametrize(("kind", "test"), FAULTS)
def test_a_store_with_one_fault_fails_the_test_of_it(kind: type[ChangedStore], test: Test, tmp_path: Path) -> None:
    contract = Contract(kind)
    contract._time.start()
    try:
        with pytest.raises((AssertionError, StoreError)):
            for _ in range(TRIES):
                test(contract, tmp_path / "store")
                contract.drop_store(tmp_path / "store")
    finally:
        contract._time.stop()
        contract.drop_store(tmp_path / "store")

"""The store on PostgreSQL keeps the contract of every store, and the suite finds faults of such a store."""

from __future__ import annotations

from pathlib import Path

from afk_store_postgres.store import PostgresStore

from afkcli.plugin import Store
from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_model import model_test
from tests.postgres_server import postgres_server, schema_of


def make_store(path: Path) -> Store:
    """Open the store in the schema of a folder."""
    schema = schema_of(path)
    return PostgresStore(postgres_server().url(application_name=schema), schema=schema, wait_timeout=20)


def pass_time(path: Path, seconds: float) -> None:
    """Let time pass for the leases of a store: they expire so much earlier."""
    postgres_server().execute(
        f"UPDATE {schema_of(path)}.thread SET expires = expires - make_interval(secs => %s)", seconds
    )


def drop_store(path: Path) -> None:
    """Drop the schema of a folder."""
    postgres_server().execute(f"DROP SCHEMA IF EXISTS {schema_of(path)} CASCADE")


class TestPostgresStore(StoreContract):
    has_own_clock = True
    kind: type[PostgresStore] = PostgresStore

    def make_store(self, path: Path) -> Store:
        self._path = path
        return make_store(path)

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        pass_time(self._path, seconds)

    def drop_store(self, path: Path) -> None:
        drop_store(path)

    def cut_connections(self, path: Path) -> None:
        postgres_server().cut_connections(schema_of(path))

    def lose_power(self, path: Path) -> None:
        postgres_server().lose_power()


TestPostgresStoreLikeTheModel = model_test(make_store, pass_time=pass_time, drop_store=drop_store, examples=6)

"""What the tests of the store on PostgreSQL share: a server, and stores in a schema for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from afk_store_postgres.store import PostgresStore

from tests.postgres_server import HAS_SERVER, PostgresServer, postgres_server, schema_of

collect_ignore_glob = [] if HAS_SERVER else ["test_*.py"]

Open = Callable[[], PostgresStore]


@pytest.fixture(scope="session")
def server() -> PostgresServer:
    """The server of this process; it is stopped when the tests of the process are done."""
    return postgres_server()


@pytest.fixture
def schema(server: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """The name of a schema that does not exist yet; it is dropped after the test."""
    name = schema_of(tmp_path)
    yield name
    server.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def open_store(server: PostgresServer, schema: str) -> Iterator[Open]:
    """Open the store in the schema; all of them are closed after the test."""
    opened: list[PostgresStore] = []

    def open_one() -> PostgresStore:
        opened.append(PostgresStore(server.url(application_name=schema), schema=schema, wait_timeout=20))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> PostgresStore:
    """A new store."""
    return open_store()

"""The tables, made step by step: from nothing, or from an older version of them.

Each step is the change from one version to the next, and all that are missing are one transaction. Two processes that
begin at once take turns by a lock of that transaction. Records, metadata and contents are bytes, because text of
PostgreSQL holds neither NUL characters nor what is not Unicode; columns of text are there to be compared and sorted.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from psycopg import errors, sql

from afk_store_postgres.connections import WatchedConnection
from afkcli.plugin import StoreError

_THREADS = (
    "CREATE TABLE {s}.version (version integer NOT NULL)",
    "INSERT INTO {s}.version VALUES (0)",
    """CREATE TABLE {s}.thread (
        key text COLLATE "C" PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        tail text COLLATE "C",
        used text COLLATE "C" NOT NULL,
        folder text COLLATE "C",
        agent text COLLATE "C",
        model text COLLATE "C",
        tags text[] NOT NULL,
        listed boolean NOT NULL,
        info bytea NOT NULL,
        crc bigint NOT NULL,
        token text NOT NULL DEFAULT '',
        owner bytea,
        expires timestamptz
    ) WITH (fillfactor = 80)""",
    "CREATE INDEX thread_used ON {s}.thread (used, key) WHERE listed",
    "CREATE INDEX thread_tail ON {s}.thread (tail) WHERE tail IS NOT NULL",
    """CREATE TABLE {s}.record (
        thread text COLLATE "C" NOT NULL REFERENCES {s}.thread ON DELETE CASCADE,
        index bigint NOT NULL,
        kind text NOT NULL,
        turn bigint NOT NULL,
        prev text NOT NULL,
        hash text NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (thread, index)
    )""",
    "CREATE INDEX record_open ON {s}.record (thread, turn) WHERE kind IN ('question', 'journal')",
    """CREATE TABLE {s}.content (
        thread text COLLATE "C" NOT NULL REFERENCES {s}.thread ON DELETE CASCADE,
        sha256 text COLLATE "C" NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (thread, sha256)
    )""",
    "ALTER TABLE {s}.content ALTER COLUMN data SET STORAGE EXTERNAL",  # pictures do not get smaller
    """CREATE TABLE {s}.counter (
        name text COLLATE "C" PRIMARY KEY,
        value double precision NOT NULL,
        last text NOT NULL
    )""",
)
_SEARCH = (
    "ALTER TABLE {s}.thread ADD COLUMN taken bigint NOT NULL DEFAULT 0",
    "ALTER TABLE {s}.thread ADD COLUMN stale boolean NOT NULL DEFAULT true",
    "ALTER TABLE {s}.thread ADD COLUMN forked boolean NOT NULL DEFAULT false",
    "CREATE INDEX thread_stale ON {s}.thread (key) WHERE stale AND listed",
    """CREATE TABLE {s}.place (
        thread text COLLATE "C" NOT NULL REFERENCES {s}.thread ON DELETE CASCADE,
        record bigint NOT NULL,
        turn bigint NOT NULL,
        run_id text NOT NULL,
        resumes text,
        started text COLLATE "C" NOT NULL,
        copy text COLLATE "C" NOT NULL,
        left_out text,
        names text COLLATE "C",
        question text COLLATE "C",
        answer text COLLATE "C",
        tool text COLLATE "C",
        reasoning text COLLATE "C",
        pieces integer[],
        PRIMARY KEY (thread, record)
    )""",
    "CREATE INDEX place_pieces ON {s}.place USING gin (pieces)",
    "CREATE INDEX place_long ON {s}.place (thread) WHERE pieces IS NULL",
)
STEPS: tuple[Sequence[str], ...] = (_THREADS, _SEARCH)
"""What makes version 1 of nothing, version 2 of version 1, and so on."""


class Layout:
    """The tables in the schema `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._schema = sql.Identifier(name.replace("%", "%%"))  # all queries are given values, if only ()

    def query(self, text: str, **parts: sql.Composable) -> sql.Composed:
        """Return a query in which `{s}` is the schema."""
        return sql.SQL(text).format(s=self._schema, **parts)

    def prepare(self, connection: WatchedConnection) -> None:
        """Make the tables, or bring them up to date.

        Raises:
            StoreError: they are of a newer afk, or the database cannot hold them.
            psycopg.Error: the server refuses.
        """
        found = self._version(connection)
        if found == len(STEPS):
            return
        self._refuse_newer(found)
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"the database {connection.info.dbname!r} has the encoding {encoding}; create one with ENCODING 'UTF8'"
            )
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (zlib.crc32(f"afk/{self.name}".encode()),))
            found = self._version_inside(connection)
            self._refuse_newer(found)
            if found == 0:
                self._make_schema(connection)
            for number, step in enumerate(STEPS[found:], found + 1):
                for statement in step:
                    connection.execute(self.query(statement), ())
                connection.execute(self.query("UPDATE {s}.version SET version = %s"), (number,))

    def _version(self, connection: WatchedConnection) -> int:
        """Return the version of the tables, 0 if there are none."""
        try:
            rows = connection.execute(self.query("SELECT max(version) FROM {s}.version"), ()).fetchall()
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            return 0
        return _number(rows)

    def _version_inside(self, connection: WatchedConnection) -> int:
        """As `_version`, where an error would end the transaction."""
        there = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = 'version'",
            (self.name,),
        ).fetchall()
        return self._version(connection) if there else 0

    def _make_schema(self, connection: WatchedConnection) -> None:
        """Make the schema if it is missing; one that an administrator made needs no right on the database."""
        there = connection.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (self.name,)).fetchall()
        if not there:
            connection.execute(self.query("CREATE SCHEMA {s}"), ())

    def _refuse_newer(self, found: int) -> None:
        if found > len(STEPS):
            raise StoreError(
                f"the schema {self.name!r} is of a newer afk (version {found}, this one knows {len(STEPS)});"
                " upgrade afk"
            )


def _number(rows: Sequence[tuple[Any, ...]]) -> int:
    return int(rows[0][0] or 0) if rows else 0

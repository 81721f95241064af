"""Our own tables, beside those of DBOS: what DBOS does not know of a batch.

They hold who may settle a prompt (its claim), what was sent and reserved for it, the order of outcomes, and for each
batch one row with its limits and totals, which every change of the batch locks. Requests and results are in DBOS's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from psycopg import Connection, errors, sql

from afk_engine_dbos.rows import COLUMNS, INFO
from afkcli.plugin import EngineError

_FIRST = (
    "CREATE TABLE {s}.version (version integer NOT NULL)",
    "INSERT INTO {s}.version VALUES (0)",
    """CREATE TABLE {s}.batch (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key bytea NOT NULL UNIQUE,
        name bytea NOT NULL,
        created text NOT NULL,
        afk text NOT NULL,
        settings text NOT NULL,
        limits text NOT NULL,
        paused text,
        totals text NOT NULL
    ) WITH (fillfactor = 50)""",
    """CREATE TABLE {s}.prompt (
        batch bigint NOT NULL REFERENCES {s}.batch ON DELETE CASCADE,
        number bigint GENERATED ALWAYS AS IDENTITY,
        id bytea NOT NULL,
        place bigint NOT NULL,
        digest bytea NOT NULL,
        state smallint NOT NULL,
        round integer NOT NULL DEFAULT 0,
        worker text,
        claim text,
        sent boolean NOT NULL DEFAULT false,
        attempts integer NOT NULL DEFAULT 0,
        reserved_usd double precision NOT NULL DEFAULT 0,
        used_usd double precision NOT NULL DEFAULT 0,
        reserved_tokens bigint NOT NULL DEFAULT 0,
        reserved_at bigint NOT NULL DEFAULT 0,
        cost_usd double precision,
        sequence bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (batch, number),
        UNIQUE (batch, id)
    ) WITH (fillfactor = 80)""",
    "CREATE INDEX prompt_place ON {s}.prompt (batch, place)",
    "CREATE INDEX prompt_worker ON {s}.prompt (batch, worker) WHERE state = 1",
    "CREATE INDEX prompt_sequence ON {s}.prompt (batch, sequence) WHERE sequence > 0",
)
STEPS: tuple[Sequence[str], ...] = (_FIRST,)
"""What makes version 1 of nothing, version 2 of version 1, and so on."""


class Layout:
    """The tables in the schema `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._schema = sql.Identifier(name.replace("%", "%%"))  # all queries are given values, if only ()

    def query(self, text: str, dbos_schema: str = "") -> sql.Composed:
        """Return a query with `{s}` as our schema, `{d}` as that of DBOS, `{info}` and `{columns}` as those of rows."""
        return sql.SQL(text).format(
            s=self._schema,
            d=sql.Identifier(dbos_schema.replace("%", "%%")),
            info=sql.SQL(INFO),
            columns=sql.SQL(COLUMNS),
            columns_of_p=sql.SQL(", ".join(f"p.{name.strip()}" for name in COLUMNS.split(","))),
        )

    def version(self, connection: Connection[tuple[Any, ...]]) -> int:
        """Return the version of the tables, 0 if there are none.

        Raises:
            EngineError: they are of a newer afk.
        """
        try:
            with connection.transaction():
                row = connection.execute(self.query("SELECT max(version) FROM {s}.version"), ()).fetchone()
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            return 0
        found = int(row[0] or 0) if row else 0
        if found > len(STEPS):
            raise EngineError(
                f"the schema {self.name!r} is of a newer afk"
                f" (version {found}, this one knows {len(STEPS)}); upgrade afk"
            )
        return found

    def make(self, connection: Connection[tuple[Any, ...]]) -> None:
        """Make the tables, or bring them up to date; two processes that do so at once take turns.

        Raises:
            EngineError: they are of a newer afk, or the database cannot hold them.
        """
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise EngineError(
                f"the database {connection.info.dbname!r} has the encoding {encoding}; create one with ENCODING 'UTF8'"
            )
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (zlib.crc32(f"afk/{self.name}".encode()),))
            found = self.version(connection)
            if found == 0:
                there = connection.execute(
                    "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (self.name,)
                ).fetchone()
                if there is None:  # one that an administrator made needs no right on the database
                    connection.execute(self.query("CREATE SCHEMA {s}"), ())
            for number, step in enumerate(STEPS[found:], found + 1):
                for statement in step:
                    connection.execute(self.query(statement), ())
                connection.execute(self.query("UPDATE {s}.version SET version = %s"), (number,))

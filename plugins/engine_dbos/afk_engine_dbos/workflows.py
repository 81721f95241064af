"""DBOS's queue, used within our transactions: one prompt is one workflow, and its id tells a second enqueue.

`enqueue`, `claim`, `resume`, `dead_letter`, `cancel` and `delete` are functions of DBOS's client and of its system
database. They begin a transaction of their own, so their engine is replaced by our open transaction: a prompt and
its workflow change together. The system database is not public, which is why DBOS is held at a minor version.
Only `succeed` is a statement of ours, because DBOS has a function for one outcome at a time.

Inputs and outputs are JSON: DBOS's default is pickle, which runs code of whoever can write to the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, cast

import sqlalchemy as sa
from dbos import DBOSClient
from dbos._serialization import DBOSPortableJSON
from psycopg import Connection, sql

from afkcli.plugin import JsonObject, loads_object

APPLICATION: Final = "afk"
VERSION: Final = "afk-1"
"""What DBOS takes for the version of the application. It hides workflows of other versions without a word; this one
stays the same, and which afk a batch is of is kept with the batch, so that a worker of another one can say so."""
_WORKFLOW: Final = "afk.prompt"
_AT_ONCE: Final = 1000
_MAX_PRIORITY: Final = 2**31 - 1

MakeConnection = Callable[[], Connection[tuple[Any, ...]]]


class _OpenTransaction:
    """Takes the place of DBOS's engine: what it does joins the transaction that is open on our connection."""

    def __init__(self, engine: Any, connection: sa.Connection) -> None:
        self.dialect = engine.dialect
        self.url = engine.url
        self._connection = connection

    def begin(self) -> AbstractContextManager[sa.Connection]:
        return nullcontext(self._connection)

    def connect(self) -> AbstractContextManager[sa.Connection]:
        return nullcontext(self._connection)


def _client(engine: sa.Engine, schema: str) -> Any:
    return DBOSClient(
        system_database_engine=engine,
        dbos_system_schema=schema,
        serializer=DBOSPortableJSON,
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


def _engine(connect: MakeConnection) -> sa.Engine:
    return sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)


def migrate(connect: MakeConnection, schema: str) -> None:
    """Make DBOS's tables, or bring them up to date."""
    client = _client(_engine(connect), schema)
    try:
        client._sys_db.run_migrations()
    finally:
        client.destroy()


class Workflows:
    """DBOS's tables over one connection. Every method but `begin` and `close` is called within a transaction."""

    def __init__(self, connect: MakeConnection, schema: str) -> None:
        self.schema = schema
        self._client: Any = _client(_engine(connect), schema)
        self._database: Any = self._client._sys_db
        self._connection: sa.Connection = self._database.engine.connect()
        ours = _OpenTransaction(self._database.engine, self._connection)
        self._database.engine = ours
        self._database._begin = lambda isolation: nullcontext(self._connection)
        self._queues: dict[str, Any] = {}

    @property
    def connection(self) -> Connection[tuple[Any, ...]]:
        """The connection of psycopg below."""
        return cast("Connection[tuple[Any, ...]]", self._connection.connection.driver_connection)

    def begin(self) -> AbstractContextManager[Any]:
        """Return a transaction, which ends with the block."""
        begun: AbstractContextManager[Any] = self._connection.begin()
        return begun

    def close(self) -> None:
        self._connection.invalidate()
        self._connection.close()

    # -- queues and workflows ----------------------------------------------------------------------------------------

    def register(self, queue: str) -> None:
        """Make a queue. Its own limits stay open: those of a batch are of requests, not of workflows."""
        self._client.register_queue(queue, polling_interval_sec=0.1)

    def enqueue(self, queue: str, inputs: Sequence[tuple[str, int, JsonObject]]) -> None:
        """Enqueue workflows: for each its id, its place in the queue and its input. One that is there is left."""
        statuses = []
        for workflow, place, request in inputs:
            options: Any = {
                "workflow_name": _WORKFLOW,
                "queue_name": queue,
                "workflow_id": workflow,
                "app_version": VERSION,
                "priority": min(max(place, 0) + 1, _MAX_PRIORITY),
            }
            statuses.append(self._client._build_enqueue_status(options, request)[1])
        self._database.init_workflows(statuses)

    def claim(self, queue: str, worker: str, limit: int) -> list[str]:
        """Give up to `limit` workflows to a worker, and return their ids in the order of their places."""
        kept = self._queues.get(queue)
        if kept is None:
            kept = self._queues[queue] = self._database.get_queue(queue)
        kept._worker_concurrency = limit
        claimed, _ = self._database.start_queued_workflows(kept, worker, VERSION, None, is_latest_version=False)
        return list(claimed)

    def resume(self, queue: str, workflows: Sequence[str]) -> None:
        """Enqueue workflows again that have not succeeded."""
        for chunk in _chunks(workflows):
            self._database.resume_workflows(chunk, queue_name=queue)

    def dead_letter(self, workflows: Sequence[str]) -> None:
        """Have running workflows never run again by themselves."""
        self._database.dead_letter_workflows(list(workflows), min_recovery_attempts=0)

    def cancel(self, workflows: Sequence[str]) -> None:
        for chunk in _chunks(workflows):
            self._client.cancel_workflows(chunk)

    def delete(self, workflows: Sequence[str]) -> None:
        """Delete workflows with their inputs and outputs."""
        for chunk in _chunks(workflows):
            self._client.delete_workflows(chunk)

    def delete_queue(self, queue: str) -> None:
        self._queues.pop(queue, None)
        self._client.delete_queue(queue)

    def succeed(self, workflows: Sequence[str]) -> None:
        """End running workflows."""
        self._execute(
            "UPDATE {d}.workflow_status SET status = 'SUCCESS', owner_xid = NULL, deduplication_id = NULL,"
            " updated_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,"
            " completed_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            " WHERE workflow_uuid = ANY(%s) AND status = 'PENDING'",
            list(workflows),
        )

    def put_outputs(self, outputs: Mapping[str, str]) -> None:
        """Keep results, as JSON text."""
        self._execute(
            "INSERT INTO {d}.workflow_output (workflow_uuid, output)"
            " SELECT * FROM unnest(%s::text[], %s::text[])"
            " ON CONFLICT (workflow_uuid) DO UPDATE SET output = excluded.output",
            list(outputs),
            list(outputs.values()),
        )

    def drop_outputs(self, workflows: Sequence[str]) -> None:
        self._execute("DELETE FROM {d}.workflow_output WHERE workflow_uuid = ANY(%s)", list(workflows))

    def inputs(self, workflows: Sequence[str]) -> dict[str, JsonObject]:
        """Return the inputs of workflows by their ids."""
        rows = self._execute(
            "SELECT workflow_uuid, inputs FROM {d}.workflow_input WHERE workflow_uuid = ANY(%s)", list(workflows)
        )
        return {workflow: _request(text) for workflow, text in rows}

    def _execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        composed = sql.SQL(query).format(d=sql.Identifier(self.schema))
        cursor = self.connection.execute(composed, values)
        return cursor.fetchall() if cursor.description else []


def _request(text: str) -> JsonObject:
    request: JsonObject = loads_object(text)["positionalArgs"][0]
    return request


def _chunks(workflows: Sequence[str]) -> list[list[str]]:
    return [list(workflows[start : start + _AT_ONCE]) for start in range(0, len(workflows), _AT_ONCE)]

"""What is read of batches, outside their locks. Each call is one statement, so that all of it is of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from afk_engine_dbos.layout import Layout
from afk_engine_dbos.rows import SENT, Row, info_of, row_of, settled_of, to_bytes
from afk_engine_dbos.unit import key_of, queue_of, unknown
from afk_engine_dbos.workflows import Workflows
from afkcli.plugin import BatchInfo, News, SettledPrompt

_OUTPUT = " LEFT JOIN {d}.workflow_output o ON o.workflow_uuid = %s || '/' || p.number::text || '/' || p.round::text"


class Reading:
    """Reads within an open transaction."""

    def __init__(self, workflows: Workflows, layout: Layout) -> None:
        self._workflows = workflows
        self._layout = layout

    def _execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        composed = self._layout.query(query, self._workflows.schema)
        return self._workflows.connection.execute(composed, values).fetchall()

    def batch(self, name: str) -> BatchInfo | None:
        rows = self._execute("SELECT {info} FROM {s}.batch WHERE key = %s", key_of(name))
        return info_of(rows[0]) if rows else None

    def batches(self) -> list[BatchInfo]:
        rows = self._execute("SELECT {info} FROM {s}.batch ORDER BY created DESC, number DESC")
        return [info_of(row) for row in rows]

    def _known(self, name: str) -> tuple[int, BatchInfo]:
        rows = self._execute("SELECT {info} FROM {s}.batch WHERE key = %s", key_of(name))
        if not rows:
            raise unknown(name)
        return rows[0][0], info_of(rows[0])

    def prompts(self, name: str, after: int, limit: int) -> list[Row]:
        number, _ = self._known(name)
        query = "SELECT {columns} FROM {s}.prompt WHERE batch = %s AND place > %s ORDER BY place, number LIMIT %s"
        return [row_of(values) for values in self._execute(query, number, after, limit)]

    def outcomes(self, name: str, ids: Sequence[str]) -> list[SettledPrompt]:
        number, _ = self._known(name)
        rows = self._settled(
            number,
            "p.batch = %s AND p.id = ANY(%s) AND (p.sequence > 0 OR p.state = %s)",
            list(map(to_bytes, ids)),
            SENT,
        )
        found = {item.id: item for item in rows}
        return [found[id_] for id_ in ids if id_ in found]

    def watch(self, name: str, after: int, limit: int) -> News:
        """Return the outcomes after a sequence, and the batch as it is after them.

        The outcomes are read first: the counts of a later moment may have more of them, but not fewer.
        """
        number, _ = self._known(name)
        condition = "p.batch = %s AND p.sequence > %s AND p.sequence > 0 ORDER BY p.sequence LIMIT %s"
        outcomes = self._settled(number, condition, after, limit)
        return News(batch=self._known(name)[1], outcomes=outcomes)

    def _settled(self, number: int, condition: str, *values: object) -> list[SettledPrompt]:
        query = "SELECT {columns_of_p}, o.output FROM {s}.prompt p" + _OUTPUT + f" WHERE {condition}"  # noqa: S608
        rows = self._execute(query, queue_of(self._layout, number), number, *values)
        return [settled_of(row_of(row[:-1]), row[-1]) for row in rows]

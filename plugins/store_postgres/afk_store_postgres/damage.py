"""A thread's metadata, made again from its records where its row is damaged, so that no turn becomes unreachable."""

from __future__ import annotations

from afk_store_postgres import rows
from afk_store_postgres.connections import WatchedConnection
from afk_store_postgres.layout import Layout
from afkcli.plugin import StoreError, ThreadInfo, info_from_records

RECORDS = (
    f"SELECT {rows.RECORD_COLUMNS}, octet_length(body),"  # noqa: S608
    f" CASE WHEN octet_length(body) <= {rows.LARGEST_BODY} THEN body END"
    " FROM {s}.record WHERE thread = %s AND index > %s"
)


def info_again(connection: WatchedConnection, layout: Layout, key: str, name: str) -> ThreadInfo:
    """Return the metadata of the thread `key` as its records tell it.

    Raises:
        StoreError: there are no records either.
    """
    query = layout.query(f"{RECORDS} ORDER BY index")
    records = [rows.record_of(row) for row in connection.execute(query, (key, -1), binary=True).fetchall()]
    if not records:
        raise StoreError(f"thread {name!r} is damaged in PostgreSQL; restore it from a backup")
    return info_from_records(key, name, records)

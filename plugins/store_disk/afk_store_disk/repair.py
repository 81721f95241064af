"""A thread's metadata, made again from its records where its row is damaged, so that no turn becomes unreachable."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from afk_store_disk import rows
from afkcli.plugin import (
    Record,
    StoreError,
)

if TYPE_CHECKING:
    from afk_store_disk.buffer import Rows


def find_thread(cache: Rows, name: str) -> rows.InfoRow | None:
    """Return the metadata of the thread `name`, or None if there is no such thread.

    The name is kept in two rows, and the metadata has it too, so no single damage makes a thread look new.

    Raises:
        StoreError: the rows of the name are damaged and no thread has it.
    """
    damaged = False
    for row_key in rows.name_keys(name):
        text, there = cache.text_if_sound(row_key)
        row = read_info(cache, text.strip('"')) if text else None
        if row is not None and row.info.name == name:
            return row
        damaged = damaged or there
    return _find_by_metadata(cache, name) if damaged else None


def read_info(cache: Rows, key: str) -> rows.InfoRow | None:
    """Return the metadata of the thread `key`, from its row or, if that is damaged or missing, from its records."""
    return info_of(cache, key, cache.text_if_sound(rows.info_key(key))[0])


def read_lease(cache: Rows, key: str) -> tuple[rows.Holder | None, rows.InfoRow | None]:
    """Return the holder and the metadata of the thread `key`, by one statement: their rows are neighbours."""
    texts = cache.neighbours(rows.holder_key(key), rows.info_key(key))
    return rows.holder_from_text(texts.get(rows.holder_key(key))), info_of(cache, key, texts.get(rows.info_key(key)))


def info_of(cache: Rows, key: str, text: str | None) -> rows.InfoRow | None:
    """Return the metadata of the thread `key`, whose row has `text`, or as its records tell it."""
    row = rows.info_from_text(text) if text else None
    if row is not None and row.info.key == key:
        return row
    records = _all_records(cache, key)
    if not records:
        return None
    from afkcli.plugin import info_from_records  # not at the top: a list of threads does not need it

    return rows.InfoRow(info_from_records(key, _name(cache, key), records), _number(cache, key))


def _all_records(cache: Rows, key: str) -> list[Record]:
    """Return the records of the thread `key` that are anywhere in the table, or that the index leads to.

    Where a key is damaged in one of both, the other still has the record; a turn that was overlooked would get its
    number, and its place, from the next one.
    """
    texts = cache.scanned_texts(*rows.all_under(rows.thread_prefix(key)))
    parts = (f"{rows.part_prefix(key, rows.KEPT)}/", f"{rows.part_prefix(key, rows.OPEN)}/")
    records = [rows.record_from_text(row, text) for row, text in texts if row.startswith(parts)]
    with suppress(sqlite3.DatabaseError):  # the index may be what is damaged
        scanned = {record.index for record in records if record.hash}
        records += [record for record in read_records(cache, key) if record.hash and record.index not in scanned]
    return sorted(records, key=lambda record: record.index)


def _find_by_metadata(cache: Rows, name: str) -> rows.InfoRow:
    for key in rows.changed_threads(cache.keys(rows.CHANGED)):
        row = read_info(cache, key)
        if row is not None and row.info.name == name:
            return row
    raise StoreError(f"the name {name!r} is damaged in {cache.file}; restore it from a backup")


def read_records(
    cache: Rows, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False
) -> list[Record]:
    """Return the records of the thread `key` as `Store.load` does."""
    if limit is None and not reverse:  # by one statement: open turns come behind what is kept
        start, end = rows.kept_from(key, after + 1)[0], rows.all_under(rows.part_prefix(key, rows.OPEN))[1]
        found = [rows.record_from_text(row, text) for row, text in cache.texts(start, end)]
        return sorted((record for record in found if record.index > after), key=lambda record: record.index)
    kept = cache.texts(*rows.kept_from(key, after + 1), limit=-1 if limit is None else limit, reverse=reverse)
    records = [rows.record_from_text(row, text) for row, text in kept]
    opened = (
        rows.record_from_text(row, text) for row, text in cache.texts(*rows.all_under(rows.part_prefix(key, rows.OPEN)))
    )
    records.extend(record for record in opened if record.index > after)
    records.sort(key=lambda record: record.index, reverse=reverse)
    return records[:limit]


def _name(cache: Rows, key: str) -> str:
    """Return the name that leads to the thread `key`, or the key itself."""
    names = cache.scanned_texts(*rows.all_under(rows.NAME))
    return next((row.partition("/")[2] for row, text in names if text == f'"{key}"'), key)


def _number(cache: Rows, key: str) -> int:
    """Return the number of the thread's last change, 0 if it has none."""
    return rows.changed_threads(cache.keys(rows.CHANGED)).get(key, 0)

"""A thread's metadata, made again from its records where its row is damaged, so that no turn becomes unreachable."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from afk_store_disk import rows
from afk_store_disk.cache import ThreadCache
from afkcli.plugin import (
    JsonError,
    OpenTurn,
    Record,
    RecordKind,
    SealedTurn,
    StoreError,
    ThreadInfo,
    advance,
    after_seal,
    loads_object,
    rfc3339,
    title_of,
    turn_from_json,
)


def find_thread(cache: ThreadCache, name: str) -> rows.InfoRow | None:
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


def read_info(cache: ThreadCache, key: str) -> rows.InfoRow | None:
    """Return the metadata of the thread `key`, from its row or, if that is damaged or missing, from its records."""
    text, _ = cache.text_if_sound(rows.info_key(key))
    row = rows.info_from_text(text) if text else None
    if row is not None and row.info.key == key:
        return row
    records = _all_records(cache, key)
    return rows.InfoRow(info_from_records(key, _name(cache, key), records), _number(cache, key)) if records else None


def _all_records(cache: ThreadCache, key: str) -> list[Record]:
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


def _find_by_metadata(cache: ThreadCache, name: str) -> rows.InfoRow:
    for key in rows.changed_threads(cache.keys(rows.CHANGED)):
        row = read_info(cache, key)
        if row is not None and row.info.name == name:
            return row
    raise StoreError(f"the name {name!r} is damaged in {cache.file}; restore it from a backup")


def read_records(
    cache: ThreadCache, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False
) -> list[Record]:
    """Return the records of the thread `key` as `Store.load` does."""
    kept = cache.texts(*rows.kept_from(key, after + 1), limit=-1 if limit is None else limit, reverse=reverse)
    records = [rows.record_from_text(row, text) for row, text in kept]
    opened = (
        rows.record_from_text(row, text) for row, text in cache.texts(*rows.all_under(rows.part_prefix(key, rows.OPEN)))
    )
    records.extend(record for record in opened if record.index > after)
    records.sort(key=lambda record: record.index, reverse=reverse)
    return records[:limit]


def info_from_records(key: str, name: str, records: Sequence[Record]) -> ThreadInfo:
    """Return the metadata that `records` tell of. Folder, tags and parent are not in them and are lost."""
    created = _created(key)
    info = ThreadInfo(key=key, name=name, created=created, used=created)
    for record in records:
        info = replace(advance(info, record), turns=max(info.turns, record.turn))
        if record.kind is RecordKind.SEAL:
            info = _with_seal(info, record)
        elif record.kind is RecordKind.QUESTION:
            info = _with_question(info, record)
    return info


def _with_seal(info: ThreadInfo, record: Record) -> ThreadInfo:
    try:
        turn = turn_from_json(loads_object(record.body))
    except JsonError:
        return info
    info = after_seal(info, turn)
    return replace(info, agent=turn.agent, model=turn.model, title=info.title or _title(turn))


def _with_question(info: ThreadInfo, record: Record) -> ThreadInfo:
    try:
        run_id = str(loads_object(record.body).get("run_id", ""))
    except JsonError:
        run_id = ""
    opened = OpenTurn(turn=record.turn, run_id=run_id, index=record.index, started=_created(run_id))
    return replace(info, open_turn=opened, used=opened.started)


def _title(turn: SealedTurn) -> str | None:
    return title_of(turn.messages[0].text) if turn.messages else None


def _created(identity: str) -> str:
    """Return the time in a UUIDv7 (its first 48 bits are milliseconds since the epoch; RFC 9562, section 5.7)."""
    try:
        return rfc3339(int(identity.replace("-", "")[:12], 16) / 1000)
    except (ValueError, OSError, OverflowError):
        return rfc3339(0)


def _name(cache: ThreadCache, key: str) -> str:
    """Return the name that leads to the thread `key`, or the key itself."""
    names = cache.scanned_texts(*rows.all_under(rows.NAME))
    return next((row.partition("/")[2] for row, text in names if text == f'"{key}"'), key)


def _number(cache: ThreadCache, key: str) -> int:
    """Return the number of the thread's last change, 0 if it has none."""
    return rows.changed_threads(cache.keys(rows.CHANGED)).get(key, 0)

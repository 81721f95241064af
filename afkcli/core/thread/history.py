"""What a thread's records say: a fold over all of them. Damage is named and left out; the rest is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import JsonError, loads_object
from afkcli.core.contract.protocols import THREAD_SCHEMA, Record, RecordKind, Store, ThreadInfo
from afkcli.core.thread.changes import ThreadChange, read_change
from afkcli.core.thread.records import Chain, Fault
from afkcli.core.thread.turns import SealedTurn, turn_from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a thread's records say.

    `turns` are the sealed ones in order, `changes` those of the thread itself, `open_records` the question and the
    journal of a turn that is not sealed. `damage` names each thing that is damaged or missing, one line each.
    """

    turns: tuple[SealedTurn, ...] = ()
    changes: tuple[ThreadChange, ...] = ()
    open_records: tuple[Record, ...] = ()
    damage: tuple[str, ...] = ()


def fold(thread: ThreadInfo, records: Iterable[Record]) -> History:
    """Return what all `records` of `thread` say, their hashes and their chain checked.

    Raises:
        UnsupportedRecordError: the thread has a newer schema, or a `meta` record of a kind or version that this afk
            does not know. What a later version records is never ignored silently.
    """
    if thread.schema > THREAD_SCHEMA:
        raise UnsupportedRecordError(
            f"the thread {thread.name!r} was written by a newer afk (schema version {thread.schema}): upgrade afk"
        )
    turns: list[SealedTurn] = []
    changes: list[ThreadChange] = []
    damage: list[str] = []
    open_records: list[Record] = []
    chain = Chain(thread.key)
    for record in records:
        label = f"turn {record.turn} of thread {thread.name!r} (record {record.index})"
        fault = chain.follow(record)
        if fault is Fault.DAMAGED:
            damage.append(f"{label} is damaged: its checksum does not match")
            continue
        if fault is Fault.GAP:
            damage.append(f"a record before {label} is missing or damaged")
        try:
            body = loads_object(record.body)
            if record.kind is RecordKind.SEAL:
                turns.append(turn_from_json(body))
            elif record.kind is RecordKind.META:
                changes.append(read_change(thread.name, record, body))
            else:
                open_records.append(record)
        except JsonError as error:
            damage.append(f"{label} cannot be read: {error}")
    if not chain.ends_at(thread):
        damage.append(f"the last record of thread {thread.name!r} is missing")
    return History(turns=tuple(turns), changes=tuple(changes), open_records=tuple(open_records), damage=tuple(damage))


def load_history(store: Store, thread: ThreadInfo) -> History:
    """Read and fold all records of `thread`.

    Raises:
        UnsupportedRecordError: as `fold`.
        StoreError: the store failed.
    """
    return fold(thread, store.load(thread.key))

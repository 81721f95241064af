"""The records of a thread: how the next one is made, and the check of their hashes and their chain."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from afkcli.core.contract.jsonform import JsonObject, dumps, utf8_slices
from afkcli.core.contract.protocols import KEPT_KINDS, LargeRecord, Record, RecordKind, ThreadInfo
from afkcli.core.contract.structs import replace

if TYPE_CHECKING:
    from hashlib import _Hash

_SHORT = 1 << 16
"""A body of at most so many characters is hashed in one go, together with the other fields."""


@cache
def _sha256() -> Callable[[bytes], _Hash]:
    from hashlib import sha256  # not at the top: it loads OpenSSL, which a list of threads does not need

    return sha256


def record_hash(key: str, record: Record) -> str:
    """Return the SHA-256 (hex) over the thread's key and all fields of `record` but its hash."""
    fields, body = f"{key}\n{record.index}\n{record.kind}\n{record.turn}\n{record.prev}\n", record.body
    if len(body) <= _SHORT:
        return _sha256()((fields + body).encode()).hexdigest()
    digest = _sha256()(fields.encode())
    for piece in utf8_slices(body):
        digest.update(piece)
    return digest.hexdigest()


def next_record(thread: ThreadInfo, kind: RecordKind, turn: int, body: JsonObject) -> Record:
    """Return the record that follows the last one of `thread`."""
    prev = thread.kept_head if kind in KEPT_KINDS else thread.head
    record = Record(index=thread.next_index, kind=kind, turn=turn, prev=prev, body=dumps(body), hash="")
    return replace(record, hash=record_hash(thread.key, record))


def advance(thread: ThreadInfo, record: Record) -> ThreadInfo:
    """Return `thread` as it is after `record` was appended."""
    kept = record.hash if record.kind in KEPT_KINDS else thread.kept_head
    return replace(thread, head=record.hash, kept_head=kept, next_index=record.index + 1)


class Fault(StrEnum):
    """What is wrong with a record in its chain."""

    DAMAGED = "damaged"
    GAP = "gap"


class Chain:
    """Follows the records of the thread `key` in order, and checks the hash of each and its link to those before it.

    This is the one check of the chain: the fold of a history continues after a fault, an import stops at it.

    Args:
        key: the thread.
        first: the record that it begins with, where that is not the first one of the thread; its link is not checked.
    """

    def __init__(self, key: str, first: Record | None = None) -> None:
        self.key = key
        self.head = self.kept_head = first.prev if first is not None else ""

    def pass_over(self, record: LargeRecord) -> Fault | None:
        """Move on to a record whose body was not read, so that its hash cannot be checked; as `follow` otherwise."""
        return self._move(record)

    def _move(self, record: Record) -> Fault | None:
        kept = record.kind in KEPT_KINDS
        before = self.kept_head if kept else self.head
        self.head = record.hash
        if kept:
            self.kept_head = record.hash
        return Fault.GAP if record.prev != before else None

    def follow(self, record: Record) -> Fault | None:
        """Move on to `record`.

        Returns:
            `DAMAGED` if the hash does not match its fields, `GAP` if a record before it is missing or damaged, or None.
        """
        fault = self._move(record)
        return Fault.DAMAGED if record_hash(self.key, record) != record.hash else fault

    def ends_at(self, thread: ThreadInfo) -> bool:
        """Return whether the last record was the last one of `thread`."""
        return (self.head, self.kept_head) == (thread.head, thread.kept_head)

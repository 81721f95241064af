"""A store in the memory of this process: nothing is written to disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from afkcli.core.contract.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.protocols import (
    KEPT_KINDS,
    LEASE_SECONDS,
    NO_CONTENTS,
    Lease,
    Operation,
    OperationResult,
    Owner,
    Record,
    RecordKind,
    ThreadInfo,
)
from afkcli.core.contract.structs import Struct, field, replace
from afkcli.core.thread.batch import carry_out


class _Kept(Struct):
    info: ThreadInfo
    records: dict[int, Record] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    owner: Owner | None = None
    expires: float = 0.0


class MemoryStore:
    """The `Store` contract in its simplest form; safe to use from several threads.

    All owners are in this process, so no owner is ever proven dead: an abandoned lease ends when it expires.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._threads: dict[str, _Kept] = {}
        self._keys: dict[str, str] = {}
        self._counters: dict[str, float] = {}

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        with self._lock:
            kept = self._named(name)
            if kept is None:
                if not create:
                    raise UnknownNameError(f"there is no thread {name!r}")
                if key in self._threads:
                    raise StoreError(f"another thread has the key of {name!r}")
                now = rfc3339(time.time())
                kept = _Kept(info=ThreadInfo(key=key or uuid7(), name=name, created=now, used=now))
                self._threads[kept.info.key] = kept
                self._keys[name] = kept.info.key
            if kept.token and kept.expires > time.monotonic():
                return None
            kept.token, kept.owner, kept.expires = uuid7(), owner, time.monotonic() + LEASE_SECONDS
            return Lease(token=kept.token, thread=kept.info, expires=kept.expires)

    def put(self, info: ThreadInfo, records: Sequence[Record], contents: Mapping[str, bytes] = NO_CONTENTS) -> None:
        """Take a thread as it is in another store. Since: 0.2."""
        with self._lock:
            kept = {record.index: record for record in records}
            self._threads[info.key] = _Kept(info=info, records=kept, contents=dict(contents))
            self._keys[info.name] = info.key

    def holder(self, name: str) -> Owner | None:
        with self._lock:
            kept = self._named(name)
            return kept.owner if kept and kept.token and kept.expires > time.monotonic() else None

    def renew(self, lease: Lease) -> Lease:
        with self._lock:
            kept = self._held(lease)
            kept.expires = time.monotonic() + LEASE_SECONDS
            return replace(lease, thread=kept.info, expires=kept.expires)

    def release(self, lease: Lease) -> None:
        with self._lock:
            kept = self._threads.get(lease.thread.key)
            if kept is None or kept.token != lease.token:
                return
            kept.token, kept.owner = "", None
            if not kept.info.head:
                del self._threads[kept.info.key], self._keys[kept.info.name]

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        with self._lock:
            kept = self._held(lease)
            if kept.info.head != expected_head:
                raise HeadMismatchError(f"thread {thread.name!r} has changed since it was read")
            if thread.name != kept.info.name:
                if thread.name in self._keys:
                    raise NameTakenError(f"there is already a thread {thread.name!r}; choose another name")
                self._keys[thread.name] = self._keys.pop(kept.info.name)
            for record in records:
                if record.kind is RecordKind.SEAL:
                    kept.records = {
                        index: old
                        for index, old in kept.records.items()
                        if old.kind in KEPT_KINDS or old.turn != record.turn
                    }
                kept.records[record.index] = record
            kept.contents.update(contents)
            kept.info = thread

    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        with self._lock:
            kept = self._threads.get(key)
            indexes = sorted((index for index in kept.records if index > after), reverse=reverse) if kept else []
            return [kept.records[index] for index in indexes[:limit]] if kept else []

    def content(self, key: str, sha256: str) -> bytes | None:
        with self._lock:
            kept = self._threads.get(key)
            return kept.contents.get(sha256) if kept else None

    def find(self, name: str) -> ThreadInfo | None:
        with self._lock:
            kept = self._named(name)
            return kept.info if kept else None

    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        with self._lock:
            kept = [item for item in self._threads.values() if item.info.head]
            if folder is not None:
                kept = [item for item in kept if item.info.folder == folder]
            if search is not None:
                kept = [item for item in kept if _matches(item, search)]
            kept.sort(key=lambda item: (item.info.used, item.info.key), reverse=True)
            return [item.info for item in kept[:limit]]

    def delete(self, lease: Lease) -> None:
        with self._lock:
            kept = self._held(lease)
            del self._threads[kept.info.key], self._keys[kept.info.name]

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        with self._lock:
            value = self._counters.get(counter, 0.0) + amount
            if limit is not None and value > limit:
                raise CounterLimitError(f"the counter {counter!r} would pass its limit of {limit}")
            self._counters[counter] = value
            return value

    def counters(self, prefix: str) -> Mapping[str, float]:
        with self._lock:
            return {name: value for name, value in self._counters.items() if name.startswith(prefix)}

    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        with self._lock:  # other threads see all of them or none
            return [self._result(operation) for operation in operations]

    def close(self) -> None:
        """Nothing to close."""

    def _result(self, operation: Operation) -> OperationResult:
        try:
            return carry_out(self, operation)  # every method checks before it writes
        except Exception as error:
            return error

    def _named(self, name: str) -> _Kept | None:
        key = self._keys.get(name)
        return self._threads[key] if key is not None else None

    def _held(self, lease: Lease) -> _Kept:
        kept = self._threads.get(lease.thread.key)
        if kept is None or kept.token != lease.token:
            raise LeaseLostError(f"another run took over the thread {lease.thread.name!r}")
        return kept


def _matches(kept: _Kept, search: str) -> bool:
    bodies = (record.body for record in kept.records.values() if record.kind is RecordKind.SEAL)
    text = " ".join([kept.info.name, kept.info.title or "", *bodies])
    return all(word.lower() in text.lower() for word in search.split())

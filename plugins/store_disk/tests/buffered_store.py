"""The disk store with every call made as an operation that is buffered, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afk_store_disk.store import DiskStore

from afkcli.plugin import (
    NO_CONTENTS,
    Acquire,
    Add,
    Append,
    Lease,
    Operation,
    OperationResult,
    Owner,
    Record,
    Release,
    Renew,
    ThreadInfo,
)


class Buffered(DiskStore):
    """Makes every call as an operation that is buffered."""

    buffered_from = 1

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        return self._one(Acquire(name, owner, create, key))  # type: ignore[return-value]

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        self._one(Append(thread, records, expected_head, lease, contents))

    def renew(self, lease: Lease) -> Lease:
        return self._one(Renew(lease))  # type: ignore[return-value]

    def release(self, lease: Lease) -> None:
        self._one(Release(lease))

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        return self._one(Add(counter, amount, limit))  # type: ignore[return-value]

    def _one(self, operation: Operation) -> OperationResult:
        (result,) = self.apply([operation])
        if isinstance(result, Exception):
            raise result
        return result

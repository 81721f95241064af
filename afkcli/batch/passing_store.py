"""A store for runs of which no thread is kept: each thread is forgotten with its lease, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from afkcli.core.contract.errors import LeaseLostError
from afkcli.core.contract.protocols import Lease, Store
from afkcli.core.thread.memory_store import MemoryStore


class PassingStore(MemoryStore):
    """Keeps a thread as long as its run lasts. Budgets are counted in the user's store, which `open_real` opens."""

    def __init__(self, open_real: Callable[[], Store]) -> None:
        super().__init__()
        self._open_real = open_real
        self._real: Store | None = None

    def release(self, lease: Lease) -> None:
        with suppress(LeaseLostError):
            self.delete(lease)

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        if self._real is None:
            self._real = self._open_real()
        return self._real.add(counter, amount, limit)

    def counters(self, prefix: str) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        if self._real is not None:
            self._real.close()

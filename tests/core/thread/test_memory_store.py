"""The store in memory keeps the contract of every store."""

from __future__ import annotations

from pathlib import Path

from afkcli.core.contract.protocols import Store
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_model import model_test


class TestMemoryStore(StoreContract):
    keeps_on_disk = False
    proves_death = False

    def make_store(self, path: Path) -> Store:
        return MemoryStore()


TestMemoryStoreLikeTheModel = model_test(lambda _: MemoryStore(), keeps_on_disk=False, proves_death=False)

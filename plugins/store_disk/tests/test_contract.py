"""The disk store keeps the contract of every store."""

from __future__ import annotations

from pathlib import Path

from afk_store_disk.store import DiskStore

from afkcli.plugin import Store
from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_model import model_test


class TestDiskStore(StoreContract):
    def make_store(self, path: Path) -> Store:
        return DiskStore(path)


TestDiskStoreLikeTheModel = model_test(DiskStore)

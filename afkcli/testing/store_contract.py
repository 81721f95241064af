"""The contract of a store as a test suite: what `afkcli.core.contract.protocols.Store` promises, sentence by sentence.

For the author of a store. In your tests:

    from afkcli.testing.store_contract import StoreContract
    from afkcli.testing.store_model import model_test

    def make_store(path):                        # `path` is a folder that is empty at first
        return MyStore(path / "threads")         # the same path opens the same threads again

    class TestMyStore(StoreContract):
        def make_store(self, path):
            return make_store(path)

    TestMyStoreLikeTheModel = model_test(make_store)

`model_test` compares the store with a model of a few lines, through random calls and with crashes in between: the store
is dropped without `close` and opened again. A store that keeps nothing on disk sets `keeps_on_disk = False` and passes
`keeps_on_disk=False`; one that cannot tell whether an owner is dead sets `proves_death = False`. Time is made to pass
by moving `time.time` and `time.monotonic`; a store that counts leases by another clock overrides `pass_time` and sets
`has_own_clock = True`. What several processes do on one store is tried with forked processes that call `make_store`.

A store on a server also overrides `drop_store`, `cut_connections` and `lose_power` (since 0.2).

Each part of the suite is a module of its own: `store_lease_contract`, `store_record_contract`, `listing_contract`,
`store_search_contract`, `store_batch_contract` and `store_sharing_contract`.

Needs `pytest` and `hypothesis`.
"""

from __future__ import annotations

from pathlib import Path

from afkcli.core.contract.protocols import Store
from afkcli.testing.listing_contract import ListingContract
from afkcli.testing.store_batch_contract import BatchContract
from afkcli.testing.store_lease_contract import LeaseContract
from afkcli.testing.store_record_contract import RecordContract
from afkcli.testing.store_search_contract import SearchContract
from afkcli.testing.store_sharing_contract import SharingContract


class StoreContract(LeaseContract, RecordContract, ListingContract, SearchContract, BatchContract, SharingContract):
    """Subclass it as `TestSomething` and give `make_store`; see the head of this module."""

    def make_store(self, path: Path) -> Store:
        """Open the store in the folder `path`."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass by the store's clock."""
        super().pass_time(seconds)

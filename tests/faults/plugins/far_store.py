"""The store on PostgreSQL of a process that believes to be on the host AFK_TEST_HOST."""

from __future__ import annotations

import os
from collections.abc import Sequence

import afk_store_postgres.store

import afkcli.host.owner
from afkcli import hookimpl
from afkcli.plugin import Acquire, Lease, Operation, OperationResult, Owner, Store, replace

AFK_HOOKS = 1


class FarStore(afk_store_postgres.store.PostgresStore):
    """Takes leases as an owner on another host, and looks at those of others from there."""

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        return super().acquire(name, _far(owner), create=create, key=key)

    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        return super().apply(
            [item._replace(owner=_far(item.owner)) if isinstance(item, Acquire) else item for item in operations]
        )


def _far(owner: Owner) -> Owner:
    return replace(owner, host=os.environ["AFK_TEST_HOST"])


@hookimpl
def afk_store(settings: object) -> Store:
    vars(afkcli.host.owner)["_host"] = lambda: os.environ["AFK_TEST_HOST"]
    afkcli.host.owner._this_process.cache_clear()
    return FarStore(os.environ["AFK_DATABASE_URL"])

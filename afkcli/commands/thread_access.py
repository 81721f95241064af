"""What the commands on threads share: the store of this folder, and the owner of the leases that they take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from afkcli.commands.context import invocation
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.protocols import Owner, Store
from afkcli.host.owner import current_owner


@contextlib.contextmanager
def opened_store() -> Iterator[Store]:
    """Open the store that `afk run` uses in this folder, and close it at the end."""
    from afkcli.wiring.assembly import load_setup
    from afkcli.wiring.plugin_objects import open_store

    store = open_store(load_setup(invocation(), project=True))
    try:
        yield store
    finally:
        store.close()


def command_owner() -> Owner:
    """Return who holds a lease that a command takes: this process, with an id of its own in place of a run's."""
    return current_owner(uuid7())

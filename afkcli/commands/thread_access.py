"""What the commands on threads share: the store, a thread by its name, its lease, and its state as it is now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from afkcli.core.contract.errors import LeaseLostError, StoreError, ThreadBusyError, UnknownNameError
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.protocols import Lease, Store, ThreadInfo
from afkcli.core.thread.history import check_name, load_history, seal_interrupted
from afkcli.host.owner import current_owner

RUNNING = "running"
INTERRUPTED = "interrupted"


@contextlib.contextmanager
def opened_store() -> Iterator[Store]:
    """Open the store that `afk run` uses in this folder, and close it at the end."""
    from afkcli.wiring.setup import load_setup

    store = load_setup(project=True).open_store()
    try:
        yield store
    finally:
        store.close()


def find_thread(store: Store, name: str) -> ThreadInfo:
    """Return the thread `name`.

    Raises:
        UnknownNameError: there is none; the error names those that are called nearly so.
        InvalidNameError: no thread can be called so.
    """
    name = check_name(name)
    found = store.find(name)
    if found is not None:
        return found
    raise unknown_thread(store, name)


def unknown_thread(store: Store, name: str) -> UnknownNameError:
    """Return the error for a thread that does not exist."""
    from difflib import get_close_matches

    near = get_close_matches(name, [info.name for info in store.list()], n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "`afk threads` lists those that there are"
    return UnknownNameError(f"there is no thread {name!r}; {hint}")


@contextlib.contextmanager
def held(store: Store, name: str) -> Iterator[Lease]:
    """Hold the lease of the thread `name`, taken without waiting; a turn that a dead run left open is sealed first.

    Raises:
        ThreadBusyError: a run holds the thread.
        UnknownNameError: there is no such thread (any more).
    """
    lease = store.acquire(name, current_owner(uuid7()), create=False)
    if lease is None:
        holder = store.holder(name)
        who = f" by process {holder.pid} on {holder.host}" if holder else ""
        raise ThreadBusyError(f"the thread {name!r} is in use{who}; try again when its run has ended")
    try:
        if lease.thread.open_turn is not None:
            lease, _ = seal_interrupted(store, lease, load_history(store, lease.thread))
        yield lease
    finally:
        with contextlib.suppress(StoreError):
            store.release(lease)


def settled(store: Store, info: ThreadInfo) -> tuple[ThreadInfo, str | None]:
    """Return the thread and its state as they are now: `running`, or how its last turn ended (None: it has no turn).

    A turn whose owner is gone is sealed as `interrupted`. Where that cannot be written it is shown so all the same.
    """
    if info.open_turn is None:
        return info, info.last_state
    try:
        with held(store, info.name) as lease:
            return lease.thread, lease.thread.last_state
    except (ThreadBusyError, LeaseLostError):
        return info, RUNNING
    except StoreError:
        return info, INTERRUPTED

"""Deletes unnamed threads that nobody used for long, and tells which rescued turns were restored.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from afkcli.core.contract.errors import AfkError, LeaseLostError, UnknownNameError
from afkcli.core.contract.jsonform import JsonError, loads_object
from afkcli.core.contract.protocols import Owner, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.thread.exchange import RescuedTurn
from afkcli.core.thread.history import load_history
from afkcli.core.thread.listing import each_thread
from afkcli.core.thread.pages import records_in_pages
from afkcli.core.thread.short_names import is_unnamed
from afkcli.core.thread.turn_text import turn_text


def forgotten_threads(store: Store, before: str, keep: Collection[str]) -> Iterator[ThreadInfo]:
    """Yield the unnamed threads that were last used before a time, the last used first.

    A thread is unnamed if its name is the id of its first run. One that has a tag, that was ever renamed, or whose last
    turn is not finished, is not yielded.

    Args:
        store: where the threads are.
        before: the time, in RFC 3339.
        keep: the names of threads that are kept.

    Raises:
        StoreError: the store failed.
    """
    for info in each_thread(store):
        if info.name not in keep and _may_go(info, before) and _was_never_named(store, info):
            yield info


def delete_forgotten(store: Store, info: ThreadInfo, before: str, owner: Callable[[], Owner]) -> bool:
    """Delete one of `forgotten_threads`, unless it is in use or was used meanwhile; return whether it was deleted."""
    try:
        lease = store.acquire(info.name, owner(), create=False)
    except UnknownNameError:
        return False
    if lease is None:
        return False
    try:
        same = (lease.thread.key, lease.thread.head) == (info.key, info.head)
        if same and _may_go(lease.thread, before):
            store.delete(lease)
            return True
    except LeaseLostError:
        return False
    store.release(lease)
    return False


def _may_go(info: ThreadInfo, before: str) -> bool:
    if info.used >= before or info.tags or not is_unnamed(info.name):
        return False
    return info.open_turn is None and info.last_state != RunState.INTERRUPTED.value


def _was_never_named(store: Store, info: ThreadInfo) -> bool:
    """Return whether a thread is called by its first run, and no record changes its name or its tags."""
    first: str | None = None
    for record in records_in_pages(store, info.key, end=info.next_index):
        if record.kind is RecordKind.META and _names_it(record.body):
            return False
        turn = turn_text(record) if first is None else None
        first = turn.run_id if turn is not None else first
        if first not in (None, info.name):
            return False
    return first is not None


def _names_it(body: str) -> bool:
    """Return whether a change of a thread gives it a name or tags; so may one that cannot be read."""
    try:
        form = loads_object(body)
    except JsonError:
        return True
    changes = form.get("changes", {}) if form.get("kind", "changed") == "changed" else {}
    return not isinstance(changes, dict) or not changes.keys().isdisjoint({"name", "title", "tags"})


def is_restored(store: Store, rescued: RescuedTurn) -> bool:
    """Return whether a turn that could not be saved is in its thread now, or in a thread that was made for it.

    Raises:
        StoreError: the store failed.
    """
    run_id = rescued.turn.run_id
    there = store.find(rescued.thread_id)
    threads = [there] if there is not None else []
    threads += [info for info in each_thread(store) if info.last_run_id == run_id]
    return any(_has(store, info, rescued) for info in threads)


def _has(store: Store, info: ThreadInfo, rescued: RescuedTurn) -> bool:
    try:
        turns = load_history(store, info).turns
    except AfkError:  # of a thread that cannot be read nothing is known
        return False
    same = [turn for turn in turns if turn.run_id == rescued.turn.run_id]
    return any(turn.state is not RunState.INTERRUPTED or turn.messages == rescued.turn.messages for turn in same)

"""What the turns of threads took: read from their seals without the messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import JsonError, loads_object
from afkcli.core.contract.protocols import LargeRecord, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.thread.changes import Compaction, read_change
from afkcli.core.thread.listing import each_thread
from afkcli.core.thread.seals import Seal


class TurnUsage(FrozenStruct, kw_only=True):
    """What one turn took, or a compaction, which is no turn (`turns` is 0).

    `started` is RFC 3339; `cost_usd` is None where it is not known. Since: 0.2.
    """

    thread: ThreadInfo
    started: str
    agent: str
    model: str
    usage: Usage
    cost_usd: float | None
    turns: int = 1


def each_usage(
    store: Store,
    damaged: Callable[[str], None],
    *,
    thread: ThreadInfo | None = None,
    since: str = "",
    until: str = "~",
) -> Iterator[TurnUsage]:
    """Yield what each turn and each compaction took, those that are set aside or undone too.

    What forks have as well counts for its source.

    Args:
        store: where the threads are kept.
        damaged: called with one line for each turn that cannot be read.
        thread: the one thread that counts; all threads by default.
        since, until: RFC 3339 times; only turns that started from the first and before the second.

    Raises:
        StoreError: the store failed.
    """
    seen: set[str] = set()
    threads = [thread] if thread is not None else [info for info in each_thread(store) if info.used >= since]
    for thread in sorted(threads, key=lambda thread: thread.key):  # by their age: a fork comes after its source
        for record in store.load(thread.key):
            try:
                found = _paid(thread, record)
            except JsonError:
                damaged(f"turn {record.turn} of thread {thread.name!r} cannot be read, and is not counted")
                continue
            if found is None or found.id in seen or not since <= found.taken.started < until:
                continue
            seen.add(found.id)
            yield found.taken


class _Paid(NamedTuple):
    """What was paid for in the run or the compaction `id`, which is the same in every fork."""

    id: str
    taken: TurnUsage


def _paid(thread: ThreadInfo, record: Record) -> _Paid | None:
    """Return what was paid for in a record, None if nothing was; `JsonError` if it cannot be read."""
    if record.kind is RecordKind.META:
        return _paid_for_compaction(thread, record)
    if record.kind is not RecordKind.SEAL:
        return None
    if isinstance(record, LargeRecord):
        raise JsonError("it is too large to be read")
    turn = Seal(record.body).turn
    taken = TurnUsage(
        thread=thread,
        started=turn.started,
        agent=turn.agent,
        model=turn.model,
        usage=turn.usage,
        cost_usd=turn.cost_usd,
    )
    return _Paid(turn.run_id, taken)


def _paid_for_compaction(thread: ThreadInfo, record: Record) -> _Paid | None:
    try:
        made = read_change(thread.name, record, loads_object(record.body))
    except (JsonError, UnsupportedRecordError):  # what a change means is the matter of the fold
        return None
    if not isinstance(made, Compaction):
        return None
    taken = TurnUsage(
        thread=thread,
        started=made.started,
        agent=made.agent,
        model=made.model,
        usage=made.usage,
        cost_usd=made.cost_usd,
        turns=0,
    )
    return _Paid(made.id, taken)

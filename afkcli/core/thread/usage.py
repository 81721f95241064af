"""What the turns of threads took: read from their seals without the messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from afkcli.core.contract.jsonform import JsonError
from afkcli.core.contract.protocols import LargeRecord, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.thread.listing import each_thread
from afkcli.core.thread.seals import Seal


class TurnUsage(FrozenStruct, kw_only=True):
    """What one turn took. `started` is RFC 3339; `cost_usd` is None where it is not known. Since: 0.2."""

    thread: ThreadInfo
    started: str
    agent: str
    model: str
    usage: Usage
    cost_usd: float | None


def each_usage(
    store: Store, damaged: Callable[[str], None], *, since: str = "", until: str = "~"
) -> Iterator[TurnUsage]:
    """Yield what each turn took, those that are set aside too; a turn that forks have as well counts for its source.

    Args:
        store: where the threads are kept.
        damaged: called with one line for each turn that cannot be read.
        since, until: RFC 3339 times; only turns that started from the first and before the second.

    Raises:
        StoreError: the store failed.
    """
    seen: set[str] = set()
    threads = [thread for thread in each_thread(store) if thread.used >= since]
    for thread in sorted(threads, key=lambda thread: thread.key):  # by their age: a fork comes after its source
        for record in store.load(thread.key):
            if record.kind is not RecordKind.SEAL:
                continue
            try:
                if isinstance(record, LargeRecord):
                    raise JsonError("it is too large to be read")
                turn = Seal(record.body).turn
            except JsonError:
                damaged(f"turn {record.turn} of thread {thread.name!r} cannot be read, and is not counted")
                continue
            if turn.run_id in seen or not since <= turn.started < until:
                continue
            seen.add(turn.run_id)
            yield TurnUsage(
                thread=thread,
                started=turn.started,
                agent=turn.agent,
                model=turn.model,
                usage=turn.usage,
                cost_usd=turn.cost_usd,
            )

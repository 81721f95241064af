"""What the turns of threads took: read from their seals without the messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afkcli.core.contract.protocols import LargeRecord, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import Usage, usage_from_json
from afkcli.core.contract.structs import FrozenStruct, msgspec
from afkcli.core.thread.listing import each_thread


class TurnUsage(FrozenStruct, kw_only=True):
    """What one turn took. `started` is RFC 3339; `cost_usd` is None where it is not known. Since: 0.2."""

    thread: ThreadInfo
    started: str
    agent: str
    model: str
    usage: Usage
    cost_usd: float | None


class _Seal(msgspec.Struct):
    run_id: str
    started: str
    agent: str = ""
    model: str = ""
    usage: Any = None
    cost_usd: float | None = None


_decode = msgspec.json.Decoder(_Seal).decode


def each_usage(store: Store, *, since: str = "", until: str = "~") -> Iterator[TurnUsage]:
    """Yield what each turn took, those that are set aside too; a turn that a fork has as well counts once.

    A seal that is damaged is passed over: `afk threads show` names it.

    Args:
        store: where the threads are kept.
        since, until: RFC 3339 times; only turns that started from the first and before the second.

    Raises:
        StoreError: the store failed.
    """
    seen: set[str] = set()
    for thread in each_thread(store):
        if thread.used < since:
            return  # the others were used before that
        for record in store.load(thread.key):
            if record.kind is not RecordKind.SEAL or isinstance(record, LargeRecord):
                continue
            try:
                seal = _decode(record.body)
            except ValueError:
                continue
            if seal.run_id in seen or not since <= seal.started < until:
                continue
            seen.add(seal.run_id)
            yield TurnUsage(
                thread=thread,
                started=seal.started,
                agent=seal.agent,
                model=seal.model,
                usage=usage_from_json(seal.usage),
                cost_usd=seal.cost_usd,
            )

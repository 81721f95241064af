"""Makes threads in afk's store: `python long_thread.py NAME TURNS [THREADS]`, two messages a turn.

With THREADS it makes so many threads, named NAME-0, NAME-1 and so on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Store

QUESTION = "And what follows from that for the case before us? Please answer in a sentence or two, with the reason."
ANSWER = (
    "It follows that the second case is like the first, because nothing in it depends on the order of the parts. " * 3
)


def make(store: Store, name: str, turns: int) -> None:
    """Make the thread `name` with so many sealed turns, as runs would have left it."""
    import time
    from dataclasses import replace

    from afkcli.core.contract.ids import rfc3339, uuid7
    from afkcli.core.contract.messages import Role, text_message
    from afkcli.core.contract.protocols import RecordKind
    from afkcli.core.contract.result import RunState
    from afkcli.core.run.config import unknown_owner
    from afkcli.core.thread.records import advance, next_record
    from afkcli.core.thread.turns import SealedTurn, after_seal, turn_to_json

    lease = store.acquire(name, unknown_owner(uuid7()))
    assert lease is not None
    thread, records, now = lease.thread, [], rfc3339(time.time())
    for number in range(1, turns + 1):
        turn = SealedTurn(
            turn=number,
            run_id=uuid7(),
            state=RunState.COMPLETED,
            reason=None,
            error=None,
            error_kind=None,
            agent="afk",
            model="instant/instant",
            started=now,
            sealed=now,
            messages=(text_message(Role.USER, QUESTION), text_message(Role.ASSISTANT, ANSWER)),
            steps=1,
        )
        record = next_record(thread, RecordKind.SEAL, number, turn_to_json(turn))
        thread = replace(after_seal(advance(thread, record), turn), turns=number)
        records.append(record)
    store.append(thread, records, lease.thread.head, lease)
    store.release(lease)


def main(name: str, turns: int, threads: int | None = None) -> None:
    """Make one thread, or many."""
    from afk_store_disk.store import open_store

    store = open_store()
    for each in [name] if threads is None else [f"{name}-{number}" for number in range(threads)]:
        make(store, each, turns)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))

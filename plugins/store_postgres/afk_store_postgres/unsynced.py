"""What the server has taken of journals and may not have on its disk yet.

The journal of an answer must survive the process that streams it, not the server: to wait for the server's disk would
put it off by as long as that takes, which is most of a second where other programs use the disk. So its transaction
ends without waiting (`synchronous_commit = off`). A server that loses its power forgets the last ones, while the
process goes on from them. Therefore they are kept here, and come again with the next record of their lease.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from afkcli.plugin import DURABLE_KINDS, Append, LeaseLostError, Operation, OperationResult, Release, Renew

KEPT_SECONDS: Final = 60.0
"""After so long the server has them on its disk: three times its `wal_writer_delay`, which is 200 ms, 10 s at most."""


class _Taken(NamedTuple):
    append: Append
    at: float


class Unsynced:
    """Appends by the token of their lease, in their order."""

    def __init__(self) -> None:
        self._taken: dict[str, deque[_Taken]] = {}

    def behind(self, token: str, head: str) -> Sequence[Append]:
        """Return the appends of a lease that follow the record `head`; nothing if none begins there."""
        appends = [taken.append for taken in self._taken.get(token, ())]
        starts = [at for at, append in enumerate(appends) if append.expected_head == head]
        return appends[starts[-1] :] if starts else ()

    def note(self, operations: Iterable[Operation], results: Iterable[OperationResult], *, is_synced: bool) -> None:
        """Keep what was carried out without waiting for the disk; what waited for it has taken all before along."""
        for operation, result in zip(operations, results, strict=True):
            if not isinstance(operation, Append | Release):
                continue
            token = operation.lease.token
            if isinstance(operation, Release) or isinstance(result, LeaseLostError):
                self._taken.pop(token, None)
            elif not isinstance(result, Exception):
                if is_synced:
                    self._taken.pop(token, None)
                else:
                    self._keep(token, operation)

    def _keep(self, token: str, append: Append) -> None:
        now, taken = time.monotonic(), self._taken.setdefault(token, deque())
        while taken and now - taken[0].at > KEPT_SECONDS:
            taken.popleft()
        taken.append(_Taken(append, now))


def needs_sync(operation: Operation) -> bool:
    """Return whether an operation has to be on the server's disk when it is done."""
    if isinstance(operation, Append):
        return not operation.records or any(record.kind in DURABLE_KINDS for record in operation.records)
    return not isinstance(operation, Renew)

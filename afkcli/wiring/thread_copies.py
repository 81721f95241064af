"""Stores for runs that must not write to the user's threads: copies of the threads that they read, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import Lease, Owner, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.structs import replace
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.records import advance, next_record


class ThreadCopies(MemoryStore):
    """Copies a thread of another store when it is first named; nothing is written to the other store.

    Args:
        source: opens the other store; called when a thread is first named.
    """

    def __init__(self, source: Callable[[], Store]) -> None:
        super().__init__()
        self._source = source
        self._opened: Store | None = None
        self._asked: set[str] = set()

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        self._ask(name, is_new=name == owner.run_id)
        return super().acquire(name, owner, create=create, key=key)

    def find(self, name: str) -> ThreadInfo | None:
        self._ask(name)
        return super().find(name)

    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        return self._other().list(limit=limit, folder=folder, search=search)

    def content(self, key: str, sha256: str) -> bytes | None:
        own = super().content(key, sha256)
        return own if own is not None or self._opened is None else self._opened.content(key, sha256)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _other(self) -> Store:
        if self._opened is None:
            self._opened = self._source()
        return self._opened

    def _ask(self, name: str, *, is_new: bool = False) -> None:
        with self._lock:
            if name not in self._asked:
                self._asked.add(name)
                self._copy(name, is_new=is_new)

    def _copy(self, name: str, *, is_new: bool) -> None:
        """Take a thread from the other store; one that `is_new` is not there."""
        info = None if is_new else self._other().find(name)
        if info is not None:
            self.put(info, self._other().load(info.key))


class RecordedThreads(ThreadCopies):
    """As `ThreadCopies`, but a thread that the user does not have, or that was recorded, has the recorded history.

    Args:
        source: opens the user's store; called when a thread is first named.
        history: returns the key of the recorded thread, the id of its run, and the forms of its records.
        recorded_content: returns a content that was recorded, or None.
    """

    def __init__(
        self,
        source: Callable[[], Store],
        history: Callable[[], tuple[str, str, Sequence[JsonObject]]],
        recorded_content: Callable[[str], bytes | None],
    ) -> None:
        super().__init__(source)
        self._history = history
        self._recorded_content = recorded_content

    def content(self, key: str, sha256: str) -> bytes | None:
        found = super().content(key, sha256)
        return found if found is not None else self._recorded_content(sha256)

    def _copy(self, name: str, *, is_new: bool) -> None:
        key, _, forms = self._history()
        info = None if is_new else self._other().find(name)
        if info is not None and info.key != key:
            self.put(info, self._other().load(info.key))
        elif forms and key not in self._threads:
            made = info or ThreadInfo(key=key, name=name, created=_NEVER, used=_NEVER)
            self.put(*_chained(ThreadInfo(key=key, name=name, created=made.created, used=made.used), forms))


_NEVER = "1970-01-01T00:00:00.000Z"


def _chained(info: ThreadInfo, forms: Sequence[JsonObject]) -> tuple[ThreadInfo, list[Record]]:
    """Return a thread with records of these forms, chained anew: a secret that was masked changes a hash."""
    records: list[Record] = []
    for form in forms:
        info = replace(info, next_index=form["index"])
        record = next_record(info, RecordKind(form["kind"]), form["turn"], form["body"])
        info = replace(advance(info, record), turns=max(info.turns, record.turn))
        records.append(record)
    return info, records

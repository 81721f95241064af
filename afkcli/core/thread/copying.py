"""Copies threads from one store into another: whole, checked, with their keys, records and contents to the letter.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable

from afkcli.core.contract.errors import ConflictError, StoreError
from afkcli.core.contract.jsonform import JsonError, to_plain
from afkcli.core.contract.protocols import LargeRecord, Owner, Store, ThreadInfo
from afkcli.core.contract.structs import replace
from afkcli.core.contract.text import collapsed
from afkcli.core.thread.contents import LostContentError, read_content
from afkcli.core.thread.exchange import ExportedThread, ThreadChecker, named_contents
from afkcli.core.thread.export import Snapshot, snapshot
from afkcli.core.thread.operations import held
from afkcli.core.thread.restore import Restored, Restorer

Say = Callable[[str], None]
"""Takes one line for a person."""


class Copier:
    """Copies threads of one store into another. It changes nothing in the first, but for turns of dead runs.

    Args:
        source: where the threads are.
        target: where to.
        owner: returns who holds the leases that this takes.
        warn: called for each thing that a thread is copied without.
    """

    def __init__(self, source: Store, target: Store, owner: Callable[[], Owner], warn: Say) -> None:
        self._source = source
        self._target = target
        self._owner = owner
        self._warn = warn
        self._restorer = Restorer(target, owner, rename=False)

    def copy(self, info: ThreadInfo) -> Restored:
        """Copy a thread; if it is there with fewer turns, add those that follow. A turn of a dead run is sealed first.

        Raises:
            ConflictError: the target has another thread of this name, or other turns of this thread, or the thread is
                damaged.
            ThreadBusyError: a run holds the thread, here or there.
            UnknownNameError: the thread was deleted meanwhile.
            StoreError: a store failed.
        """
        there = self._target.find(info.name)
        if there is not None and (there.key, there.head) == (info.key, info.head) and info.open_turn is None:
            return Restored(outcome="present", thread=there)
        if there is not None and there.key != info.key and there.head:
            raise ConflictError(
                f"the store has another thread {info.name!r}; rename one of them with `afk threads rename`"
            )
        with held(self._source, info.name, self._owner()) as lease:
            taken = snapshot(self._source, lease.thread)
        return self._restorer.thread(self._whole(taken))

    def _whole(self, taken: Snapshot) -> ExportedThread:
        thread = taken.thread
        at = 0
        try:
            checker = ThreadChecker(0, {"thread": to_plain(thread)})
            names: dict[str, str] = {}
            for record in taken.records(self._source):
                at = record.index
                if isinstance(record, LargeRecord):
                    raise JsonError("it is too large to be read")
                checker.add(to_plain(record))
                names |= named_contents([record])
            whole = checker.whole()
        except JsonError as error:
            said = collapsed(str(error), 300)
            what = said if "record" in said else f"its record {at} is damaged: {said}"
            raise ConflictError(f"the thread {thread.name!r} is not copied: {what}") from None
        return replace(whole, contents=self._contents(thread, names), missing=(), may_extend=True)

    def _contents(self, thread: ThreadInfo, names: dict[str, str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for sha256, name in names.items():
            try:
                found[sha256] = read_content(self._source, thread.key, sha256)
            except (LostContentError, StoreError) as error:
                what = error if isinstance(error, LostContentError) else f"cannot be read ({error})"
                self._warn(f"the content of {name} in the thread {thread.name!r} {what}; it is copied without it")
        return found

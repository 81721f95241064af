"""What a thread's records say: a fold over all of them. Damage is named and left out; the rest is used."""

from __future__ import annotations

from collections.abc import Iterable

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, JsonError, loads_object
from afkcli.core.contract.protocols import THREAD_SCHEMA, LargeRecord, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.text import in_mb
from afkcli.core.thread.changes import Change, read_change
from afkcli.core.thread.fitting import MOST_BYTES, fitted
from afkcli.core.thread.records import Chain, Fault
from afkcli.core.thread.seals import read_seal
from afkcli.core.thread.set_aside import seen_turns, set_aside
from afkcli.core.thread.turns import SealedTurn


class History(FrozenStruct, kw_only=True):
    """What a thread's records say.

    `turns` are the sealed ones in order, those that are set aside too, `changes` those of the thread itself,
    `open_records` the question and the journal of a turn that is not sealed. `damage` names each thing that is damaged
    or missing, one line each.
    """

    turns: tuple[SealedTurn, ...] = ()
    changes: tuple[Change, ...] = ()
    open_records: tuple[Record, ...] = ()
    damage: tuple[str, ...] = ()

    @property
    def seen(self) -> tuple[SealedTurn, ...]:
        """The turns that are not set aside: what is shown, sent, resumed and forked. Since: 0.2."""
        return seen_turns(self.turns, self.changes)

    @property
    def set_aside(self) -> dict[int, str]:
        """Why turns are set aside (`undone`, `replaced by turn N`), by their numbers. Since: 0.2."""
        return set_aside((turn.turn for turn in self.turns), self.changes)


def fold(thread: ThreadInfo, records: Iterable[Record]) -> History:
    """Return what all `records` of `thread` say, their hashes and their chain checked.

    Raises:
        UnsupportedRecordError: the thread has a newer schema, or a `meta` record of a kind or version that this afk
            does not know. What a later version records is never ignored silently.
    """
    if thread.schema > THREAD_SCHEMA:
        raise UnsupportedRecordError(
            f"the thread {thread.name!r} was written by a newer afk (schema version {thread.schema}): upgrade afk"
        )
    found = _Found(thread.name)
    chain = Chain(thread.key)
    for record in records:
        if isinstance(record, LargeRecord):
            found.take_fault(record, chain.pass_over(record))
            found.pass_over(record)
        elif found.take_fault(record, chain.follow(record)):
            found.take(record)
    if not chain.ends_at(thread):
        found.damage.append(f"the last record of thread {thread.name!r} is missing")
    return History(
        turns=tuple(found.turns),
        changes=tuple(found.changes),
        open_records=tuple(found.open_records),
        damage=tuple(found.damage),
    )


class _Found:
    """What was found in the records so far."""

    def __init__(self, name: str) -> None:
        self.turns: list[SealedTurn] = []
        self.changes: list[Change] = []
        self.open_records: list[Record] = []
        self.damage: list[str] = []
        self._name = name

    def take_fault(self, record: Record, fault: Fault | None) -> bool:
        """Name a fault of the chain, and return whether the record can be read."""
        if fault is Fault.DAMAGED:
            self.damage.append(f"{self._label(record)} is damaged: its checksum does not match")
        elif fault is Fault.GAP:
            self.damage.append(f"a record before {self._label(record)} is missing or damaged")
        return fault is not Fault.DAMAGED

    def pass_over(self, record: LargeRecord) -> None:
        """Name a record that is too large to be read."""
        self.damage.append(
            f"{self._label(record)} is left out: it is {in_mb(record.size)}, and afk reads {in_mb(MAX_LINE_BYTES)}"
        )

    def take(self, record: Record) -> None:
        """Take what a record says."""
        try:
            if record.kind is RecordKind.SEAL:
                self._take_turn(record, read_seal(record.body))
            elif record.kind is RecordKind.META:
                self.changes.append(read_change(self._name, record, loads_object(record.body)))
            else:
                loads_object(record.body)
                self.open_records.append(record)
        except JsonError as error:
            self.damage.append(f"{self._label(record)} cannot be read: {error}")

    def _take_turn(self, record: Record, turn: SealedTurn) -> None:
        kept = fitted(turn) if len(record.body) > MOST_BYTES else turn
        if kept is not turn:
            self.damage.append(
                f"{self._label(record)} is {in_mb(len(record.body))}; the first {in_mb(MOST_BYTES)} of it are used"
            )
        self.turns.append(kept)

    def _label(self, record: Record) -> str:
        return f"turn {record.turn} of thread {self._name!r} (record {record.index})"


def load_history(store: Store, thread: ThreadInfo) -> History:
    """Read and fold all records of `thread`.

    Raises:
        UnsupportedRecordError: as `fold`.
        StoreError: the store failed.
    """
    return fold(thread, store.load(thread.key))

"""What a thread's records say: a fold over all of them. Damage is named and left out; the rest is used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, JsonError, loads_object
from afkcli.core.contract.protocols import THREAD_SCHEMA, LargeRecord, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.contract.text import in_mb
from afkcli.core.thread.changes import Change, Compaction, read_change
from afkcli.core.thread.compactions import compaction_of, compactions_in_force, fits
from afkcli.core.thread.fitting import MOST_BYTES, fitted
from afkcli.core.thread.records import Chain, Fault, record_hash
from afkcli.core.thread.seals import Seal
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

    @property
    def compaction(self) -> Compaction | None:
        """The compaction that is sent in place of the first turns that are seen; None if there is none. Since: 0.2."""
        if not any(isinstance(change, Compaction) for change in self.changes):
            return None
        return compaction_of(self.seen, self.set_aside, self.changes)

    @property
    def native_compactions(self) -> tuple[Compaction, ...]:
        """The compactions that servers made when they were asked, which are sent to their models. Since: 0.2."""
        if not any(isinstance(change, Compaction) and not change.summary for change in self.changes):
            return ()
        seen, aside = self.seen, self.set_aside
        return tuple(
            made for made in compactions_in_force(self.changes) if not made.summary and fits(made, seen, aside)
        )


def fold(thread: ThreadInfo, records: Iterable[Record], wanted: Wanted | None = None) -> History:
    """Return what all `records` of `thread` say, their hashes and their chain checked.

    Args:
        thread: the thread.
        records: all of its records.
        wanted: returns the numbers of the turns whose messages are wanted, of a history whose turns have none yet. The
            other turns stay without messages. None for all turns.

    Raises:
        UnsupportedRecordError: the thread has a newer schema, or a `meta` record of a kind or version that this afk
            does not know. What a later version records is never ignored silently.
    """
    return _found(thread, records, _Found(thread.name), wanted)


def outline(thread: ThreadInfo, records: Iterable[Record]) -> History:
    """Return what `fold` does, each turn without its messages, which were read and let go. Since: 0.2."""
    return _found(thread, records, _Outline(thread.name), None)


def latest(thread: ThreadInfo, records: Sequence[Record]) -> History:
    """Return what the last `records` of `thread` say, as `fold` does for all of them.

    Why turns are set aside is known for each of these turns, because the records that say so come after it. The link of
    the first record to those before it is not checked. Since: 0.2.
    """
    return _found(thread, records, _Found(thread.name), None, Chain(thread.key, records[0] if records else None))


def sealed_turns(thread: ThreadInfo, records: Iterable[Record]) -> Iterator[SealedTurn]:
    """Yield the turns that `outline` has, in the same order, with their messages. Since: 0.2."""
    for record in records:
        if record.kind is RecordKind.SEAL and record_hash(thread.key, record) == record.hash:
            found = _Found(thread.name)
            found.take(record)
            found.read_messages(None)
            yield from found.history().turns


def _found(
    thread: ThreadInfo, records: Iterable[Record], found: _Found, wanted: Wanted | None, chain: Chain | None = None
) -> History:
    if thread.schema > THREAD_SCHEMA:
        raise UnsupportedRecordError(
            f"the thread {thread.name!r} was written by a newer afk (schema version {thread.schema}): upgrade afk"
        )
    chain = chain or Chain(thread.key)
    for record in records:
        if isinstance(record, LargeRecord):
            found.take_fault(record, chain.pass_over(record))
            found.pass_over(record)
        elif found.take_fault(record, chain.follow(record)):
            found.take(record)
    if not chain.ends_at(thread):
        found.damage.append(f"the last record of thread {thread.name!r} is missing")
    found.read_messages(wanted)
    return found.history()


Wanted = Callable[[History], Collection[int]]


def no_messages(history: History) -> Collection[int]:
    """Want the messages of no turn: the turns and the changes of a thread are looked at, or what is open."""
    return ()


class _Found:
    """What was found in the records so far."""

    def __init__(self, name: str) -> None:
        self._seals: dict[int, tuple[Record, Seal]] = {}  # those to be read, by their position in `turns`
        self.turns: list[SealedTurn | None] = []  # None for one whose messages cannot be read
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
                seal = Seal(record.body)
                self._seals[len(self.turns)] = record, seal
                self.turns.append(seal.turn)
            elif record.kind is RecordKind.META:
                self.changes.append(read_change(self._name, record, loads_object(record.body)))
            else:
                loads_object(record.body)
                self.open_records.append(record)
        except JsonError as error:
            self.damage.append(f"{self._label(record)} cannot be read: {error}")

    def history(self) -> History:
        return History(
            turns=tuple(turn for turn in self.turns if turn is not None),
            changes=tuple(self.changes),
            open_records=tuple(self.open_records),
            damage=tuple(self.damage),
        )

    def read_messages(self, wanted: Wanted | None) -> None:
        """Read the messages of the turns that are wanted. If one cannot be read, others may be wanted in its place."""
        are_read = False
        while not are_read:
            numbers = wanted(self.history()) if wanted is not None else None
            unread = [at for at, (_, seal) in self._seals.items() if numbers is None or seal.turn.turn in numbers]
            are_read = True
            for at in unread:
                turn = self.turns[at] = self._read(*self._seals.pop(at))
                are_read = are_read and turn is not None

    def _read(self, record: Record, seal: Seal) -> SealedTurn | None:
        try:
            turn = seal.read()
        except JsonError as error:
            self.damage.append(f"{self._label(record)} cannot be read: {error}")
            return None
        kept = fitted(turn) if len(record.body) > MOST_BYTES else turn
        if kept is not turn:
            self.damage.append(
                f"{self._label(record)} is {in_mb(len(record.body))}; the first {in_mb(MOST_BYTES)} of it are used"
            )
        return kept

    def _label(self, record: Record) -> str:
        return f"turn {record.turn} of thread {self._name!r} (record {record.index})"


class _Outline(_Found):
    """What was found, without the messages of the turns."""

    def take(self, record: Record) -> None:
        super().take(record)
        self.read_messages(None)
        if self.turns and self.turns[-1] is not None:
            self.turns[-1] = replace(self.turns[-1], messages=())


def load_history(store: Store, thread: ThreadInfo, wanted: Wanted | None = None) -> History:
    """Read and fold all records of `thread`.

    Args:
        store: where it is kept.
        thread: the thread.
        wanted: as in `fold`. Since: 0.2.

    Raises:
        UnsupportedRecordError: as `fold`.
        StoreError: the store failed.
    """
    return fold(thread, store.load(thread.key), wanted)

"""A thread is read page by page: few of its records are in memory, and it is the same as if it were read at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from afkcli.core.contract.errors import UnknownNameError
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import LargeRecord, Lease, Record, ThreadInfo
from afkcli.core.contract.structs import replace
from afkcli.core.thread.export import export_all, export_thread, snapshot
from afkcli.core.thread.history import fold, outline, sealed_turns
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.pages import records_in_pages
from afkcli.testing.store_steps import acquired, save, save_turn, with_journal, with_meta, with_question, with_seal

TURNS = 30


class WatchedStore(MemoryStore):
    """Remembers how many characters each `load` returned, and may show records otherwise than they are."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[int] = []
        self.show: Callable[[Record], Record] = lambda record: record

    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        # As the store on disk: the place of a record is that of its row, whatever the record says.
        page = [self.show(record) for record in super().load(key, after=after, limit=limit, reverse=reverse)]
        page.sort(key=lambda record: record.index)
        self.loaded.append(sum(len(record.body) for record in page))
        return page


def talked(store: MemoryStore, size: int = 10) -> Lease:
    lease = acquired(store, "t")
    for number in range(TURNS):
        lease = save_turn(store, lease, f"question {number}", f"{number % 10}" * size, number)
        if number % 7 == 0:
            lease = save(store, lease, with_meta(lease.thread, title=f"title {number}"))
    return lease


def all_of(store: MemoryStore, thread: ThreadInfo) -> list[Record]:
    return list(records_in_pages(store, thread.key, end=thread.next_index))


def test_the_records_are_those_of_one_read() -> None:
    store = MemoryStore()
    thread = talked(store).thread

    assert all_of(store, thread) == list(store.load(thread.key))


def test_of_large_turns_each_page_has_few() -> None:
    store = WatchedStore()
    thread = talked(store, size=1_000_000).thread

    all_of(store, thread)

    assert max(store.loaded) < 12 << 20
    assert sum(store.loaded) >= TURNS * 1_000_000


@pytest.mark.parametrize("at", [0, 3, 11, 12, 33, 34])
@pytest.mark.parametrize(
    "damage",
    [
        lambda record: replace(record, index=record.index + 9),
        lambda record: replace(record, index=record.index - 2),
        lambda record: replace(record, index=10**9),
        lambda record: replace(record, index=0),
        lambda record: replace(record, body=f"{record.body} "),
        lambda record: LargeRecord(
            index=record.index, kind=record.kind, turn=record.turn, prev=record.prev, hash=record.hash, body="", size=9
        ),
    ],
    ids=["later", "earlier", "far away", "first", "changed", "large"],
)
def test_a_damaged_record_hides_no_other(at: int, damage: Callable[[Record], Record]) -> None:
    store = WatchedStore()
    thread = talked(store).thread
    whole = list(store.load(thread.key))
    there = whole[at].hash
    store.show = lambda record: damage(record) if record.hash == there else record

    read = all_of(store, thread)

    assert {record.hash for record in read} == {record.hash for record in whole}
    assert len(read) == len(whole)


def test_an_outline_with_its_turns_is_the_history() -> None:
    store = WatchedStore()
    thread = talked(store).thread
    there = list(store.load(thread.key))[5].hash
    store.show = lambda record: replace(record, body=f"{record.body} ") if record.hash == there else record
    history = fold(thread, store.load(thread.key))

    outlined = outline(thread, all_of(store, thread))

    assert history.damage
    assert outlined == replace(history, turns=tuple(replace(turn, messages=()) for turn in history.turns))
    assert tuple(sealed_turns(thread, all_of(store, thread))) == history.turns


def test_an_export_is_of_one_moment_while_a_run_writes() -> None:
    store = MemoryStore()
    lease = talked(store)
    lease = save(store, lease, with_question(lease.thread, "open"))
    lease = save(store, lease, with_journal(lease.thread, "so far"))
    at_once = list(export_thread(store, lease.thread, pytest.fail))

    lines = export_thread(store, lease.thread, pytest.fail)
    begun = [next(lines) for _ in range(3)]
    lease = save(store, lease, with_journal(lease.thread, "more"))
    begun.append(next(lines))
    lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "open")]))
    lease = save_turn(store, lease, "another", "one")

    assert [*begun, *lines] == at_once


def test_a_thread_whose_first_turn_has_not_begun_is_left_out_of_an_export() -> None:
    store = MemoryStore()
    talked(store)
    alone = list(export_all(store, pytest.fail))
    lease = acquired(store, "new")

    assert list(export_all(store, pytest.fail)) == alone
    with pytest.raises(UnknownNameError, match="the first turn of the thread 'new' has not begun yet"):
        list(export_thread(store, lease.thread, pytest.fail))


def test_a_snapshot_is_read_again_as_it_was() -> None:
    store = MemoryStore()
    lease = talked(store)
    lease = save(store, lease, with_question(lease.thread, "open"))
    before = list(store.load(lease.thread.key))
    taken = snapshot(store, lease.thread)

    save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "open")]))

    assert list(taken.records(store)) == before
    assert list(taken.records(store)) == before

"""One operation of a batch that fails, and what fails after the batch is written, take nothing from the others."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from afk_store_disk.leases import ChangedError
from afk_store_disk.spool import Spool
from afk_store_disk.store import DiskStore
from afk_store_disk.writes import Writes

from afkcli.core.thread.batch import apply, make_alone
from afkcli.core.thread.changes import Compaction
from afkcli.core.thread.history import load_history
from afkcli.core.thread.writer import TurnWriter
from afkcli.plugin import (
    Acquire,
    Add,
    Lease,
    LeaseLostError,
    Operation,
    Release,
    Renew,
    Role,
    StoreError,
    Usage,
    current_owner,
    text_message,
)
from afkcli.testing.store_steps import acquired, appended, asked, save_turn, with_seal
from plugins.store_disk.tests.test_batch import locked


def sealed_and_released(lease: Lease) -> list[Operation]:
    return [appended(lease, with_seal(lease.thread, [text_message(Role.USER, "question")])), Release(lease)]


@pytest.fixture(params=[2, 3], ids=["one by one", "buffered"])
def leases(store: DiskStore, request: pytest.FixtureRequest) -> list[Lease]:
    """Leases of so many turns that their ends are carried out each by its own statements, or together."""
    store.buffered_from = 5
    return [asked(store, f"t-{number}") for number in range(request.param)]


def test_a_thread_whose_name_is_damaged_keeps_no_other_thread_from_being_leased(store: DiskStore, folder: Path) -> None:
    asked(store, "damaged")
    with sqlite3.connect(folder / "threads.db") as con:
        con.execute("""UPDATE Cache SET value = '"x"' WHERE key LIKE '%/damaged'""")
        con.execute("UPDATE Cache SET value = 'x' WHERE value LIKE '{%'")
    wanted = [Acquire(name, current_owner("run")) for name in ("damaged", "new")]
    damaged, new = apply(store, wanted)
    assert isinstance(damaged, StoreError)
    assert isinstance(new, Lease)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), PermissionError(errno.EACCES, "no"), MemoryError(), KeyError(1)],
    ids=lambda error: type(error).__name__,
)
def test_an_operation_that_fails_in_any_way_fails_alone(
    store: DiskStore, leases: list[Lease], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    append = Writes.append

    def failing(self: Writes, thread: Any, *arguments: Any, **named: Any) -> None:
        append(self, thread, *arguments, **named)
        if thread.name == "t-0":
            raise error

    monkeypatch.setattr(Writes, "append", failing)
    results = apply(store, [operation for lease in leases for operation in sealed_and_released(lease)])
    assert isinstance(results[0], Exception)
    assert results[1:] == [None] * (len(results) - 1)
    assert (
        [store.find(lease.thread.name).open_turn is None for lease in leases]
        == [  # type: ignore[union-attr]
            False,
            *[True for _ in leases[1:]],
        ]
    )


def _of_the_disk(*_: object, **__: object) -> Any:
    raise sqlite3.OperationalError("disk I/O error")


def _of_the_folder(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("failure", [_of_the_disk, _of_the_folder])
def test_turns_are_saved_also_if_what_is_over_cannot_be_cleared_away_then(
    store: DiskStore, leases: list[Lease], monkeypatch: pytest.MonkeyPatch, failure: Callable[..., Any]
) -> None:
    monkeypatch.setattr(Spool, "names", lambda self: ["x"])
    monkeypatch.setattr(store._aside._leases, "holder", failure)
    results = apply(store, [operation for lease in leases for operation in sealed_and_released(lease)])
    assert results == [None] * len(results)


def test_turns_are_saved_and_leases_change_hands_beside_a_spool_that_cannot_be_read(
    store: DiskStore, folder: Path, leases: list[Lease]
) -> None:
    (folder / "spool").symlink_to(folder / "spool")
    results = apply(store, [operation for lease in leases for operation in sealed_and_released(lease)])
    assert results == [None] * len(results)
    store.release(acquired(store, "new"))


def test_operations_that_are_tried_one_by_one_keep_what_was_written_before_one_that_fails(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Writes.add

    def failing(self: Writes, counter: str, *arguments: Any) -> float:
        if counter == "failing":
            raise KeyError(counter)
        return add(self, counter, *arguments)

    monkeypatch.setattr(Writes, "add", failing)
    monkeypatch.setattr(store, "_together", _of_the_disk)
    results = apply(store, [Add("budget", 1), Add("failing", 1), *sealed_and_released(asked(store))])
    assert results[0] == 1
    assert isinstance(results[1], Exception)
    assert results[2:] == [None, None]


def test_a_turn_is_saved_also_if_its_lease_cannot_be_given_back(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Writes, lease: Lease) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Writes, "release", failing)
    lease = asked(store)
    writer = TurnWriter(store, lease, "run-1", pytest.fail)
    writer.turn = 1
    make_alone(writer.seal(load_history(store, save_turn(store, acquired(store, "other"), "a", "b").thread).turns[0]))
    assert store.find("t-42").open_turn is None  # type: ignore[union-attr]
    assert isinstance(apply(store, [Release(lease), Renew(lease)])[1], Lease)


@pytest.fixture
def lost_while_it_waits(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """The lease of a turn that is lost as soon as its owner waits for the lock of the database."""
    lease = asked(store, "lost")

    def renew(renewed: Lease) -> Lease:
        assert renewed == lease
        raise ChangedError(lease.thread.key, LeaseLostError("another run took over the thread 'lost'"))

    monkeypatch.setattr("afk_store_disk.aside.keep_seconds", lambda: 0.0)
    monkeypatch.setattr(store._aside, "renew", renew)
    return lease


def test_a_seal_that_waits_is_told_that_its_lease_is_lost(
    store: DiskStore, folder: Path, lost_while_it_waits: Lease
) -> None:
    with locked(folder):
        results = apply(store, sealed_and_released(lost_while_it_waits))
    assert [type(result) for result in results] == [LeaseLostError, LeaseLostError]


def test_a_lease_that_is_lost_does_not_end_the_wait_of_another_thread_that_has_none_yet(
    store: DiskStore, folder: Path, lost_while_it_waits: Lease
) -> None:
    waits = threading.Event()

    def while_waiting() -> bool:
        waits.set()
        return False

    def hold() -> None:
        with locked(folder):
            held.set()
            waits.wait(60)

    held, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("afk_store_disk.write_lock.while_waiting", while_waiting)
        operations = [*sealed_and_released(lost_while_it_waits), Acquire("new", current_owner("run"))]
        results = apply(store, operations)
    holder.join()
    assert isinstance(results[2], Lease)


def test_a_compaction_that_waits_for_the_lock_is_recorded_though_there_is_output_to_journal(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = save_turn(store, acquired(store), "question 1", "answer 1")
    writer = TurnWriter(store, lease, "run-2", pytest.fail)
    _open(writer)
    held, waits = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder):
            held.set()
            waits.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    writer.journal_text("text")
    ticks = []

    def while_waiting() -> bool:
        writer.tick()
        ticks.append(time.monotonic())
        waits.set()
        return False

    monkeypatch.setattr("afk_store_disk.write_lock.while_waiting", while_waiting)
    writer.compact(
        Compaction(
            id="compaction",
            covers=((1, 1),),
            summary="summary",
            model="model",
            agent="agent",
            started="2026-01-01T00:00:00.000Z",
            ended="2026-01-01T00:00:00.000Z",
            usage=Usage(),
            cost_usd=0.0,
            run_id="run-2",
            system="",
        )
    )
    holder.join()
    assert ticks
    writer.tick()
    history = load_history(store, writer.thread)
    assert history.damage == ()
    assert history.compaction is not None
    assert history.compaction.summary == "summary"
    assert "text" in str(store.load(writer.thread.key)[-1].body)


def _open(writer: TurnWriter) -> None:
    from afkcli.core.thread.turns import Beginning

    beginning = Beginning(messages=(text_message(Role.USER, "question 2"),))
    make_alone(writer.open(beginning, agent="agent", model="model", now="2026-01-01T00:00:00.000Z"))

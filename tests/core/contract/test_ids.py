"""Run ids sort by time and never repeat; time stamps never run backwards."""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from afkcli.core.contract import ids
from afkcli.core.contract.ids import Clock, rfc3339, uuid7


def test_ids_are_uuids_of_version_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # another test of this process may have set its clock forward
    parsed = uuid.UUID(uuid7())
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 60


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_ids_grow_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert first < uuid7() < uuid7()


def test_ids_of_many_threads_are_different() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [one for batch in pool.map(lambda _: [uuid7() for _ in range(500)], range(8)) for one in batch]
    assert len(set(made)) == len(made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")
def test_a_fork_makes_other_ids_even_when_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 1 << 120)  # ahead of any clock
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send([uuid7() for _ in range(50)]))
    child.start()
    theirs = receiver.recv()
    child.join()
    assert not set(theirs) & {uuid7() for _ in range(50)}


def test_time_stamps_are_rfc_3339_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"


def test_a_clock_never_runs_backwards_when_the_wall_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.timestamp()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.timestamp() >= before
    assert clock.timestamp()[:4] == before[:4]

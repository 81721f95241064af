"""A wall clock that jumps by hours, in the middle of a run and between runs, changes the order of nothing."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from afkcli.core.contract.ids import uuid7
from afkcli.testing.model_script import Fault, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Shell, kill, roles_and_texts, wait_for_output

HOUR = 3600
FAKE = """
import os, time
def _offset():
    try:
        return float(open(os.environ["WALL_CLOCK"]).read() or 0)
    except (OSError, ValueError):
        return 0.0
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 10**9)
"""
"""Replaces the wall clock of a process; the monotonic clocks continue, as they do when the clock is set."""


class WallClock:
    """The wall clock of all processes of a shell."""

    def __init__(self, shell: Shell, folder: Path) -> None:
        site = folder / "clock"
        site.mkdir()
        (site / "sitecustomize.py").write_text(FAKE)
        self._file = site / "offset"
        shell.env.update(PYTHONPATH=str(site), WALL_CLOCK=str(self._file))

    def set(self, hours: float) -> None:
        new = self._file.with_name("new")
        new.write_text(str(hours * HOUR))
        new.replace(self._file)


@pytest.fixture
def clock(keyed: Shell, tmp_path: Path) -> WallClock:
    return WallClock(keyed, tmp_path)


@pytest.mark.parametrize("hours", [-5, 5])
class TestAJump:
    def test_in_the_middle_of_a_run(self, keyed: Shell, server: ModelServer, clock: WallClock, hours: int) -> None:
        server.script(
            Step(text="word ", repeat=30, delay_between=0.05, fault=Fault.HANG, fault_after=20), Step(text="ok")
        )
        process = keyed.start("run", "-t", "t", "first")
        seen = wait_for_output(process, b"word " * 5)

        clock.set(hours)
        busy = keyed.afk("run", "-t", "t", "--busy", "fail", "me too")
        server.release()
        out, err = process.communicate(timeout=LIMIT)
        second = keyed.afk("run", "-t", "t", "second")

        assert busy.code == 5, busy
        assert (process.returncode, (seen + out).count(b"word"), err) == (0, 30, b"")
        assert (second.code, second.out) == (0, "ok\n")
        assert [text for _, text in roles_and_texts(server.bodies[1])] == ["first", "word " * 30, "second"]
        events = [event for event in keyed.log() if event["thread_id"] == "t" and event["turn"] == 1]
        assert [event["seq"] for event in events] == list(range(len(events)))
        stamps = [event["ts"] for event in events]
        assert stamps == sorted(stamps)

    def test_between_runs(self, keyed: Shell, server: ModelServer, clock: WallClock, hours: int) -> None:
        for turn, offset in enumerate((0, hours, 0)):
            clock.set(offset)
            assert keyed.afk("run", "-t", "t", f"m{turn}").out == f"reply {turn + 1}: m{turn}\n"

        asked = [text for role, text in roles_and_texts(server.bodies[-1]) if role == "user"]
        assert asked == ["m0", "m1", "m2"]
        turns = keyed.afk("threads", "show", "t", "--json").events
        assert [(turn["turn"], turn["state"]) for turn in turns] == [(number, "completed") for number in (1, 2, 3)]
        started = [datetime.fromisoformat(turn["started"]).timestamp() / HOUR for turn in turns]
        assert [round(later - first) for first, later in pairwise(started)] == [hours, -hours]

    def test_after_a_run_was_killed(self, keyed: Shell, server: ModelServer, clock: WallClock, hours: int) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.05), Step(text="ok"))
        process = keyed.start("run", "-t", "t", "first")
        wait_for_output(process, b"word " * 10)
        kill(process)

        clock.set(hours)
        done = keyed.afk("run", "-t", "t", "--busy", "fail", "second")

        assert (done.code, done.out) == (0, "ok\n"), done.err
        assert [turn["state"] for turn in keyed.afk("threads", "show", "t", "--json").events] == [
            "interrupted",
            "completed",
        ]

    def test_does_not_take_the_lease_of_a_waiting_run(
        self, keyed: Shell, server: ModelServer, clock: WallClock, hours: int
    ) -> None:
        server.script(Step(text="word ", repeat=40, delay_between=0.05), Step(text="ok"))
        process = keyed.start("run", "-t", "t", "first")
        seen = wait_for_output(process, b"word")
        waiting = keyed.start("run", "-t", "t", "second")

        clock.set(hours)
        first, second = seen + process.communicate(timeout=LIMIT)[0], waiting.communicate(timeout=LIMIT)[0]

        assert (process.returncode, waiting.returncode) == (0, 0)
        assert (first.count(b"word"), second) == (40, b"ok\n")
        assert [text for _, text in roles_and_texts(server.bodies[1])] == ["first", "word " * 40, "second"]


def test_run_ids_of_one_process_increase_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    jumps = iter([0, 5, -5, -9, 9, 0, -1, 8] * 500)
    monkeypatch.setattr(time, "time_ns", lambda: now + next(jumps) * HOUR * 10**9)

    ids = [uuid7() for _ in range(4000)]

    assert ids == sorted(set(ids))


def test_run_ids_of_processes_sort_by_the_time_of_their_clocks(keyed: Shell, clock: WallClock) -> None:
    for hours in (-2, -1, 0, 1):
        clock.set(hours)
        assert keyed.afk("run", "-t", "t", "hi").code == 0

    ids = list(dict.fromkeys(event["run_id"] for event in keyed.log()))
    assert len(ids) == 4
    assert ids == sorted(ids)

"""Which stop signals end a process at once: the second one that was sent, however often each has come."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import pytest

from afkcli.commands import session
from afkcli.commands.session import StopSignals

TERM, HUP = signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("came", "passed_on", "dies"),
    [
        ([TERM], {}, False),
        ([TERM, TERM], {}, True),
        ([TERM, HUP], {}, True),
        ([TERM, TERM], {TERM: 1}, False),  # one to all processes
        ([TERM, TERM], {TERM: 2}, True),  # Ctrl-C twice, as the client alone gets it
        ([TERM, TERM, TERM, TERM], {TERM: 2}, True),  # twice one to all processes
        ([TERM, HUP], {TERM: 1}, True),
        ([TERM, TERM, HUP, HUP], {TERM: 1, HUP: 1}, True),
    ],
)
def test_the_second_signal_that_was_sent_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, came: list[int], passed_on: Mapping[int, int], dies: bool
) -> None:
    died: list[int] = []
    monkeypatch.setattr(session, "die_of", died.append)
    signals = StopSignals([], passed_on=passed_on)

    for number in came:
        signals._on_unserved(number, None)
    for number in came:  # which the event loop handles later
        signals._on_signal(number)

    assert signals.number == came[0]
    assert bool(died) == dies

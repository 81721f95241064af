"""Lengths of time are written as seconds, or with units."""

from __future__ import annotations

import pytest

from afkcli.core.contract.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("0", 0),
        ("-1", -1),
        ("90s", 90),
        ("5m", 300),
        ("5 min", 300),
        ("1H", 3600),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m 10s", 5410),
        ("500ms", 0.5),
        ("2 days", 172_800),
        ("1 week", 604_800),
        (" 3 minutes ", 180),
    ],
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "x", "m", "5x", "5 m x", "1,5", "-5m", "1h-", "5mm", "1e3s", "\uff11m", "m5"]
)
def test_what_is_no_length_of_time_is_none(text: str) -> None:
    assert seconds_of(text) is None

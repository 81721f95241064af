"""The line that shows how far a batch has come, and the same as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from afkcli.batch.progress import Meter, duration, rate_in_words, short_number
from afkcli.core.contract.engine import BatchInfo, BatchLimits, News, PromptState, SettledPrompt

QUEUED, RUNNING, DONE, FAILED, PARKED = map(PromptState, ("queued", "running", "done", "failed", "parked"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def news(counts: dict[PromptState, int], *costs: float | None, **more: Any) -> News:
    batch = BatchInfo(name="b", created="", settings={}, limits=BatchLimits(), counts=counts, **more)
    outcomes = [
        SettledPrompt(sequence=at, id=str(at), index=at, digest="", state=DONE, attempts=1, result={}, cost_usd=cost)
        for at, cost in enumerate(costs, 1)
    ]
    return News(batch=batch, outcomes=outcomes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    """A batch of 10,000 prompts of which 1,200 ended in the last 10 seconds."""
    meter = Meter(clock)
    meter.take(news({QUEUED: 10_000}))
    clock.now += 10
    counts = {QUEUED: 8_768, RUNNING: 32, DONE: 1_197, FAILED: 3}
    meter.take(news(counts, 0.1, cost_usd=3.214, tokens=1_234_567, requests=1_203))
    return meter


def test_a_wide_terminal_shows_all(meter: Meter) -> None:
    assert meter.line(120) == (
        "1,200 of 10,000 · [██▍                 ] · 3 failed · 120/s · 1.23M tokens · $3.21 · 1m 13s left"
    )


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (90, "1,200 of 10,000 · 3 failed · 120/s · 1.23M tokens · $3.21 · 1m 13s left"),
        (70, "1,200 of 10,000 · 3 failed · 120/s · $3.21 · 1m 13s left"),
        (50, "1,200 of 10,000 · 3 failed · $3.21 · 1m 13s left"),
        (40, "1,200 of 10,000 · 3 failed · 1m 13s left"),
        (30, "1,200 of 10,000 · 3 failed"),
        (20, "1,200 of 10,000"),
        (8, "1,200 o…"),
    ],
)
def test_a_narrow_one_shows_the_most_important(meter: Meter, columns: int, line: str) -> None:
    assert meter.line(columns) == line


def test_a_terminal_without_unicode_gets_ascii(meter: Meter) -> None:
    line = meter.line(120, is_ascii=True)
    assert line.isascii()
    assert "[##                  ], 3 failed" in line


def test_it_is_known_as_json(meter: Meter) -> None:
    form = meter.form()
    assert {**form["counts"], "sent": 0} == {
        "sent": 0,
        "queued": 8768,
        "running": 32,
        "done": 1197,
        "failed": 3,
        "parked": 0,
        "cancelled": 0,
    }
    assert (form["per_second"], form["seconds_left"], form["cost_usd"]) == (120.0, 73.3, 3.214)


def test_nothing_is_said_of_rate_and_time_before_something_has_ended(clock: Clock) -> None:
    meter = Meter(clock)
    assert (meter.line(80), meter.form()) == ("starting", {})
    meter.take(news({QUEUED: 5, RUNNING: 5}))
    clock.now += 60
    meter.take(news({QUEUED: 5, RUNNING: 5}))
    assert meter.line(80) == "0 of 10 · [                    ] · 5 running"
    assert (meter.form()["per_second"], meter.form()["seconds_left"]) == (None, None)


def test_what_ended_before_counts_for_no_rate(clock: Clock) -> None:
    meter = Meter(clock)
    meter.take(news({QUEUED: 100, DONE: 900}))
    clock.now += 10
    meter.take(news({QUEUED: 90, DONE: 910}))
    assert meter.per_second == 1.0
    assert meter.seconds_left == 90.0


def test_the_rate_is_that_of_the_last_half_minute(clock: Clock) -> None:
    meter = Meter(clock)
    done = 0
    for second in range(120):
        done += 100 if second < 60 else 1
        meter.take(news({QUEUED: 100_000 - done, DONE: done}))
        clock.now += 1
    assert meter.per_second is not None
    assert meter.per_second < 2


def test_a_cost_that_is_not_known_is_marked(clock: Clock) -> None:
    meter = Meter(clock)
    meter.take(news({DONE: 2}, cost_usd=0.5, unknown_costs=1))
    assert "$0.50+" in meter.line(80)
    meter.take(news({DONE: 2}, unknown_costs=2))
    assert "cost unknown" in meter.line(80)
    assert meter.form()["unknown_costs"] == 2


def test_a_batch_that_has_ended_has_no_time_left(meter: Meter, clock: Clock) -> None:
    clock.now += 1
    meter.take(news({DONE: 9_997, FAILED: 1, PARKED: 2}))
    assert "left" not in meter.line(120)
    assert "1 failed · 2 parked" in meter.line(120)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (60, "1m"),
        (192, "3m 12s"),
        (3600, "1h"),
        (7500, "2h 5m"),
        (90_000, "1d 1h"),
        (9e6, "104d 4h"),
    ],
)
def test_times_are_short(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"),
        (950, "950"),
        (12_345, "12.3k"),
        (999_400, "999k"),
        (999_900, "1M"),
        (1_234_567, "1.23M"),
        (5_000_000_000_000, "5,000G"),
    ],
)
def test_numbers_are_short(number: int, said: str) -> None:
    assert short_number(number) == said


@pytest.mark.parametrize(("rate", "said"), [(120.4, "120/s"), (1.26, "1.3/s"), (0.1, "6.0/min")])
def test_rates_are_by_the_minute_where_they_are_slow(rate: float, said: str) -> None:
    assert rate_in_words(rate) == said

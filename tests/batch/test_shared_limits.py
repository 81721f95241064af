"""What the workers of a batch may send in a minute, by a clock that may be set to another time."""

from __future__ import annotations

import pytest

from afkcli.core.contract.engine import BatchLimits, Reservation
from afkcli.core.contract.shared_limits import LONGEST_HOLD_S, WINDOW, SharedLimits

START = 1_800_000_000.0


def asked(tokens: int = 0, model: str = "one/model") -> Reservation:
    return Reservation(id="p", claim="1", model=model, tokens=tokens)


def allowed_at(limits: BatchLimits, number: int, tokens: int = 0, start: float = START) -> list[float]:
    """Return when so many requests are allowed that are asked for as early as they are told to."""
    shared, now, times = SharedLimits(), start, []
    while len(times) < number:
        grant = shared.grant(limits, asked(tokens), now)
        if grant.allowed:
            times.append(now)
        now += grant.wait_s
    return times


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60, 61, 62, 63, 100, 1000, 6000])
def test_no_window_of_a_minute_has_more_requests_and_nearly_all_of_it_is_used(per_minute: int) -> None:
    number = per_minute * 3 + 2
    times = allowed_at(BatchLimits(requests_per_minute=per_minute), number, start=START + 0.7)
    most = max(sum(start <= at < start + 60 for at in times) for start in times[:: max(per_minute // 50, 1)])
    assert most <= per_minute
    assert times[-1] - times[0] <= (number / per_minute) * WINDOW + 2


@pytest.mark.parametrize(("per_minute", "tokens"), [(1000, 300), (1000, 1000), (1000, 7), (90_000, 4096)])
def test_no_window_of_a_minute_has_more_tokens(per_minute: int, tokens: int) -> None:
    times = allowed_at(BatchLimits(tokens_per_minute=per_minute), 4 * (per_minute // tokens) + 3, tokens)
    assert max(tokens * sum(start <= at < start + 60 for at in times) for start in times[::20]) <= per_minute


def test_a_request_that_no_minute_has_room_for_is_refused() -> None:
    limits = BatchLimits(tokens_per_minute=10)
    assert SharedLimits().grant(limits, asked(11), START).refused == "tokens_per_minute"
    assert SharedLimits().grant(limits, asked(10), START).allowed


@pytest.mark.parametrize("back", [1.0, 3600.0, 86400.0 * 365])
def test_a_clock_that_is_set_back_holds_requests_for_a_minute_at_most(back: float) -> None:
    shared, limits = SharedLimits(), BatchLimits(requests_per_minute=2, tokens_per_minute=100)
    shared.hold("one/model", 5.0, START)
    assert not shared.grant(limits, asked(10), START).allowed
    for now in (START + 6, START + 40):
        assert shared.grant(limits, asked(10), now).allowed
    now = START + 50 - back
    assert not shared.grant(limits, asked(10), now).allowed
    assert shared.grant(limits, asked(10), now + WINDOW + 1).allowed


@pytest.mark.parametrize("back", [1.0, 3600.0, 86400.0 * 365])
def test_a_clock_that_is_set_back_makes_no_retry_after_longer_than_was_said(back: float) -> None:
    shared, limits = SharedLimits(), BatchLimits()
    shared.hold("one/model", 5.0, START)
    now = START - back
    assert shared.grant(limits, asked(), now).wait_s <= 5.0
    shared.hold("one/model", 2.0, now + 1)
    assert not shared.grant(limits, asked(), now + 4).allowed
    assert shared.grant(limits, asked(), now + 5.1).allowed


def test_a_model_is_held_back_alone_and_not_for_ever() -> None:
    shared = SharedLimits()
    shared.hold("one/model", 1e12, START)
    shared.hold("one/model", 3.0, START)
    assert shared.grant(BatchLimits(), asked(model="one/other"), START).allowed
    assert shared.grant(BatchLimits(), asked(), START).wait_s == LONGEST_HOLD_S
    assert shared.grant(BatchLimits(), asked(), START + LONGEST_HOLD_S + 1).allowed


def test_what_an_answer_takes_in_addition_holds_back_the_next_requests() -> None:
    shared, limits = SharedLimits(), BatchLimits(tokens_per_minute=100)
    assert shared.grant(limits, asked(60), START).allowed
    assert shared.grant(limits, Reservation(id="p", claim="1", model="m", tokens=50, more=True), START + 1).allowed
    assert not shared.grant(limits, asked(1), START + 30).allowed
    shared.correct(int(START), -60)
    assert shared.grant(limits, asked(50), START + 30).allowed


def test_a_few_short_answers_do_not_open_the_minute_to_all() -> None:
    shared, limits = SharedLimits(), BatchLimits(tokens_per_minute=60_000)
    open_ended = Reservation(id="p", claim="1", model="m", tokens=10, open_ended=True)
    shared.learn(10)
    assert sum(shared.grant(limits, open_ended, START).allowed for _ in range(50)) == 5
    for _ in range(50):
        shared.learn(10)
    assert shared.grant(limits, open_ended, START + WINDOW + 2).tokens < 1_000


def test_one_long_answer_does_not_slow_down_all_others_for_ever() -> None:
    shared, limits = SharedLimits(), BatchLimits(tokens_per_minute=100_000)
    open_ended = Reservation(id="p", claim="1", model="m", tokens=10, open_ended=True)
    shared.learn(40_000)
    assert shared.grant(limits, open_ended, START).tokens >= 40_000
    for _ in range(200):
        shared.learn(100)
    assert shared.grant(limits, open_ended, START + 1).tokens < 2_000

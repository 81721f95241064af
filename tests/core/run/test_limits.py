"""Limits: N means N, before a call and while it streams, and what was produced is kept."""

from __future__ import annotations

import asyncio

import pytest

from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import TextDelta
from afkcli.core.contract.result import RunState
from tests.core.limited import is_cut_by, limited, looks
from tests.core.scripted import Scripted, answer, types


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("name", ["max_steps", "max_llm_calls"])
def test_steps_and_calls_are_as_many_as_allowed(name: str, limit: int) -> None:
    model = looks(10)
    result, _ = limited(model, **{name: limit})
    assert is_cut_by(result, name)
    assert len(model.requests) == limit

    enough = looks(limit - 1)
    assert limited(enough, **{name: limit})[0].state is RunState.COMPLETED


def test_retries_count_as_calls() -> None:
    busy = [ProviderError("busy", kind=ErrorKind.OVERLOADED, retry_after=0)]
    model = Scripted(busy, busy, busy, answer("a"))
    assert is_cut_by(limited(model, max_llm_calls=3)[0], "max_llm_calls")
    assert len(model.requests) == 3


@pytest.mark.parametrize(("limit", "at_once", "made"), [(0, 1, 0), (1, 3, 1), (2, 3, 2), (4, 3, 4), (5, 1, 5)])
def test_tool_calls_are_as_many_as_allowed(limit: int, at_once: int, made: int) -> None:
    result, events = limited(looks(10, at_once=at_once), max_tool_calls=limit)
    assert is_cut_by(result, "max_tool_calls")
    assert types(events).count("tool_started") == types(events).count("tool_completed") == made
    assert len(result.tool_executions) == made


def test_exactly_as_many_tool_calls_as_allowed_do_not_end_the_run() -> None:
    assert limited(looks(2, at_once=2), max_tool_calls=4)[0].state is RunState.COMPLETED


def test_time_limit_while_an_answer_streams_keeps_its_part() -> None:
    result, _ = limited(Scripted([TextDelta("part"), asyncio.Event()]), max_wall_time_s=0.5)
    assert is_cut_by(result, "max_wall_time_s")
    assert result.final_text == "part"


@pytest.mark.parametrize("value", [-1, float("nan")])
@pytest.mark.parametrize("name", ["max_steps", "max_total_cost_usd", "max_wall_time_s", "max_tool_calls"])
def test_a_limit_that_is_negative_or_nan_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"{name} must be >= 0, or None for no limit \(got {value}\)"):
        FailSafeConfig(**{name: value})


def test_the_steps_are_those_whose_call_was_made() -> None:
    assert limited(looks(10), max_llm_calls=2)[0].steps == 2
    assert limited(looks(10), max_steps=2)[0].steps == 2

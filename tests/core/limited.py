"""Runs with limits and prices, for the tests of limits and costs."""

from __future__ import annotations

from typing import Any

from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.protocols import Price
from afkcli.core.contract.result import AgentResult, RunState, exit_code
from afkcli.core.contract.tools import tool
from tests.core.scripted import Scripted, agent, answer, call, calls, events_of

PRICE = Price(input=1_000_000, output=2_000_000)  # a dollar a token in, two dollars a token out
FREE = Price(input=0, output=0)


@tool
def look() -> str:
    """Look."""
    return "seen"


def limited(model: Scripted, **limits: Any) -> tuple[AgentResult, list[Event]]:
    events = events_of(model, agent(tools=[look], fail_safe=FailSafeConfig(**limits)))
    last = events[-1]
    assert last.type == "completed"
    return last.result, events


def looks(number: int, *, at_once: int = 1, **options: Any) -> Scripted:
    """A model that looks `number` times before it answers."""
    step = calls(*(call("look", f"c{position}") for position in range(at_once)))
    return Scripted(*([step] * number), answer("done"), **options)


def is_cut_by(result: AgentResult, limit: str) -> bool:
    return (result.state, result.reason, exit_code(result), result.saved) == (RunState.DEGRADED, limit, 3, True)

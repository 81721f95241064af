"""The table of limits. The options, the config and its checks, the messages and the docs are derived from it.

To add a limit, add a field with its row to `FailSafeConfig`, the code in `afkcli.core.run` that enforces it, and a line
to each page that `tests/core/contract/test_limits_table.py` names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from afkcli.core.contract.errors import UsageError

MB = 1024 * 1024

MAX_TURN_MB = 30
"""The largest turn. An export writes a record as text in a line of JSON, which doubles each quote and backslash, and a
line takes at most 64 MB; the rest is for what the end of a turn adds."""


class Limit(NamedTuple):  # cheaper to import than a dataclass; every run imports it
    """One limit of a run. `field` and `default` come from the field of `FailSafeConfig` that has this row.

    Args:
        kind: `int` for counts, `float` for amounts.
        may_be_zero: whether 0 is a limit in the config and on the command line.
        least_in_code: the least value in Python.
        most: the greatest value; None if there is none.
        option: the option of the command line; None where there is none.
        variable: the environment variable that sets the option.
        is_time: whether the value is a length of time in seconds, which people may also write as `5m`.
        metavar: how help texts name the value of the option.
        help: the help text of the option.
        example: the value in the file that `afk init` writes, as TOML.
        met: what cut the answer, for a person, after "the answer was cut by"; the name of the limit by default.
        told: why the answer was cut, for the model in later turns.
        field: the name of the field, the key in `[limits]` and the `reason` of a run that reached the limit.
        default: None for no limit.
    """

    kind: type[int | float]
    example: str
    may_be_zero: bool = False
    least_in_code: int = 0
    most: float | None = None
    option: str | None = None
    variable: str | None = None
    is_time: bool = False
    metavar: str | None = None
    help: str = ""
    met: str = ""
    told: str = "a limit was reached"
    field: str = ""
    default: float | None = None

    def wrong(self, value: float) -> str | None:
        """Return what a value in the config or of an option must be, or None if the value is valid."""
        if self.most is not None and value > self.most:
            return f"must be at most {self.most:g}"
        if self.may_be_zero:
            return None if math.isfinite(value) and value >= 0 else "must be 0 or greater"
        return None if math.isfinite(value) and value > 0 else "must be greater than 0"


def _limit(default: float | None, row: Limit) -> Any:
    return field(default=default, metadata={"limit": row})


@dataclass(frozen=True, slots=True, kw_only=True)
class FailSafeConfig:
    """The limits of a run; None means no limit. Each limit is declared with its row of the table.

    Args:
        max_steps: model calls with their tools.
        max_llm_calls: model calls, retries and fallbacks included.
        max_tool_calls: tool calls of all steps.
        max_total_cost_usd: US dollars of all calls.
        max_wall_time_s: seconds from the start of the run.
        max_parallel_tools: tool calls of one step that run at the same time.
        max_turn_mb: megabytes of a turn as it is stored (2**20 bytes of JSON), at most 30: the question, the answers,
            the reasoning, the tool calls and their results, and what providers keep with them. Each part counts 1,000
            bytes more. None is the greatest value. Since 0.2.
        fallback_models: models that take over, in order, while no part of an answer was shown.
        on_unknown_price: what a cost limit does if the price of the model is unknown: warn and run, or refuse.

    Raises:
        UsageError: a limit is too low or NaN.
    """

    max_steps: int | None = _limit(
        50,
        Limit(
            kind=int,
            option="--max-steps",
            variable="AFK_MAX_STEPS",
            metavar="N",
            help="At most this many model calls.",
            example="20",
        ),
    )
    max_llm_calls: int | None = _limit(
        None,
        Limit(
            kind=int,
            option="--max-llm-calls",
            variable="AFK_MAX_LLM_CALLS",
            metavar="N",
            help="At most this many model calls, retries and fallbacks included.",
            example="40",
        ),
    )
    max_tool_calls: int | None = _limit(
        None,
        Limit(
            kind=int,
            may_be_zero=True,  # an agent that must not call a tool
            option="--max-tool-calls",
            variable="AFK_MAX_TOOL_CALLS",
            metavar="N",
            help="At most this many tool calls.",
            example="50",
        ),
    )
    max_total_cost_usd: float | None = _limit(
        None,
        Limit(
            kind=float,
            may_be_zero=True,  # only models that cost nothing
            option="--max-cost",
            variable="AFK_MAX_COST",
            metavar="USD",
            help="At most this many US dollars; the price of the model has to be known.",
            example="0.50",
            told="the cost limit was reached",
        ),
    )
    max_wall_time_s: float | None = _limit(
        None,
        Limit(
            kind=float,
            option="--timeout",
            variable="AFK_TIMEOUT",
            is_time=True,
            metavar="TIME",
            help="At most this long: seconds, or 90s, 5m, 1h; what came until then is kept.",
            example="600",
            told="the time limit was reached",
        ),
    )
    max_parallel_tools: int = _limit(8, Limit(kind=int, least_in_code=1, example="4"))
    max_turn_mb: float | None = _limit(
        16,
        Limit(
            kind=float,
            most=MAX_TURN_MB,
            option="--max-turn-mb",
            variable="AFK_MAX_TURN_MB",
            metavar="MB",
            help="At most this much in the turn, as it is stored; 16 by default.",
            example="8",
            met="the limit of the size of a turn (max_turn_mb)",
            told="the turn reached its limit of size",
        ),
    )
    fallback_models: tuple[str, ...] = ()
    on_unknown_price: Literal["warn", "refuse"] = "warn"

    def __post_init__(self) -> None:
        """Refuse a value that is too low, and NaN, which no count ever reaches."""
        for limit in LIMITS:
            value = getattr(self, limit.field)
            if value is not None and not value >= limit.least_in_code:
                raise UsageError(
                    f"{limit.field} must be >= {limit.least_in_code}, or None for no limit (got {value:g})"
                )
            if value is not None and limit.most is not None and value > limit.most:
                raise UsageError(f"{limit.field} must be at most {limit.most:g} (got {value:g})")


LIMITS: tuple[Limit, ...] = tuple(
    item.metadata["limit"]._replace(
        field=item.name, default=item.default, met=item.metadata["limit"].met or f"the limit {item.name}"
    )
    for item in fields(FailSafeConfig)
    if "limit" in item.metadata
)
"""All limits, in the order of the help texts."""


class Budget(NamedTuple):
    """A limit for the total cost of several runs: its key in `[budgets]`, the `reason` of a run, `met` and `told`."""

    field: str
    reason: str
    met: str
    told: str


BUDGETS = (
    Budget(
        field="thread_usd",
        reason="budget_thread",
        met="the budget of the thread, which is used up (thread_usd)",
        told="the budget of the thread was used up",
    ),
    Budget(
        field="day_usd",
        reason="budget_day",
        met="the budget of the day, which is used up (day_usd)",
        told="the budget of the day was used up",
    ),
)

CUT_BY: Mapping[str, str] = {
    "length": "the model's output limit",
    **{budget.reason: budget.met for budget in BUDGETS},
    **{limit.field: limit.met for limit in LIMITS},
}
"""What cut an answer, for a person, by the `reason` of the run."""

CUT_WHY: Mapping[str, str] = {
    "length": "the model's limit of output was reached",
    **{budget.reason: budget.told for budget in BUDGETS},
    **{limit.field: limit.told for limit in LIMITS},
}
"""Why an answer was cut, for the model in later turns, by the `reason` of the run."""

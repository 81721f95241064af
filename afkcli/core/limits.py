"""The fail-safe: steps, calls, tool calls, time and cost of one run. N means N."""

from __future__ import annotations

from afkcli.core.agent import FailSafeConfig
from afkcli.core.errors import LimitReachedError
from afkcli.core.protocols import Price
from afkcli.core.result import Usage

CHARS_PER_TOKEN = 4
"""The usual estimate for English text; only used between two usage reports, while an answer streams."""


def cost_of(usage: Usage | None, price: Price | None) -> float | None:
    """Return US dollars, or None where the price or the usage is unknown; what is free costs 0 all the same."""
    if price is None:
        return None
    if usage is None:
        return None if price.input or price.output else 0.0
    cached_price = price.input if price.cache_read is None else price.cache_read
    cached = usage.cache_read_input_tokens
    dollars = (usage.input_tokens - cached) * price.input + cached * cached_price + usage.output_tokens * price.output
    return dollars / 1_000_000


class Limits:
    """Counts what a run has used and raises `LimitReachedError` where one more would be too many.

    `cost_usd` is what the run has cost, None once a part of it is unknown. The cost limit goes on counting then, by
    what is known and by estimates of what was streamed.
    """

    def __init__(self, config: FailSafeConfig) -> None:
        self.config = config
        self.steps = 0
        self.llm_calls = 0
        self.tool_calls = 0
        self.cost_usd: float | None = 0.0
        self._counted_usd = 0.0
        self._streamed_usd = 0.0

    def start_step(self) -> None:
        self._check("max_steps", self.steps, self.config.max_steps)
        self._check_cost()
        self.steps += 1

    def check_call(self) -> None:
        """Raise `LimitReachedError` where one more model call would be too many."""
        self._check("max_llm_calls", self.llm_calls, self.config.max_llm_calls)

    def start_call(self) -> None:
        self.check_call()
        self.llm_calls += 1

    def take_tool_calls(self, wanted: int) -> int:
        """Return how many of the `wanted` tool calls may be made, and count them."""
        limit = self.config.max_tool_calls
        granted = wanted if limit is None else max(0, min(wanted, limit - self.tool_calls))
        self.tool_calls += granted
        return granted

    def refuse_tool_calls(self) -> None:
        """Raise for tool calls that were not granted."""
        limit = self.config.max_tool_calls
        raise LimitReachedError(f"the limit max_tool_calls={limit} was reached", limit="max_tool_calls")

    def charge(self, usage: Usage | None, price: Price | None) -> None:
        """Add the cost of a call that has ended; `usage` is None where the provider did not say it."""
        cost = cost_of(usage, price)
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost
        self._counted_usd += self._streamed_usd if cost is None else cost
        self._streamed_usd = 0.0

    def stream(self, text: str, price: Price | None) -> None:
        """Count `text` of an answer that is still streaming against the cost limit."""
        if self.config.max_total_cost_usd is not None and price is not None:
            self._streamed_usd += len(text) / CHARS_PER_TOKEN * price.output / 1_000_000
            self._check_cost()

    def _check(self, name: str, used: int, limit: int | None) -> None:
        if limit is not None and used >= limit:
            raise LimitReachedError(f"the limit {name}={limit} was reached", limit=name)

    def _check_cost(self) -> None:
        limit = self.config.max_total_cost_usd
        if limit is None:
            return
        used = self._counted_usd + self._streamed_usd
        if used > limit or used >= limit > 0:  # a limit of 0 lets what costs nothing run
            raise LimitReachedError(f"the limit max_total_cost_usd={limit:g} was reached", limit="max_total_cost_usd")

"""Counts the steps, model calls and tool calls of one run against their limits. N means N."""

from __future__ import annotations

from afkcli.core.contract.errors import LimitReachedError
from afkcli.core.contract.limits import FailSafeConfig


class Limits:
    """Counts what a run has used, and raises `LimitReachedError` if one more would exceed a limit."""

    def __init__(self, config: FailSafeConfig) -> None:
        self.config = config
        self.steps = 0
        self.llm_calls = 0
        self.tool_calls = 0

    def start_step(self) -> None:
        self._check("max_steps", self.steps, self.config.max_steps)
        self.steps += 1

    def check_call(self) -> None:
        """Raise `LimitReachedError` if one more model call would exceed the limit."""
        self._check("max_llm_calls", self.llm_calls, self.config.max_llm_calls)

    def leaves(self, calls: int) -> bool:
        """Return whether the limit allows that many model calls more."""
        limit = self.config.max_llm_calls
        return limit is None or self.llm_calls + calls <= limit

    def start_call(self) -> None:
        self.check_call()
        self.llm_calls += 1

    def take_tool_calls(self, wanted: int) -> int:
        """Return how many of the `wanted` tool calls are allowed, and count those."""
        limit = self.config.max_tool_calls
        granted = wanted if limit is None else max(0, min(wanted, limit - self.tool_calls))
        self.tool_calls += granted
        return granted

    def refuse_tool_calls(self) -> None:
        """Raise `LimitReachedError` because not all tool calls were granted."""
        limit = self.config.max_tool_calls
        raise LimitReachedError(f"the limit max_tool_calls={limit} was reached", limit="max_tool_calls")

    def _check(self, name: str, used: int, limit: int | None) -> None:
        if limit is not None and used >= limit:
            raise LimitReachedError(f"the limit {name}={limit} was reached", limit=name)

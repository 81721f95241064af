"""The result of a run: `AgentResult`, `Usage` and the states."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

from afkcli.core.contract.errors import (
    EXIT_BUSY,
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_INTERNAL,
    EXIT_OK,
    ErrorKind,
)
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.structs import FrozenStruct, force_setattr


class RunState(StrEnum):
    """How a run ended; prints as its value."""

    COMPLETED = "completed"
    DEGRADED = "degraded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


MAX_COUNT = 2**53
"""A larger number is not a count of tokens; JSON readers would round it."""


_COUNT = LazyPattern(r"\s*([0-9]{1,16})(?:\.0*)?\s*")


def whole_count(value: object) -> int | None:
    """Return a count as servers write it (12, 12.0, "12" or "12.0"); None for anything else, as for what is negative.

    Since: 0.2.
    """
    if isinstance(value, str):
        found = _COUNT.compiled.fullmatch(value) if len(value) < 40 else None
        value = int(found[1]) if found is not None else None
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) and value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


class Usage(FrozenStruct, kw_only=True):
    """Tokens, counted as OpenTelemetry's `gen_ai.usage.*` counts them: `input_tokens` includes the cached ones.

    `cache_creation_1h_input_tokens` are those of `cache_creation_input_tokens` whose cache lasts an hour (since 0.2).
    `unknown` names the counts that the provider did not report, or not as a number; these are 0 here.
    What costs by such a count has no known cost. Since: 0.2.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hold every number to what a count can be: no budget may grow by a negative one that a plugin reports.

        A value that is not a finite number is left as it is: that is a fault of the plugin, which the run reports.
        """
        for name in _COUNTS:
            value: object = getattr(self, name)
            if type(value) is int and 0 <= value <= MAX_COUNT:
                continue
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            count = whole_count(value)
            force_setattr(self, name, count or 0)
            if count is None and name not in self.unknown:
                force_setattr(self, "unknown", (*self.unknown, name))

    def __add__(self, other: Usage) -> Usage:
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Usage(**counts, unknown=tuple(dict.fromkeys((*self.unknown, *other.unknown))))

    @property
    def has_known_cost(self) -> bool:
        """Whether every count that has a price is known."""
        return not _PRICED.intersection(self.unknown)


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "unknown")
_PRICED = frozenset(_COUNTS) - {"total_tokens", "reasoning_output_tokens"}


def usage_from_json(value: object) -> Usage:
    """Return the usage in a JSON object; what is missing or not a number is 0."""
    if not isinstance(value, dict):
        return Usage()
    counts = {name: value[name] for name in _COUNTS if isinstance(value.get(name), (int, float))}
    unknown = value.get("unknown")
    names = unknown if isinstance(unknown, list) else ()
    return Usage(**counts, unknown=tuple(name for name in names if isinstance(name, str)))


class ToolExecution(FrozenStruct, kw_only=True):
    """One tool call that was made or refused."""

    tool_name: str
    tool_call_id: str
    tool_success: bool
    latency_ms: int


class AgentResult(FrozenStruct, kw_only=True):
    """The outcome of one run.

    `total_cost_usd` is None if a price is unknown; it is never a guess. `error` is the line of the error, `error_kind`
    its kind. `saved` is False if the turn is not in the store. `output` is the validated answer of an agent with an
    `output_type`: an object of that type, and in events its JSON.
    """

    final_text: str
    state: RunState
    reason: str | None
    run_id: str
    thread_id: str
    usage: Usage
    total_cost_usd: float | None
    steps: int
    tool_executions: tuple[ToolExecution, ...]
    denied: int
    model: str
    error: str | None = None
    error_kind: ErrorKind | None = None
    saved: bool = True
    output: Any = None


def exit_code(result: AgentResult) -> int:
    """Return the documented exit code of a run that ended by itself (a signal or a closed stdout has its own)."""
    if result.state is RunState.DEGRADED:
        return EXIT_DEGRADED
    if result.state is RunState.FAILED:
        return EXIT_INTERNAL if result.error_kind is ErrorKind.INTERNAL else EXIT_FAILED
    if result.state is RunState.INTERRUPTED:
        return EXIT_BUSY
    return EXIT_OK if result.saved else EXIT_INTERNAL

"""What a run leaves: `AgentResult`, `Usage` and the states."""

from __future__ import annotations

from dataclasses import dataclass, fields
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


class RunState(StrEnum):
    """How a run ended; prints as its value."""

    COMPLETED = "completed"
    DEGRADED = "degraded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, counted as OpenTelemetry's `gen_ai.usage.*` counts them: `input_tokens` includes the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    reasoning_output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in _USAGE_FIELDS})


_USAGE_FIELDS = tuple(field.name for field in fields(Usage))


def usage_from_json(value: object) -> Usage:
    """Return the usage in a JSON object; what is missing or not a number is 0."""
    if not isinstance(value, dict):
        return Usage()
    numbers = {name: value.get(name) for name in _USAGE_FIELDS}
    return Usage(**{name: number for name, number in numbers.items() if isinstance(number, int)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolExecution:
    """One tool call that was carried out or refused."""

    tool_name: str
    tool_call_id: str
    tool_success: bool
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """The outcome of one run.

    `total_cost_usd` is None when a price is unknown, never a guess. `error` is the line of the error, `error_kind`
    its kind. `saved` is False when the turn is not in the store. `output` is the validated answer of an agent with an
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

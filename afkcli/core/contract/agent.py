"""What runs: an agent and its fail-safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.tools import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class FailSafeConfig:
    """The limits of a run; None is no limit.

    Args:
        max_steps: model calls with their tools.
        max_total_cost_usd: US dollars of all calls.
        max_wall_time_s: seconds from the start of the run.
        max_tool_calls: tool calls of all steps.
        max_llm_calls: model calls, retries included.
        max_parallel_tools: tool calls of one step that run at the same time.
        fallback_models: models that take over, in order, while nothing of an answer was shown.
        on_unknown_price: what a cost limit does with a model whose price is unknown: warn and run, or refuse.

    Raises:
        UsageError: a limit is negative or NaN, or no tool could run.
    """

    max_steps: int | None = 50
    max_total_cost_usd: float | None = None
    max_wall_time_s: float | None = None
    max_tool_calls: int | None = None
    max_llm_calls: int | None = None
    max_parallel_tools: int = 8
    fallback_models: tuple[str, ...] = ()
    on_unknown_price: Literal["warn", "refuse"] = "warn"

    def __post_init__(self) -> None:
        """Refuse what is no limit, because nothing is greater than NaN: `UsageError`."""
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            if value is not None and not value >= lowest:
                raise UsageError(f"{name}={value} is no limit; use {lowest} or more, or None for no limit")


_LOWEST = {
    "max_steps": 0,
    "max_total_cost_usd": 0,
    "max_wall_time_s": 0,
    "max_tool_calls": 0,
    "max_llm_calls": 0,
    "max_parallel_tools": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A model with instructions, tools and limits.

    Args:
        name: what the agent is called in events and threads.
        model: `provider/model`, or a bare name that config or a plugin's prefix resolves; None leaves the choice to the
            thread and the config.
        instructions: the system message; leading and trailing white space and common indentation are taken away.
        tools: functions, what `@tool` made of them, and names of plugins' tools (`files.read`, `files.*`); an agent has
            no others.
        options: portable options (`afkcli.core.contract.options`), checked against what the model takes before the run.
        extra: passed on to the provider's API as it is.
        output_type: what the answer has to be, as JSON: a type that pydantic knows (a model, a dataclass, `list[int]`),
            or a JSON Schema as a dict. It is validated, asked for once more if it does not fit, and then
            `AgentResult.output`.
        remember_model: whether the thread goes on with this model where nothing else names one.
    """

    name: str = "afk"
    model: str | None = None
    instructions: str = ""
    fail_safe: FailSafeConfig = field(default_factory=FailSafeConfig)
    tools: Sequence[Tool | Callable[..., Any] | str] = ()
    options: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    output_type: Any = None
    remember_model: bool = True

"""What runs: an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.tools import Tool


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

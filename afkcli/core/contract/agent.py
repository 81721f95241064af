"""What runs: an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from afkcli.core.contract.context import ContextConfig
from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.tools import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A model with instructions, tools and limits.

    Args:
        name: the name of the agent in events and threads.
        model: `provider/model`, or a bare name that the config or a plugin's prefix resolves; with None the thread and
            the config choose.
        instructions: the system message; leading and trailing white space and common indentation are removed.
        tools: functions, functions with `@tool`, and names of plugin tools (`files.read`, `files.*`); the agent has no
            other tools.
        options: portable options (`afkcli.core.contract.options`), checked against what the model accepts.
        extra: passed on to the provider's API unchanged.
        output_type: the type of the answer, as JSON: a type that pydantic supports (a model, a dataclass, `list[int]`),
            or a JSON Schema as a dict. The answer is validated, the model is asked once more if it does not fit, and
            the result is `AgentResult.output`.
        context: what is done with a conversation that does not fit into the window of the model. Since 0.2.
        remember_model: whether the thread uses this model in later turns that do not name another one.
    """

    name: str = "afk"
    model: str | None = None
    instructions: str = ""
    fail_safe: FailSafeConfig = field(default_factory=FailSafeConfig)
    tools: Sequence[Tool | Callable[..., Any] | str] = ()
    options: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    output_type: Any = None
    context: ContextConfig = field(default_factory=ContextConfig)
    remember_model: bool = True

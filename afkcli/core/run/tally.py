"""What a run has used so far."""

from __future__ import annotations

from afkcli.core.contract.result import ToolExecution, Usage
from afkcli.core.contract.structs import Struct, field


class Tally(Struct, kw_only=True):
    """The tokens, the cost, the tool calls and the denied tool calls of one run.

    `cost_usd` is set at the end of the run; it is None while it is unknown.
    """

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    executions: list[ToolExecution] = field(default_factory=list)
    denied: int = 0

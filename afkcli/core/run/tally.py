"""What a run has used so far."""

from __future__ import annotations

from afkcli.core.contract.result import ToolExecution, Usage
from afkcli.core.contract.structs import Struct, field


class Tally(Struct, kw_only=True):
    """The tokens, the cost, the tool calls and the denied tool calls of one run.

    `cost_usd` is set at the end of the run; it is None while it is unknown. Of it, `compaction_usd` is what summaries
    cost that have a record of their own in the thread, with `compaction_usage`, which `usage` does not have.
    """

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    compaction_usage: Usage = field(default_factory=Usage)
    compaction_usd: float = 0.0
    executions: list[ToolExecution] = field(default_factory=list)
    denied: int = 0

    def take_compaction(self, usage: Usage, cost_usd: float | None) -> None:
        """Count what a summary took that has a record of its own."""
        self.compaction_usage += usage
        self.compaction_usd += cost_usd or 0.0

    @property
    def turn_usd(self) -> float | None:
        """What the turn cost without the summaries that have records of their own; None if that is unknown."""
        return None if self.cost_usd is None else max(0.0, round(self.cost_usd - self.compaction_usd, 12))

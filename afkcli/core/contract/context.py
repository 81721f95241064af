"""What is done with a conversation that does not fit into the window of its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from afkcli.core.contract.errors import UsageError

ContextPolicy = Literal["trim", "compact", "native", "refuse"]
CONTEXT_POLICIES: tuple[ContextPolicy, ...] = get_args(ContextPolicy)
KEEP = 0.6
"""The part of the window that is kept when it would be passed: so the beginning of the requests then stays the same for
many turns, and the caches of servers take it."""


SMALLEST_WINDOW = 256
"""A window of fewer tokens has no room for an answer; such a number is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextConfig:
    """How a run makes its conversation fit into the window of its model.

    Args:
        policy: `trim` replaces old tool results by a mark, then leaves old turns out; `compact` sends a summary in
            place of old turns; `native` has the server of the model shorten the conversation by itself, and a summary
            is sent to a model that cannot read what another server made; both trim where that cannot be done; `refuse`
            ends the run with the error `context_length` before anything is sent.
        keep: the part of the window that is left full afterwards, from 0.1 to 0.9.
        model: the model that makes summaries, as `provider/model`; the run's own by default.
        instructions: what that model is told to do, in place of afk's own words.

    Raises:
        UsageError: the policy is not known, `keep` is out of range, or a text is empty.

    Since: 0.2.
    """

    policy: ContextPolicy = "trim"
    keep: float = KEEP
    model: str | None = None
    instructions: str | None = None

    def __post_init__(self) -> None:
        if self.policy not in CONTEXT_POLICIES:
            raise UsageError(f"the context policy must be one of {', '.join(CONTEXT_POLICIES)} (got {self.policy!r})")
        if not 0.1 <= self.keep <= 0.9:
            raise UsageError(f"keep must be a number from 0.1 to 0.9 (got {self.keep!r})")
        for name in ("model", "instructions"):
            text = getattr(self, name)
            if text is not None and not text.strip():
                raise UsageError(f"the {name} of the context must not be empty; leave it out for the default")

"""What is counted of a batch: prompts by state, tokens and dollars, and the rules by which requests are allowed.

For engines, which keep a `BatchTotals` with each batch and a `PromptUse` with each prompt. Since: 0.2.
"""

from __future__ import annotations

from typing import Final

from afkcli.core.contract.engine import BatchInfo, BatchLimits, Grant, Outcome, PromptState, Reservation, Used
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.shared_limits import SharedLimits
from afkcli.core.contract.structs import FrozenStruct, Struct, field

_WAIT_FOR_MONEY_S: Final = 0.2
"""After how many seconds a request asks again that waits until others have turned out to cost less."""
_ROUNDING: Final = 1 + 1e-12
"""What the limit of the cost is multiplied by, so that sums of many small amounts reach it."""


class PromptUse(FrozenStruct, kw_only=True):
    """What is counted for the requests of one claim of a prompt.

    `reserved_usd` is what the request in progress may cost, and `used_usd` what the ones before it cost, in US dollars.
    `reserved_tokens` are those of the last request, and `reserved_at` the second in which it was allowed.
    """

    reserved_usd: float = 0.0
    used_usd: float = 0.0
    reserved_tokens: int = 0
    reserved_at: int = 0


class BatchTotals(Struct):
    """What is counted of a batch. `counts` has the number of prompts by the place of their state in `PromptState`.

    In US dollars: `cost_usd` is what settled prompts cost, `used_usd` what the ended requests of running prompts cost
    and what parked prompts may have cost, `reserved_usd` what requests may cost that are in progress.

    An engine changes it in the transaction in which it changes the rows of prompts, and keeps it as JSON.
    """

    counts: list[int] = field(default_factory=lambda: [0] * len(PromptState))
    cost_usd: float = 0.0
    used_usd: float = 0.0
    reserved_usd: float = 0.0
    tokens: int = 0
    requests: int = 0
    unknown_costs: int = 0
    sequence: int = 0
    limits: SharedLimits = field(default_factory=SharedLimits)

    def move(self, before: int, after: int, number: int = 1) -> None:
        """Count prompts in the state with the place `after`, no longer in that with the place `before`."""
        self.counts[before] -= number
        self.counts[after] += number

    def claimable(self, limits: BatchLimits, limit: int) -> int:
        """Return how many of `limit` prompts may be given to a worker."""
        queued, running = self.counts[0], self.counts[1]
        room = limit if limits.concurrency is None else limits.concurrency - running
        return max(min(limit, room, queued), 0)

    def reserve(self, limits: BatchLimits, asked: Reservation, use: PromptUse, now: float) -> tuple[Grant, PromptUse]:
        """Decide about a request, and count it if it is allowed.

        Args:
            limits: the limits of the batch.
            asked: the request.
            use: what is counted for its prompt.
            now: the time in seconds, by one clock for all workers.

        Returns:
            The answer, and what is counted for the prompt from now on.
        """
        grant = self._within_cost(limits, asked)
        if grant.allowed:
            grant = self.limits.grant(limits, asked, now)
        if not grant.allowed:
            return grant, use
        self.reserved_usd += asked.cost_usd
        self.tokens += grant.tokens
        if asked.more:
            return grant, PromptUse(
                reserved_usd=use.reserved_usd + asked.cost_usd,
                used_usd=use.used_usd,
                reserved_tokens=use.reserved_tokens + grant.tokens,
                reserved_at=use.reserved_at,
            )
        self.requests += 1
        self.used_usd += use.reserved_usd
        self.reserved_usd -= use.reserved_usd
        return grant, PromptUse(
            reserved_usd=asked.cost_usd,
            used_usd=use.used_usd + use.reserved_usd,
            reserved_tokens=grant.tokens,
            reserved_at=int(now),
        )

    def _within_cost(self, limits: BatchLimits, asked: Reservation) -> Grant:
        """Return whether a request fits below the most that the batch may cost.

        It waits where other requests may turn out to cost less than they reserved. What `more` is asked for does not
        wait, because such requests would wait for each other. Before the first answer shows whether the server keeps to
        the limit of an answer, open-ended requests are in progress one at a time.
        """
        if limits.max_cost_usd is None:
            return Grant(allowed=True)
        longest = self.limits.longest_output
        if asked.open_ended and not longest and self.reserved_usd > 0:
            return Grant(wait_s=_WAIT_FOR_MONEY_S)
        spent = self.cost_usd + self.used_usd + asked.cost_usd
        most = limits.max_cost_usd * _ROUNDING
        if spent + self.reserved_usd <= most:
            return Grant(allowed=True)
        if spent <= most and not asked.more:
            return Grant(wait_s=_WAIT_FOR_MONEY_S)
        return Grant(refused="max_cost", longest_output=longest)

    def correct(self, used: Used, use: PromptUse) -> PromptUse:
        """Count what the last request really used, and return what is counted for the prompt from now on."""
        tokens = use.reserved_tokens
        if used.output_tokens:
            self.limits.learn(used.output_tokens)
        if used.tokens is not None:
            self.limits.correct(use.reserved_at, used.tokens - tokens)
            self.tokens += used.tokens - tokens
            tokens = used.tokens
        usd = use.reserved_usd if used.cost_usd is None else used.cost_usd
        self.reserved_usd = max(self.reserved_usd - use.reserved_usd, 0.0)
        self.used_usd += usd
        return PromptUse(used_usd=use.used_usd + usd, reserved_tokens=tokens, reserved_at=use.reserved_at)

    def end(self, outcome: Outcome, use: PromptUse) -> None:
        """Count the cost and the tokens of a prompt that is done, failed or cancelled."""
        held = self._release(use)
        self.cost_usd += held if outcome.cost_usd is None else outcome.cost_usd
        self.unknown_costs += outcome.cost_usd is None
        if not use.reserved_tokens:
            self.tokens += outcome.tokens or 0

    def park(self, use: PromptUse) -> float:
        """Count what a parked prompt may have cost as used; return it, which is its `used_usd` from now on."""
        held = self._release(use)
        self.used_usd += held
        return held

    def queue_again(self, use: PromptUse) -> None:
        """Count what a prompt cost or may have cost as spent, because it is queued again."""
        self.cost_usd += self._release(use)

    def info(
        self, *, name: str, created: str, settings: JsonObject, limits: BatchLimits, paused: str | None
    ) -> BatchInfo:
        """Return the batch as an engine shows it: what the engine keeps beside the totals, and what they count.

        Args:
            name: the name of the batch.
            created: when it was submitted, in RFC 3339.
            settings: plain JSON of whoever submitted it.
            limits: the limits of the batch.
            paused: why nothing is claimed, or None.

        Returns:
            The batch. Its `reserved_usd` is what is reserved and used of prompts that are not settled.

        Since: 0.2.
        """
        return BatchInfo(
            name=name,
            created=created,
            settings=settings,
            limits=limits,
            counts={state: count for state, count in zip(PromptState, self.counts, strict=True) if count},
            cost_usd=self.cost_usd,
            reserved_usd=self.reserved_usd + self.used_usd,
            tokens=self.tokens,
            requests=self.requests,
            paused=paused,
            unknown_costs=self.unknown_costs,
        )

    def _release(self, use: PromptUse) -> float:
        """Take what a prompt used and reserved out of the totals, and return it."""
        self.reserved_usd = max(self.reserved_usd - use.reserved_usd, 0.0)
        self.used_usd = max(self.used_usd - use.used_usd, 0.0)
        return use.reserved_usd + use.used_usd

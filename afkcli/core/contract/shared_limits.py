"""What all workers of a batch together may send in a minute, as it is kept between their requests.

Requests and tokens are counted by the second in which they were allowed. A window of 62 seconds of the wall clock holds
any 60 seconds of the server's, and leaves a second for the time between the permission and the arrival.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from afkcli.core.contract.engine import BatchLimits, Grant, Reservation
from afkcli.core.contract.structs import Struct, field

WINDOW: Final = 62
LONGEST_HOLD_S: Final = 3600.0
"""The longest time for which `Retry-After` holds back the requests of a model."""

OUTPUT_MARGIN: Final = 1.25
"""What the output of the longest answer is multiplied by, as the next one may be longer."""
FORGETTING: Final = 0.98
"""What the longest output is multiplied by at each shorter one, so that a single one does not slow down all others."""

FIRST_PARTS: Final = 4
"""Into how many parts a minute is shared at least when the first answer is known; each further answer adds two."""

Seconds = dict[int, int]
"""A count by the second in which it was made."""


class SharedLimits(Struct):
    """What was allowed in the last minute. `next_at` spaces requests, so that a minute's do not leave at once.

    `held` has the moment until which no request of a model is allowed, and `spans` the number of seconds that this was
    said for: where the clock was set back meanwhile, they are counted from then on. `longest_output` is the output of
    the longest answers so far, 0 before the first one, and `answers` the number of answers.
    """

    requests: Seconds = field(default_factory=dict)
    tokens: Seconds = field(default_factory=dict)
    next_at: float = 0.0
    held: dict[str, float] = field(default_factory=dict)
    spans: dict[str, float] = field(default_factory=dict)
    longest_output: int = 0
    answers: int = 0

    def hold(self, model: str, seconds: float, now: float) -> None:
        self.forget(now)
        span = min(max(seconds, 0.0), LONGEST_HOLD_S)
        if now + span > self.held.get(model, 0.0):
            self.held[model], self.spans[model] = now + span, span

    def forget(self, now: float) -> None:
        """Drop what is older than a minute; what lies in the future, because the clock was set back, counts as now."""
        self.requests, self.tokens = _recent(self.requests, now), _recent(self.tokens, now)
        spans = {model: self.spans.get(model, LONGEST_HOLD_S) for model, until in self.held.items() if until > now}
        self.held = {model: min(self.held[model], now + span) for model, span in spans.items()}
        self.spans = spans
        self.next_at = min(self.next_at, now + WINDOW)

    def grant(self, limits: BatchLimits, asked: Reservation, now: float) -> Grant:
        """Return whether a request may be sent by what was sent in the last minute; what is allowed is counted."""
        if asked.more:  # it was sent; what it takes in addition counts, and holds back the next ones
            self._count(0, asked.tokens, now)
            return Grant(allowed=True, tokens=asked.tokens)
        if limits.tokens_per_minute is not None and asked.tokens > limits.tokens_per_minute:
            return Grant(refused="tokens_per_minute")
        self.forget(now)
        tokens = self._tokens_of(limits, asked)
        waits = [self.held.get(asked.model, 0.0) - now]
        if limits.requests_per_minute is not None:
            waits += [self.next_at - now, _wait(self.requests, 1, limits.requests_per_minute, now)]
        if limits.tokens_per_minute is not None:
            waits.append(_wait(self.tokens, tokens, limits.tokens_per_minute, now))
        wait = max(waits)
        if wait > 0:
            return Grant(wait_s=max(wait, 0.001))
        if limits.requests_per_minute is not None:
            self._space(limits.requests_per_minute, now)
        self._count(1, tokens, now)
        return Grant(allowed=True, tokens=tokens)

    def _tokens_of(self, limits: BatchLimits, asked: Reservation) -> int:
        """Return how many tokens a request is counted with until its answer is there."""
        most = limits.tokens_per_minute
        if not asked.open_ended or most is None:
            return asked.tokens
        if self.longest_output:
            # A few short answers do not prove that there are no long ones, so the first requests have a greater part.
            output = max(int(self.longest_output * OUTPUT_MARGIN) + 1, most // (FIRST_PARTS + 2 * self.answers))
            return min(asked.tokens + output, most)
        return max(asked.tokens, most // 2, most - sum(self.tokens.values()))

    def learn(self, output_tokens: int) -> None:
        """Take note of the output of an answer, by which open-ended requests are counted."""
        self.answers += 1
        self.longest_output = max(output_tokens, int(self.longest_output * FORGETTING), 1)

    def correct(self, second: int, tokens: int) -> None:
        """Add `tokens`, which may be negative, to what was allowed in a second of the last minute."""
        if second in self.tokens:
            self.tokens[second] = max(self.tokens[second] + tokens, 0)

    def _space(self, per_minute: int, now: float) -> None:
        """Have the next request wait; as many as one second has on average may leave at once."""
        spacing = WINDOW / per_minute
        at_once = max(1.0, per_minute / WINDOW) * spacing
        self.next_at = max(self.next_at, now - at_once + spacing) + spacing

    def _count(self, requests: int, tokens: int, now: float) -> None:
        second = int(now)
        if requests:
            self.requests[second] = self.requests.get(second, 0) + requests
        if tokens:
            self.tokens[second] = self.tokens.get(second, 0) + tokens


def _recent(counts: Seconds, now: float) -> Seconds:
    kept: Seconds = {}
    for second, count in counts.items():
        if second > now - WINDOW:
            kept[min(second, int(now))] = kept.get(min(second, int(now)), 0) + count
    return kept


def _wait(counts: Mapping[int, int], wanted: int, limit: int, now: float) -> float:
    """Return after how many seconds `wanted` more fit below `limit`; 0 if they do now."""
    over = sum(counts.values()) + wanted - limit
    if over <= 0:
        return 0.0
    for second in sorted(counts):
        over -= counts[second]
        if over <= 0:
            return max(second + WINDOW + 0.001 - now, 0.001)
    return math.inf

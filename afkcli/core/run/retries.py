"""When a failed model call is made again."""

from __future__ import annotations

import random

MAX_RETRIES = 4

FIRST_DELAY_S = 0.5
"""The longest wait before the first retry if the server names none; it doubles from retry to retry."""

MAX_DELAY_S = 30.0

MAX_RETRY_AFTER_S = 120.0
"""The longest wait that a server may ask for. If it asks for more, the run fails or a fallback model takes over."""


def retry_delay(attempt: int, retry_after: float | None, first: float = FIRST_DELAY_S) -> float:
    """Return the seconds to wait after failed attempt `attempt` (1, 2 ...).

    It is what the server asked for, else exponential from `first` on. Half of it is random, so that calls that failed
    together are not retried together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    if retry_after is not None:
        return max(0.0, retry_after)
    ceiling = min(MAX_DELAY_S, first * 2 ** (attempt - 1))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311

"""A clock of an event loop that stands still while the process is stopped, as on a laptop that sleeps.

Otherwise all its timeouts would have passed at the moment in which it continues, before it reads the answers that have
come meanwhile: the requests would be sent and paid once more.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

BEAT_S: Final = 0.5
"""How often the loop looks at the clock at least."""
MOST_GAP_S: Final = 2.0
"""From so many seconds between two looks on, the process was stopped, or so busy that no time should count."""


class AwakeClock:
    """Returns the seconds in which the process was awake. Since: 0.2."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._asleep = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        gap = now - self._last
        if gap > MOST_GAP_S:
            self._asleep += gap - BEAT_S
        self._last = now
        return now - self._asleep


def count_awake_time(loop: asyncio.AbstractEventLoop) -> None:
    """Have the timeouts of a running loop count only the time in which its process is awake."""
    loop.time = AwakeClock()  # type: ignore[method-assign]

    def beat() -> None:
        loop.call_later(BEAT_S, beat)

    beat()

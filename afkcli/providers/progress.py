"""How long a server has gone without progress, whatever else it sent meanwhile.

Progress is a piece of the answer: text, reasoning, a tool call or a piece of its arguments, and what a reader takes
without showing it (a signature, encrypted reasoning). No progress is what only keeps the connection alive: comments,
empty events, pings, deltas that are empty, blank or repeat a role, usage, bytes of an event that does not end.
"""

from __future__ import annotations

import asyncio

from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.core.contract.messages import (
    ModelEvent,
    ModelWarning,
    OpaqueDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from afkcli.providers.bodies import BodyTooLongError

MAX_IDLE_BYTES = MAX_LINE_BYTES + 1024 * 1024
"""How much a server may send from one piece of progress to the next: a little more than the longest event."""

MAX_UNSHOWN = 100_000
"""How many pieces that are not shown count as progress; they have no other limit of their number."""


class Progress:
    """Watches one answer. Times are in seconds, on the clock of the running event loop.

    The time counts while the server is waited for, not while a slow reader of the answer holds it up.

    Args:
        first: the limit before the answer begins.
        idle: the limit within the answer, from the last progress on.

    Since: 0.2.
    """

    def __init__(self, first: float, idle: float) -> None:
        self.answered = False
        self._first = first
        self._idle = idle
        self._since: float | None = None
        self._bytes = 0
        self._unshown = 0
        self._calls: set[str] = set()

    @property
    def limit(self) -> float:
        """The limit that counts now."""
        return self._idle if self.answered else self._first

    @property
    def remaining(self) -> float:
        """How much of it is left; the time runs from the first look at it."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        return max(0.0, self._since + self.limit - now)

    def received(self, size: int) -> None:
        """Count bytes of the body; `BodyTooLongError` for too many without progress."""
        self._bytes += size
        if self._bytes > MAX_IDLE_BYTES:
            raise BodyTooLongError(f"more than {MAX_IDLE_BYTES // 1024 // 1024} MB without a piece of the answer")

    def saw(self, event: ModelEvent) -> None:
        """Take an event that was made of the answer."""
        if isinstance(event, ModelWarning):
            return
        if not self.answered or self._moves(event):
            self._made()
        self.answered = True

    def saw_unshown(self, pieces: int) -> None:
        """Take how many pieces the reader has taken, in all, that no event shows."""
        if self._unshown < pieces <= MAX_UNSHOWN:
            self._made()
        self._unshown = pieces

    def stall(self, *, unfinished: bool) -> str:
        """Return that the time has passed and what came in it, to be put behind the name of the server or answer.

        Args:
            unfinished: whether a piece has begun and not ended.
        """
        came = f"only {self._bytes} bytes of an unfinished piece" if unfinished else "only keep-alives"
        if self.answered:
            return f"stalled{f': {came}' if self._bytes else ''} for {self._idle:g} s"
        return f"sent {came if self._bytes else 'nothing'} for {self._first:g} s"

    def _made(self) -> None:
        self._since, self._bytes = None, 0

    def _moves(self, event: ModelEvent) -> bool:
        if isinstance(event, (TextDelta, ReasoningDelta)):
            return bool(event.text.strip())
        if isinstance(event, ToolCallDelta):
            is_new = event.id not in self._calls and len(self._calls) < MAX_UNSHOWN
            if is_new:
                self._calls.add(event.id)
            return is_new or bool(event.arguments.strip())
        return not isinstance(event, OpaqueDelta) or event.size > 0

"""Pieces of the answer that come fast, merged into fewer events.

A piece is sent at once if it is the first of its kind, or if the last one left `MERGE_SECONDS` ago or earlier: a slow
stream is shown piece by piece. Pieces that come faster wait for each other until then. So there are about fifty events
in a second, however fast a text comes: an event costs the renderer, the sinks and the queues the same for a word as for
a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from afkcli.core.contract.events import Event
from afkcli.core.run.large_pieces import is_large

MERGE_SECONDS = 0.02
"""How long a piece waits for the next ones, at most."""

DeltaKind: TypeAlias = Callable[..., Event]


class DeltaMerger:
    """Holds the newest pieces of one run's answer. All pieces of an event are of the same kind, and of the same call.

    `pieces` is how many are held. `post` sends an event: it takes its type, its values, and how many pieces it holds.
    """

    def __init__(self) -> None:
        self.pieces = 0
        self.post: Callable[[DeltaKind, dict[str, Any], int], None] = lambda kind, values, pieces: None
        self._chars = 0
        self._kind: DeltaKind | None = None
        self._field = ""
        self._same: dict[str, Any] = {}
        self._texts: list[str] = []
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def add(self, kind: DeltaKind, field: str, text: str, same: dict[str, Any]) -> None:
        """Take a piece, and send what is due.

        Args:
            kind: the type of its event.
            field: the field that its text is added to.
            text: the text.
            same: the other fields, in which it is like those that it is merged with.
        """
        if kind is not self._kind or same != self._same:
            self.flush()
            self._kind, self._field, self._same = kind, field, same
            self._last = float("-inf")
        elif is_large(self._chars + len(text)):
            self.flush()
        self._texts.append(text)
        self._chars += len(text)
        self.pieces += 1
        loop = asyncio.get_running_loop()
        if loop.time() - self._last >= MERGE_SECONDS:
            self.flush()
        elif self._timer is None:
            self._timer = loop.call_at(self._last + MERGE_SECONDS, self._flush_due)

    def rest(self) -> None:
        """Send what is held: another event follows, after which the next piece does not wait."""
        self.flush()
        self._kind = None

    def flush(self) -> None:
        """Send what is held."""
        if not self.pieces or self._kind is None:
            return
        text = self._texts[0] if self.pieces == 1 else "".join(self._texts)
        pieces, self.pieces, self._chars = self.pieces, 0, 0
        self._texts.clear()
        self._last = asyncio.get_running_loop().time()
        self.post(self._kind, {**self._same, self._field: text}, pieces)

    def _flush_due(self) -> None:
        """Send what has been held long enough. The timer is set anew only when it fires: it is not moved."""
        self._timer = None
        if not self.pieces:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._last >= MERGE_SECONDS:
            self.flush()
        else:
            self._timer = loop.call_at(self._last + MERGE_SECONDS, self._flush_due)

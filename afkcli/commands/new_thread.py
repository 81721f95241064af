"""The line on a terminal that a run begins a new thread, with the thread that may have been meant.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    from afkcli.core.contract.events import Event
    from afkcli.wiring.runner import Runner

_LOOK_UP_SECONDS = 0.5
"""How long the first event after the request waits for the names that are near."""


class NewThreadLine:
    """Says that a thread is new, once the request has left, so that looking for near names delays no request.

    Args:
        runner: knows the other threads.
        messages: where the line goes.
        name: the name that was given; None where no line is wanted.
    """

    def __init__(self, runner: Runner, messages: Messages, name: str | None) -> None:
        self._runner = runner
        self._messages = messages
        self._name = name
        self._near: asyncio.Future[Sequence[str]] | None = None

    async def take(self, event: Event) -> None:
        """Take an event before it is shown."""
        if self._name is None:
            return
        if event.type == "run_started":
            if event.turn > 1:
                self._name = None
        elif event.type == "step_started" and self._near is None:
            self._near = asyncio.ensure_future(self._runner.near_threads(self._name))
        elif self._near is not None or event.type == "completed":
            await self._say(self._name)
            self._name = None

    async def _say(self, name: str) -> None:
        near: Sequence[str] = ()
        if self._near is not None:
            await asyncio.wait({self._near}, timeout=_LOOK_UP_SECONDS)
            with contextlib.suppress(
                Exception, asyncio.CancelledError
            ):  # of the store, a plugin; the line is not worth an error
                near = self._near.result() if self._near.done() else ()
            self._near.cancel()
        hint = f"; did you mean {' or '.join(map(repr, near[:2]))}?" if near else ""
        self._messages.say(f"new thread {name!r}{hint}")

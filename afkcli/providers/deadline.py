"""One time limit for the many waits of a stream: a timer of the event loop that is set anew only when it fires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class Deadline:
    """Limits one wait after the other. `asyncio.timeout` makes an object and a timer for each of them.

    Since: 0.2.
    """

    def __init__(self) -> None:
        self._when: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._has_passed = False

    async def wait(self, awaited: Awaitable[T], seconds: float) -> T:
        """Return what `awaited` gives; `TimeoutError` if it takes longer than `seconds`."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        when = loop.time() + seconds
        self._when, self._task, self._has_passed = when, task, False
        if self._timer is None or self._timer.when() > when:
            self.close()
            self._timer = loop.call_at(when, self._fire)
        cancelling = task.cancelling()
        try:
            return await awaited
        except asyncio.CancelledError:
            if self._has_passed and task.cancelling() - 1 <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._when = self._task = None
            if self._has_passed:  # also if what was awaited took the cancellation for its own
                task.uncancel()

    def close(self) -> None:
        """Cancel the timer; another wait sets it anew."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._when is None or self._task is None:  # no one waits now
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._when:
            self._timer = loop.call_at(self._when, self._fire)
        else:
            self._has_passed = True
            self._task.cancel()

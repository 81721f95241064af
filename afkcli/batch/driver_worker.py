"""The driver of `--via provider` as the attendant of a batch sees it: one worker, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from afkcli.batch.via_provider import ProviderDriver
from afkcli.core.contract.errors import AfkError


class DriverWorker:
    """Runs a driver as a task. `error` is what ended it, and `problem` that in words for a person.

    Args:
        make: makes the driver, in the event loop in which it runs.
    """

    def __init__(self, make: Callable[[], ProviderDriver]) -> None:
        self.is_alive = True
        self.problem: str | None = None
        self.error: BaseException | None = None
        self._make = make
        self._driver: ProviderDriver | None = None
        self._task: asyncio.Task[None] | None = None

    def drain(self) -> None:
        """Have it send nothing more, and end."""
        if self._driver is not None:
            self._driver.drain()

    def kill(self) -> None:
        """Have it end at once; what was sent stays where it is."""
        if self._task is not None:
            self._task.cancel()

    def watch(self, ended: Callable[[Any], None]) -> None:
        """Start it, and have `ended` called once it has ended."""
        self._driver = self._make()
        self._task = asyncio.ensure_future(self._driver.run())

        def done(task: asyncio.Task[None]) -> None:
            self.is_alive = False
            self.error = None if task.cancelled() else task.exception()
            assert self._driver is not None
            self.problem = self._driver.problem
            if self.error is not None:
                is_ours = isinstance(self.error, AfkError)
                self.problem = str(self.error) if is_ours else f"{type(self.error).__name__}: {self.error}"
            ended(self)

        self._task.add_done_callback(done)

    async def aclose(self) -> None:
        """Wait until it has ended."""
        if self._task is not None:
            await asyncio.wait({self._task})

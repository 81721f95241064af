"""When a run imports what its provider and its tools need: not while its question is written.

An import in one thread of a process holds up every statement that another one executes, and on a busy machine a
transaction of some statements takes seconds then, in which all other processes wait for its lock. So an import begins
when the question is written, or when that has to wait for another process, and then the store waits for the import.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Imports:
    """The imports of one run, and the `WaitListener` of its thread.

    Args:
        say: takes one line, when a call to the store has waited for a second; called in the event loop.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._may_begin = asyncio.Event()
        self._say = say
        self._has_begun = False
        self._running = 0

    def begin(self) -> None:
        """Let the imports begin; to be called in the event loop."""
        self._has_begun = True
        self._may_begin.set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, which imports, when it may begin."""
        self._running += 1
        try:
            await self._may_begin.wait()
            return await work
        finally:
            self._running -= 1
            work.close()

    def began(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._in_loop(self._may_begin.set)

    def is_importing(self) -> bool:
        return self._has_begun and self._running > 0

    def say(self, line: str) -> None:
        self._in_loop(self._say, line)

    def _in_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the run with it
            self._loop.call_soon_threadsafe(call, *arguments)

"""One thread that makes all calls to a store, in order, and keeps open turns journaled and leases renewed.

It ticks by its own clock, so a run that is stuck (a stopped terminal, a slow reader) keeps its lease and its text.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from afkcli.core.contract.errors import StoreError
from afkcli.core.contract.protocols import JOURNAL_SECONDS
from afkcli.core.contract.tasks import seen_through
from afkcli.core.contract.waiting import on_waiting
from afkcli.core.thread.writer import RescueWriter, TurnWriter

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """Runs store calls on a daemon thread that starts with the first call."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._writers: list[TurnWriter | RescueWriter] = []
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._next_tick = 0.0
        self._ticking = False

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function` after all calls submitted before; the future holds what it returns or raises."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as error:  # handed to whoever waits
                future.set_exception(error)
            except BaseException as error:  # a store that calls sys.exit ends neither this thread nor afk
                future.set_exception(StoreError(f"the store failed: {type(error).__name__}: {error}"))

        self._start()
        self._jobs.put(job)
        return future

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` and wait for it. If the waiting task is cancelled, the function still runs to its end."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(function, *args, **kwargs)))

    async def finish(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, and wait for the end even if the waiting task is cancelled, as by an event loop that closes."""
        return await seen_through(asyncio.wrap_future(self.submit(function, *args, **kwargs)))

    def watch(self, writer: TurnWriter | RescueWriter) -> None:
        """Tick `writer` from now on; call it on this thread (inside a submitted function)."""
        self._writers.append(writer)

    def unwatch(self, writer: TurnWriter | RescueWriter) -> None:
        """Tick `writer` no longer; call it on this thread."""
        if writer in self._writers:
            self._writers.remove(writer)

    def close(self) -> None:
        """Finish what was submitted and stop the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="afk-store", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        on_waiting(self._tick_if_due)
        self._next_tick = time.monotonic() + JOURNAL_SECONDS
        while True:
            wait = max(0.0, self._next_tick - time.monotonic()) if self._writers else None
            try:
                job = self._jobs.get(timeout=wait)
            except queue.Empty:
                self._tick_if_due()
                continue
            if job is None:
                return
            job()
            self._tick_if_due()

    def _tick_if_due(self) -> None:
        """Tick all writers, if it is time; also from inside a call that waits."""
        if self._ticking or time.monotonic() < self._next_tick:
            return
        self._ticking = True
        self._next_tick = (
            time.monotonic() + JOURNAL_SECONDS
        )  # from the beginning: a slow write does not put off the next
        for writer in tuple(self._writers):
            writer.tick()
        self._ticking = False

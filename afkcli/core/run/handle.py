"""The run handle, with which a caller reads and controls a run in progress."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal, Self

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.events import Event
from afkcli.core.contract.result import AgentResult
from afkcli.core.contract.rules import ApprovalRule, Decision
from afkcli.core.run.decisions import Answer, Waiting

MAX_BUFFERED_EVENTS = 64
"""How many events a run may be ahead of its reader; then the run, and with it the provider's stream, waits.

An event that holds several pieces of the answer counts as many.
"""


class EventChannel:
    """A bounded, ordered channel from one run to one reader.

    `ahead` is how far the run is ahead of the reader, in pieces, and `is_read` whether anyone reads the events that are
    to come.
    """

    def __init__(self) -> None:
        self.ahead = 0
        self.is_read = True
        self._events: deque[tuple[Event, int]] = deque()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._unpaused = asyncio.Event()
        self._unpaused.set()
        self._bounded = True
        self._closed = False

    def put(self, event: Event, pieces: int = 1) -> None:
        """Add `event`, which holds so many pieces of the answer."""
        if not self.is_read:
            return
        self._events.append((event, pieces))
        self.ahead += pieces
        self._readable.set()

    async def drain(self) -> None:
        """Wait while the reader is behind or the run is paused."""
        while self._bounded and self.ahead >= MAX_BUFFERED_EVENTS:
            self._writable.clear()
            await self._writable.wait()
        if not self._unpaused.is_set():
            await self._unpaused.wait()

    async def get(self) -> Event | None:
        """Return the next event, or None after the last."""
        while not self._events:
            if self._closed:
                return None
            self._readable.clear()
            await self._readable.wait()
        event, pieces = self._events.popleft()
        self.ahead -= pieces
        if self.ahead < MAX_BUFFERED_EVENTS:
            self._writable.set()
        return event

    @contextlib.contextmanager
    def ignored(self) -> Iterator[None]:
        """Drop the events that are there and those that come meanwhile: nobody reads them."""
        self._events.clear()
        self.ahead, self.is_read = 0, False
        self._writable.set()
        try:
            yield
        finally:
            self.is_read = True

    @property
    def pending(self) -> bool:
        return bool(self._events)

    def pause(self) -> None:
        if self._bounded:
            self._unpaused.clear()

    def resume(self) -> None:
        self._unpaused.set()

    def unbound(self) -> None:
        """Let the run end without waiting for its reader."""
        self._bounded = False
        self._writable.set()
        self._unpaused.set()

    def close(self) -> None:
        self._closed = True
        self._readable.set()


class RunHandle:
    """A run in progress: iterate over its events, then read `result`.

    `async with handle:` cancels the run when it is left early; a handle that is dropped does so at best effort.
    A slow reader slows the run; nothing is dropped and memory does not grow.
    """

    def __init__(
        self,
        *,
        run_id: str,
        thread_id: str,
        channel: EventChannel,
        drive: asyncio.Task[AgentResult],
        stop: Callable[[], None],
        decide: Callable[[str, Answer], None],
        waiting: Callable[[str], Waiting | None],
        warn: Callable[[str, str], None],
        failure: Callable[[], BaseException | None],
    ) -> None:
        self.run_id = run_id
        self.thread_id = thread_id
        self._channel = channel
        self._drive = drive
        self._stop = stop
        self._decide = decide
        self._waiting = waiting
        self._warn = warn
        self._failure = failure
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._channel.get()
        if event is None:
            await asyncio.shield(self._drive)
            raise StopAsyncIteration
        return event

    @property
    def pending(self) -> bool:
        """Whether the next event is available."""
        return self._channel.pending

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._drive.done()

    @property
    def result(self) -> AgentResult:
        """The result; `UsageError` while the run has not ended."""
        if not self._drive.done():
            raise UsageError("the run has not ended yet; iterate over the handle to its end, or `await handle.wait()`")
        return self._drive.result()

    @property
    def exception(self) -> BaseException | None:
        """The exception that ended the run, for a traceback; None for a run without one."""
        return self._failure()

    async def wait(self) -> AgentResult:
        """Ignore the remaining events, and return the result."""
        with self._channel.ignored():
            return await asyncio.shield(self._drive)

    async def ended(self) -> AgentResult:
        """Wait until the run has ended and its turn is sealed, and return the result; reads no event. Since: 0.2."""
        return await asyncio.shield(self._drive)

    async def cancel(self) -> AgentResult:
        """Stop the run and return its result once the turn is sealed; nothing happens to a run that has ended.

        The state is `cancelled`, unless the run ended by itself first. Events that were not read can still be.
        """
        self._channel.unbound()
        self._stop()
        return await asyncio.shield(self._drive)

    def pause(self) -> None:
        """Pause the run at its next event until `resume`; its lease is kept."""
        self._channel.pause()

    def resume(self) -> None:
        """Continue a paused run."""
        self._channel.resume()

    def decide(
        self,
        approval_id: str,
        decision: Decision,
        *,
        reason: str = "",
        rule: ApprovalRule | None = None,
        kept: Literal["thread", "config"] = "thread",
    ) -> None:
        """Answer an `approval_requested`; an id that is not waiting is ignored with a warning event.

        Args:
            approval_id: that of the event.
            decision: the decision.
            reason: why; the model gets it with a denial. Since: 0.2.
            rule: with `allow`, a rule that allows later calls too. Since: 0.2.
            kept: where the rule is kept: `thread` writes it to the thread; `config` means that the caller has written
                it to the config, and this run follows it too. Since: 0.2.
        """
        self._decide(approval_id, Answer(decision=decision, reason=reason, rule=rule, kept=kept))

    def waiting(self, approval_id: str) -> Waiting | None:
        """Return the tool call that waits for a decision; None if no call waits by this id. Since: 0.2."""
        return self._waiting(approval_id)

    def warn(self, code: str, message: str) -> None:
        """Add a `warning` event to the run, which comes before its next event; a run that has ended gets none.

        Since: 0.2.
        """
        if not self._drive.done():
            self._warn(code, message)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cancel()

    def __del__(self) -> None:
        if not self._drive.done() and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._abandon, self._channel, self._stop)

    @staticmethod
    def _abandon(channel: EventChannel, stop: Callable[[], None]) -> None:
        channel.unbound()
        stop()

"""The worker of one sink: a thread with a queue, so that a sink never delays a run.

A sink that raises, stalls at the end or lets its queue overflow is reported once and left out. One that cannot be
closed is reported too.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from afkcli.core.contract.events import Event
from afkcli.core.contract.protocols import Sink
from afkcli.core.contract.structs import msgspec
from afkcli.core.contract.tasks import inbox
from afkcli.core.contract.text import error_text
from afkcli.core.run.copies import own_copy

MAX_QUEUED_EVENTS = 10_000
MAX_QUEUED_BYTES = 32 * 1024 * 1024
"""A little more than the largest turn (`MAX_TURN_MB`), which may come at once."""

BATCH_SECONDS = 0.02
"""How long events wait for the next ones before the thread of the sink is woken; the end of a run does not wait."""

MAX_BATCH_BYTES = 256 * 1024
"""Of the events that a `BatchSink` gets at once, unless it is one."""

FLUSH_SECONDS = 1.0
"""How long a sink may take for each of its last events, beside the time that its size gives it."""

MAX_FLUSH_SECONDS = 5.0
"""How long it may take for all of them, beside the time that their size gives them."""

BYTES_PER_SECOND = 4 * 1024 * 1024
"""How fast a sink has to be with a large event: the last ones of a large turn hold all of it."""

_EVENT_BYTES = 500
_MOST_EVENT_BYTES = 512 * 1024
"""What one event counts at most: a sink that is given a few large ones at once is not one that does not keep up. The
events of a run share their texts with its turn, whose size has a limit."""


class _Queued(NamedTuple):
    """An event, and the size of its texts."""

    event: Event
    size: int

    @property
    def counted(self) -> int:
        """What it counts in the queue, in bytes: its texts, and a constant for the rest."""
        return min(_EVENT_BYTES + self.size, _MOST_EVENT_BYTES)


class _Barrier:
    """A place in the queue: `passed` is done once the sink has taken all that was put before it."""

    def __init__(self) -> None:
        self.passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put = inbox().put

    def pass_(self) -> None:
        """Tell the event loop; to be called by the worker."""
        self._put(self._end)

    def _end(self) -> None:
        if not self.passed.done():
            self.passed.set_result(None)


class SinkWorker:
    """The queue and the thread of one sink. The sink gets a copy of each event.

    Args:
        sink: gets the events.
        on_left_out: called at most once, on any thread, with one line for a person when the sink is left out or when it
            cannot be closed.
    """

    def __init__(self, sink: Sink, on_left_out: Callable[[str], None]) -> None:
        self._sink = sink
        self._emit_all: Callable[[list[Event]], None] | None = getattr(sink, "emit_all", None)  # of a `BatchSink`
        self._on_left_out = on_left_out
        self._queue: queue.SimpleQueue[list[_Queued] | _Barrier | None] = queue.SimpleQueue()
        self._waiting: list[_Queued] = []
        self._barrier: _Barrier | None = None  # the one in the queue
        self._next_barrier: _Barrier | None = None
        self._put = 0
        self._put_bytes = 0
        self._taken_bytes = 0
        self._taken = 0
        self._in_hand = 0
        self._left_out = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, event: Event) -> None:
        """Queue `event`; never waits."""
        if self._left_out:
            return
        # Copied here, on the event loop, and not by the worker: until the worker takes the event, its reader may change
        # it, and a dict that changes while another thread copies it raises. It costs about as much as making the event.
        queued = _Queued(own_copy(event), _text_size(event))
        self._put += 1
        self._put_bytes += queued.counted
        self._waiting.append(queued)
        if len(self._waiting) == 1:
            self._hand_on_soon()
        if self._put_bytes - self._taken_bytes > MAX_QUEUED_BYTES or self._put - self._taken > MAX_QUEUED_EVENTS:
            self._hand_on()
            self._leave_out("it does not keep up")

    def _hand_on_soon(self) -> None:
        """Hand the events on together after `BATCH_SECONDS`: to wake the thread takes longer than to make an event."""
        try:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._hand_on)
        except RuntimeError:  # no event loop
            self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting:
            events, self._waiting = self._waiting, []
            if self._started() is not None:
                self._queue.put(events)

    def _started(self) -> threading.Thread | None:
        """Return the sink's thread; None, and leave the sink out, where the system starts none."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"afk-sink-{self._sink.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the limit of processes may be reached
                self._leave_out(str(error))
                return None
            self._thread = thread
        return self._thread

    async def flush(self) -> None:
        """Wait until the sink has taken its events, as long as it makes progress; else leave it out."""
        self._hand_on()
        if self._thread is None or self._left_out:
            return
        passed = self._place_of_next_barrier().passed
        began = time.monotonic()
        for seconds in self._patience():
            await asyncio.wait([passed], timeout=seconds)
            if passed.done():
                return
        self._leave_out(f"it took longer than {time.monotonic() - began:.0f} s to write its last events")

    def _place_of_next_barrier(self) -> _Barrier:
        """Return a barrier behind all events: one for all runs that end while the sink is still at an earlier one.

        To wake the thread of the sink, and to be woken by it, takes longer than to write the events of a short run.
        """
        if self._barrier is None or self._barrier.passed.get_loop() is not asyncio.get_running_loop():
            self._barrier = self._next_barrier = None  # those of another event loop are no one's any more
            return self._put_barrier(_Barrier())
        if self._next_barrier is None:
            self._next_barrier = _Barrier()
        return self._next_barrier

    def _put_barrier(self, barrier: _Barrier) -> _Barrier:
        self._hand_on()
        self._barrier, self._next_barrier = barrier, None
        barrier.passed.add_done_callback(lambda passed: self._put_next_barrier(barrier))
        self._queue.put(barrier)
        return barrier

    def _put_next_barrier(self, passed: _Barrier) -> None:
        if self._barrier is not passed:  # another event loop uses the sink by now
            return
        self._barrier = None
        if self._next_barrier is not None:
            self._put_barrier(self._next_barrier)

    def close(self) -> None:
        """Close the sink. Wait as `flush` does, and not at all for a sink that is left out."""
        self._hand_on()
        thread = self._started()  # also of a sink that got nothing: its `close` may not end
        if thread is None:
            return
        self._queue.put(None)
        for seconds in self._patience() if not self._left_out else (0,):
            thread.join(seconds)
        if thread.is_alive():
            self._report(f"did not close within {FLUSH_SECONDS:g} s; its last events may be missing")

    def _patience(self) -> Iterator[float]:
        """Yield how many seconds to wait for the sink, again as long as it has taken an event meanwhile."""
        left, seen = MAX_FLUSH_SECONDS, -1
        while seen != self._taken and left > 0:
            seen, large = self._taken, self._in_hand / BYTES_PER_SECOND
            seconds = min(FLUSH_SECONDS, left)
            began = time.monotonic()
            yield seconds + large
            left -= max(0.0, time.monotonic() - began - large)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Barrier):
                item.pass_()
                continue
            for batch in _batches(item) if self._emit_all is not None else ([queued] for queued in item):
                self._emit(batch)
        self._in_hand = 0
        self._close_sink()

    def _emit(self, batch: list[_Queued]) -> None:
        self._taken_bytes += sum([queued.counted for queued in batch])
        self._in_hand = sum([queued.size for queued in batch])
        self._taken += len(batch)
        if self._left_out:
            return
        try:
            if self._emit_all is not None:
                self._emit_all([queued.event for queued in batch])
            else:
                self._sink.emit(batch[0].event)
        except BaseException as error:  # a sink is a plugin, and may call sys.exit
            self._leave_out(error_text(error))

    def _close_sink(self) -> None:
        try:
            self._sink.close()
        except BaseException as error:  # as in `_run`
            self._report(f"could not be closed: {error_text(error)}; its last events may be missing")

    def _leave_out(self, reason: str) -> None:
        self._report(f"is left out from now on: {reason}")

    def _report(self, what: str) -> None:
        """Leave the sink out, and say why; only the first reason is said."""
        with self._lock:
            first, self._left_out = not self._left_out, True
        if first:
            self._on_left_out(f"the sink {self._sink.name!r} {what}")


def _batches(queue: list[_Queued]) -> Iterator[list[_Queued]]:
    """Yield events in groups that are not large, so that a sink that is slow with them is seen to go on."""
    batch: list[_Queued] = []
    size = 0
    for queued in queue:
        size += queued.counted
        if batch and size > MAX_BATCH_BYTES:
            yield batch
            batch, size = [], queued.counted
        batch.append(queued)
    yield batch


def _text_size(event: Event) -> int:
    """Return the approximate size of the texts of `event` in bytes."""
    if event.type == "text_delta":
        return len(event.text_delta)
    size = sum([len(value) for value in msgspec.structs.astuple(event) if type(value) is str])
    if event.type == "step_completed":
        return size + len(event.message.text)
    return size + len(event.result.final_text) if event.type == "completed" else size

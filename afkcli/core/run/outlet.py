"""The outlet of a run: the only way by which its events reach the sinks and the reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from afkcli.core.contract.events import Completed, Event, Warned
from afkcli.core.contract.ids import Clock
from afkcli.core.contract.structs import Struct, field
from afkcli.core.contract.text import error_line
from afkcli.core.run.copies import own_copy
from afkcli.core.run.delta_merger import DeltaMerger
from afkcli.core.run.handle import MAX_BUFFERED_EVENTS, EventChannel
from afkcli.core.run.sink_worker import SinkWorker
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Stopping


class Outlet(Struct, kw_only=True, eq=False):
    """Numbers and dates the events of one run and sends each to the sinks, then to the reader.

    The reader and each sink get a copy of their own, so that what they do with it changes neither the run nor what the
    others see: arguments of a tool call that were approved stay as they were.

    Args:
        spec: the ids that each event carries.
        channel: where the reader gets the events.
        sinks: they get every event.
        redact: removes known secrets from a text.
        stopping: tells whether the run has ended without its work.
        pending_warnings: codes and lines that are posted before the next event. Any thread may append to it.

    `step` is the number of the current step, 0 before the first. Pieces of the answer that come fast are merged (see
    `DeltaMerger`), and sent before any other event. `watch` is told of each event before it is sent; with it, pieces
    are not merged, so that the events do not depend on time.
    """

    spec: RunSpec
    channel: EventChannel
    sinks: Sequence[SinkWorker]
    redact: Callable[[str], str]
    stopping: Stopping
    pending_warnings: list[tuple[str, str]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    step: int = 0
    watch: Callable[[type, Mapping[str, Any]], None] | None = None
    _seq: int = 0
    _ended: bool = False
    _deltas: DeltaMerger = field(default_factory=DeltaMerger)

    def __post_init__(self) -> None:
        self._deltas.post = self._post

    @property
    def began(self) -> bool:
        """Whether there was an event."""
        return self._seq > 0

    def post(self, kind: Callable[..., Event], /, **values: Any) -> None:
        """Send the next event to the sinks and the reader, without waiting."""
        self._deltas.rest()
        self._post(kind, values)

    def _post(self, kind: Callable[..., Event], values: Mapping[str, Any], pieces: int = 1) -> None:
        if self.watch is not None:
            assert isinstance(kind, type)
            self.watch(kind, values)
        if not self.sinks and not self.channel.is_read:  # no event is made that no one sees
            self._seq += 1
            self._ended = kind is Completed
            return
        event = kind(
            run_id=self.spec.run_id,
            thread_id=self.spec.thread_id,
            thread_key=self.spec.thread_key,
            turn=self.spec.turn,
            seq=self._seq,
            ts=self.clock.timestamp(),
            step=self.step,
            **values,
        )
        self._seq += 1
        self._ended = kind is Completed
        for sink in self.sinks:
            sink.put(event)  # which copies it
        if self.channel.is_read:
            self.channel.put(own_copy(event), pieces)

    async def emit(self, kind: Callable[..., Event], /, **values: Any) -> None:
        """Post the pending warnings and the next event, then wait until the reader keeps up.

        Raises:
            CancelledError: the run has ended without its work, which did not stop when it was cancelled.
        """
        self._begin()
        self.post(kind, **values)
        await self.channel.drain()

    async def emit_delta(self, kind: Callable[..., Event], field: str, text: str, /, **same: Any) -> None:
        """Emit a piece of the answer, or merge it with pieces like it that follow at once; raises as `emit`.

        Args:
            kind: the type of the event.
            field: the field that has the text.
            text: the text.
            same: the other fields; pieces in which they are equal may become one event.
        """
        self._begin()
        self._deltas.add(kind, field, text, same)
        if self.watch is not None or self.channel.ahead + self._deltas.pieces >= MAX_BUFFERED_EVENTS:
            self._deltas.flush()
        await self.channel.drain()

    def _begin(self) -> None:
        if self.stopping.given_up.done():
            raise asyncio.CancelledError
        if self.pending_warnings:
            self.post_pending()

    def warn(self, code: str, message: str) -> None:
        """Post a warning, without waiting."""
        self.post(Warned, code=code, message=error_line(message, self.redact))

    def warn_soon(self, code: str, message: str) -> None:
        """Post a warning now, or after the first event, or leave it pending after the last one."""
        self.pending_warnings.append((code, message))
        if self.began and not self._ended:
            self.post_pending()

    def post_pending(self) -> None:
        """Post the pending warnings."""
        while self.pending_warnings:
            code, message = self.pending_warnings.pop(0)
            self.warn(code, message)

"""What a tool says while it runs: progress and warnings, from any thread, bounded, and only until its call ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from afkcli.core.contract.events import ToolProgress
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.messages import ToolCallPart
from afkcli.core.contract.tasks import started
from afkcli.core.contract.tools import FoundTools, ToolContext, in_tool_context
from afkcli.core.run.outlet import Outlet

PROGRESS_AT_ONCE = 100
PROGRESS_PER_SECOND = 10
"""How many reports of progress one call may make: so many at once, and so many a second on average."""

MAX_WARNINGS = 100
"""How many warnings one call may raise."""

MAX_CHARS = 500
"""The longest text of one report; the rest is cut."""


class ToolReports:
    """Takes the reports of one tool call, or of one lookup of tools, until it `end`s.

    Args:
        outlet: where they become events.
        call: the call; None for a lookup of tools, which has no progress and whose warnings wait for the next event.

    `context` is what the tool gets. Its methods may be called from any thread.
    """

    def __init__(self, outlet: Outlet, call: ToolCallPart | None) -> None:
        self._outlet = outlet
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._ended = False
        self._started = time.monotonic()
        self._progress = 0
        self._is_cut = False
        self._warnings = 0
        self.context = ToolContext(
            run_id=outlet.spec.run_id,
            thread_id=outlet.spec.thread_id,
            tool_call_id=call.id if call is not None else "",
            on_progress=self._take_progress,
            on_warning=self._take_warning,
        )

    def end(self) -> None:
        """Ignore all further reports, also those that are on their way from another thread."""
        with self._lock:
            self._ended = True

    def _take_progress(self, text: str) -> None:
        call = self._call
        if call is None:
            return
        with self._lock:
            allowed = PROGRESS_AT_ONCE + PROGRESS_PER_SECOND * (time.monotonic() - self._started)
            if self._ended or (self._progress >= allowed and self._is_cut):
                return
            cut = self._progress >= allowed
            self._is_cut = self._is_cut or cut
            self._progress += not cut
        if cut:
            line = f"the tool {call.name!r} reports progress too often; a part of it is not shown"
            self._post(lambda: self._outlet.warn("progress_cut", line))
            return
        message = _fit(self._outlet.redact(text))
        self._post(lambda: self._outlet.post(ToolProgress, tool_name=call.name, tool_call_id=call.id, message=message))

    def _take_warning(self, code: str, message: str) -> None:
        with self._lock:
            if self._ended or self._warnings == MAX_WARNINGS:
                return
            self._warnings += 1
        warning = (_fit(code), _fit(message))
        if self._call is None:  # `run_started` has to be the first event
            self._outlet.pending_warnings.append(warning)
        else:
            self._post(lambda: self._outlet.warn(*warning))

    def _post(self, post: Callable[[], None]) -> None:
        """Have `post` called in the event loop, unless the call has ended by then."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: None if self._ended else post())


def start_listing(outlet: Outlet, listing: Coroutine[Any, Any, FoundTools]) -> asyncio.Task[FoundTools]:
    """Start a lookup of tools, in a context in which a toolset can raise warnings."""
    reports = ToolReports(outlet, None)
    with in_tool_context(reports.context):  # a task keeps the context in which it was made
        task = started(listing)
    task.add_done_callback(lambda done: reports.end())
    return task


def _fit(text: str) -> str:
    return clean_text(text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}...")

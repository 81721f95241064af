"""A sign of life: what is waited for, on a line below the cursor that is gone when something else is written.

A worker draws it, so that it also turns while the event loop is blocked (an import, a tool that is not asynchronous)
and in commands that have no event loop. It costs a stream nothing: that something was written is noted where the
terminal is written to, and the worker looks at that four times a second.

Where output is only appended, a line says after 10, 30, 60 s and so on what is waited for.

Since: 0.2.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import AbstractContextManager
from types import FrameType
from typing import Self

from afkcli.core.contract.text import one_line
from afkcli.core.contract.waits import observed_waits
from afkcli.host.descriptors import LinesForPeople
from afkcli.host.invocation import Invocation, Stream
from afkcli.host.transient import TransientLine, is_in_foreground
from afkcli.screen.display import WaitForm
from afkcli.screen.messages import Messages
from afkcli.screen.styles import DIM
from afkcli.screen.text import shortened

QUIET_SECONDS = 1.0
"""How long nothing has to be written before a line is drawn."""
LOOK_SECONDS = 0.25
FRAME_SECONDS = 0.1
SAID_AFTER_SECONDS = (10, 30, 60, 120, 300, 600)
"""After which seconds of a wait a line says so where output is only appended; then every ten minutes."""
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"


class _Wait:
    """Something that is waited for, since when, and for how long if that is known; `then` comes after it."""

    __slots__ = ("_since_written", "since", "then", "until", "what")

    def __init__(
        self, what: str, lasts: float | None = None, since_written: bool = False, then: _Wait | None = None
    ) -> None:
        self.what = what
        self.since = time.monotonic()
        self.until = self.since + lasts if lasts is not None else None
        self.then = then
        self._since_written = since_written

    def seconds(self, written_at: float) -> str:
        """Return the words for the seconds, those that are left if it is known how long it lasts."""
        now = time.monotonic()
        if self.until is not None:
            return f" in {max(0, self.until - now):.0f} s"
        since = max(self.since, written_at) if self._since_written else self.since
        return f" ({max(0, now - since):.0f} s)"


class Activity:
    """Shows what is waited for as long as it is entered.

    Args:
        invocation: the terminal is its stderr.
        messages: the lines on it.
        form: how a wait is shown, see `wait_form`.
        quiet_s: how long nothing has to be written before a line is drawn.

    What `waiting_for` says in this context comes first, and of several waits the one that began last; else what was
    said by `wait_for` or `show`.
    """

    def __init__(
        self, invocation: Invocation, messages: Messages, form: WaitForm, *, quiet_s: float | None = None
    ) -> None:
        self._invocation = invocation
        self._messages = messages
        self._form = form
        self._quiet_s = QUIET_SECONDS if quiet_s is None else quiet_s
        self._base: _Wait | None = None
        self._waits: list[_Wait] = []
        self._line: TransientLine | None = None
        self._ended = threading.Event()
        self._frame = 0
        self._said: tuple[_Wait | None, int] = (None, 0)
        self._suspends = False
        self._observed: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        if self._form == "line":
            if not self._begin_line():
                return self
            self._catch_suspension()
        self._observed = observed_waits(self)
        self._observed.__enter__()
        threading.Thread(target=self._run, name="afk-activity", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._observed is not None:
            self._observed.__exit__(None, None, None)
        if self._line is not None:
            self._line.close()
            self._invocation.transient = None
        if self._suspends and signal.getsignal(signal.SIGTSTP) == self._suspend:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def _begin_line(self) -> bool:
        """Make the line; return whether there is one, which nothing else draws on already."""
        if self._invocation.transient is None:
            self._line = self._invocation.transient = _transient_line(self._invocation.stderr)
        return self._line is not None

    def begin(self, what: str) -> object:
        wait = _Wait(f"waiting for {what}")
        self._waits.append(wait)
        return wait

    def end(self, wait: object) -> None:
        assert isinstance(wait, _Wait)
        self._waits.remove(wait)

    def wait_for(self, what: str | None) -> None:
        """Say what is waited for where nothing else is; None for nothing."""
        self.show(f"waiting for {what}" if what is not None else None)

    def show(
        self, text: str | None, *, since_written: bool = False, seconds: float | None = None, then: str | None = None
    ) -> None:
        """As `wait_for`, with a text that is not about a wait.

        Args:
            text: the whole text, without the seconds.
            since_written: whether the seconds count from what was written last.
            seconds: how long it lasts, to show the seconds that are left.
            then: the text after that.
        """
        base = self._base
        if text is None:
            self._base = None
        elif base is None or base.what != text or seconds is not None:
            after = _Wait(then) if then is not None else None
            if after is not None and seconds is not None:
                after.since += seconds
            self._base = _Wait(text, seconds, since_written, after)

    def _run(self) -> None:
        delay = LOOK_SECONDS
        while not self._ended.wait(delay):
            wait, delay = self._now(), LOOK_SECONDS
            if wait is None:
                continue
            if self._line is not None:
                delay = self._draw(self._line, wait)
            else:
                self._say(wait)

    def _now(self) -> _Wait | None:
        waits = tuple(self._waits)  # other threads change it
        wait = waits[-1] if waits else self._base
        is_over = wait is not None and wait.until is not None and time.monotonic() >= wait.until
        return wait.then if wait is not None and is_over else wait

    def _draw(self, line: TransientLine, wait: _Wait) -> float:
        """Draw the line where it is time, and return when to look again."""
        if not line.is_due(self._quiet_s):
            return LOOK_SECONDS
        frames = _FRAMES if line.encoding == "utf-8" else _ASCII_FRAMES
        self._frame += 1
        what, seconds = f"{frames[self._frame % len(frames)]} {self._shown(wait)}", wait.seconds(line.written_at)
        text = _fitted(line.encodable(what), seconds, line.columns() - 1)
        mid_line = bool(self._messages.before) or not self._invocation.stdout.is_terminal
        line.draw(self._messages.styled(text, DIM), quiet_s=self._quiet_s, mid_line=mid_line)
        return FRAME_SECONDS

    def _shown(self, wait: _Wait) -> str:
        return one_line(self._invocation.secrets.mask(wait.what))

    def _say(self, wait: _Wait) -> None:
        """Append a line, at growing intervals."""
        if self._said[0] is not wait:
            self._said = (wait, 0)
        count = self._said[1]
        is_due = time.monotonic() - wait.since >= said_after(count)
        if is_due and not self._messages.is_held and is_in_foreground(self._invocation.stderr.descriptor):
            self._said = (wait, count + 1)
            self._messages.say(f"{self._shown(wait)}{wait.seconds(wait.since)}")

    def _catch_suspension(self) -> None:
        """Erase the line before Ctrl-Z suspends this process, as the shell writes its prompt then."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)
            self._suspends = True

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        if self._line is not None:
            self._line.erase()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # by this thread, which so continues only when the process does
        signal.signal(signal.SIGTSTP, self._suspend)


def said_after(count: int) -> int:
    """Return after how many seconds of a wait the next line is appended, when there were so many."""
    last = len(SAID_AFTER_SECONDS) - 1
    return SAID_AFTER_SECONDS[min(count, last)] + 600 * max(0, count - last)


def _transient_line(stderr: Stream) -> TransientLine | None:
    """Return the transient line of stderr; None where afk does not write to it without waiting."""
    lines = getattr(stderr.text, "buffer", None)
    if stderr.text is None or not isinstance(lines, LinesForPeople):
        return None
    return TransientLine(stderr.descriptor, stderr.text.encoding, lines)


def _fitted(what: str, seconds: str, columns: int) -> str:
    """Return both on so many columns; what does not fit is cut from the words before the seconds."""
    room = columns - len(seconds)
    return f"{shortened(what, room)}{seconds}" if room > 0 else shortened(seconds.strip(), columns)

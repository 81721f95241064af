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
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Self

from afkcli.core.contract.text import in_mb, one_line, visible
from afkcli.core.contract.waits import observed
from afkcli.host.descriptors import LinesForPeople
from afkcli.host.invocation import Invocation
from afkcli.host.transient import TransientLine
from afkcli.screen.messages import Messages
from afkcli.screen.styles import DIM
from afkcli.screen.text import fills_line, shortened

QUIET_SECONDS = 1.0
"""How long nothing has to be written before a line is drawn."""
LOOK_SECONDS = 0.25
FRAME_SECONDS = 0.1
SAID_AFTER_SECONDS = (10, 30, 60, 120, 300, 600)
"""After which seconds of a wait a line says so where output is only appended; then every ten minutes."""
_JOIN_SECONDS = 1.0
"""How long the end waits for the worker, which writes at most one line without waiting for the terminal."""
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"
_BAR_COLUMNS = 20
_LEAST_FOR_BAR = 60
_APPENDED_COLUMNS = 200
"""More than the longest line of a measure has: a line that is appended may be wrapped."""


class _Wait:
    """Something that is waited for.

    Args:
        text: what it is, without the seconds.
        waits: all waits, from which it is taken at its end.
        in_bytes: whether what is done is counted in bytes.
    """

    __slots__ = ("_counted", "_waits", "done", "since", "text", "total")

    def __init__(self, text: str, waits: list[_Wait] | None = None, *, in_bytes: bool = False) -> None:
        self.text = text
        self.since = time.monotonic()
        self.done = self.total = 0.0
        self._waits = waits
        self._counted: Callable[[float], str] = (lambda size: in_mb(int(size))) if in_bytes else "{:,.0f}".format

    def tell(self, done: float, total: float) -> None:
        self.done, self.total = done, total

    def end(self) -> None:
        if self._waits is not None and self in self._waits:
            self._waits.remove(self)

    def counted(self) -> str:
        """Return in words how far it has come, "" where that is not known."""
        return f" {self._counted(min(self.done, self.total))} of {self._counted(self.total)}" if self.total else ""

    def seconds(self, written_at: float) -> str:
        """Return the words for the seconds; the last text was written on the terminal at `written_at`."""
        return f" ({time.monotonic() - self.since:.0f} s)"

    def now(self) -> _Wait:
        """Return what is waited for now: this, or what has come after it."""
        return self


class _Silence(_Wait):
    """A wait that began when something was written last."""

    __slots__ = ()

    def seconds(self, written_at: float) -> str:
        return f" ({time.monotonic() - max(self.since, written_at):.0f} s)"


class _Countdown(_Wait):
    """A wait for a time; `then` comes after it."""

    __slots__ = ("_then", "_until")

    def __init__(self, text: str, seconds: float, then: str) -> None:
        super().__init__(text)
        self._until = self.since + seconds
        self._then = _Wait(then)
        self._then.since = self._until

    def seconds(self, written_at: float) -> str:
        return f" in {max(0, self._until - time.monotonic()):.0f} s"

    def now(self) -> _Wait:
        return self if time.monotonic() < self._until else self._then


class _Measured(_Wait):
    """Something that says by itself how far it is, on so many columns; whether they are ASCII only comes second."""

    __slots__ = ("_line_of",)

    def __init__(self, line_of: Callable[[int, bool], str]) -> None:
        super().__init__("")
        self._line_of = line_of

    def line(self, columns: int, is_ascii: bool) -> str:
        return visible(self._line_of(columns, is_ascii))


class Activity:
    """Shows what is waited for as long as it is entered.

    Args:
        invocation: the terminal is its stderr.
        messages: the lines on it.
        appended: whether lines are appended, and no line is drawn again.
        quiet_s: how long nothing has to be written before a line is drawn.

    What `waiting_for` and `progress` say in this context comes first, and of several the one that began last; else what
    `show` was called with last.
    """

    def __init__(
        self, invocation: Invocation, messages: Messages, *, appended: bool, quiet_s: float | None = None
    ) -> None:
        self._invocation = invocation
        self._messages = messages
        self._appended = appended
        self._quiet_s = QUIET_SECONDS if quiet_s is None else quiet_s
        self._base: _Wait | None = None
        self._waits: list[_Wait] = []
        self._line: TransientLine | None = None
        self._ended = threading.Event()
        self._frame = 0
        self._said: tuple[_Wait | None, int] = (None, 0)
        self._suspends = False
        self._observed: AbstractContextManager[None] | None = None
        self._worker: threading.Thread | None = None

    def __enter__(self) -> Self:
        if not self._appended:
            if not self._begin_line():
                return self
            self._catch_suspension()
        self._observed = observed(self)
        self._observed.__enter__()
        self._worker = threading.Thread(target=self._run, name="afk-activity", daemon=True)
        self._worker.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._worker is not None:
            self._worker.join(_JOIN_SECONDS)  # a batch forks then, and no other thread may run
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
            self._line = self._invocation.transient = _transient_line(self._invocation)
        return self._line is not None

    def begin(self, text: str, *, in_bytes: bool = False) -> _Wait:
        wait = _Wait(text, self._waits, in_bytes=in_bytes)
        self._waits.append(wait)
        return wait

    def show(self, text: str) -> None:
        """Say what goes on where nothing else is waited for: the whole text, without the seconds."""
        if self._base is None or self._base.text != text:
            self._base = _Wait(text)

    def show_measured(self, line_of: Callable[[int, bool], str]) -> None:
        """As `show`; the line is what `line_of` returns for so many columns, of ASCII alone if the second one is true.

        It is called on another thread, ten times a second.
        """
        self._base = _Measured(line_of)

    def show_silence(self, text: str) -> None:
        """As `show`; the seconds count from what was written last."""
        self._base = _Silence(text)

    def count_down(self, text: str, seconds: float, then: str) -> None:
        """As `show`, with the seconds that are left; then it is as if `show(then)` was called."""
        self._base = _Countdown(text, seconds, then)

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
        return wait.now() if wait is not None else None

    def _draw(self, line: TransientLine, wait: _Wait) -> float:
        """Draw the line where it is time, and return when to look again."""
        if not line.is_due(self._quiet_s):
            return LOOK_SECONDS
        frames = _FRAMES if line.encoding == "utf-8" else _ASCII_FRAMES
        self._frame += 1
        frame = f"{frames[self._frame % len(frames)]} "
        if isinstance(wait, _Measured):
            text = line.encodable(f"{frame}{wait.line(line.columns() - 1 - len(frame), line.encoding != 'utf-8')}")
        else:
            counted = f"{_bar(wait, line)}{wait.counted()}{wait.seconds(line.written_at)}"
            text = _fitted(line.encodable(f"{frame}{self._shown(wait)}"), counted, line.columns() - 1)
        line.draw(self._messages.styled(text, DIM), quiet_s=self._quiet_s, is_full=fills_line)
        return FRAME_SECONDS

    def _shown(self, wait: _Wait) -> str:
        return one_line(self._invocation.secrets.mask(wait.text))

    def _say(self, wait: _Wait) -> None:
        """Append a line, at growing intervals."""
        if self._said[0] is not wait:
            self._said = (wait, 0)
        count = self._said[1]
        is_due = time.monotonic() - wait.since >= said_after(count)
        if is_due and not self._messages.is_held and self._is_in_foreground():
            self._said = (wait, count + 1)
            if isinstance(wait, _Measured):
                self._messages.say(wait.line(_APPENDED_COLUMNS, False))
                return
            self._messages.say(f"{self._shown(wait)}{wait.counted()}{wait.seconds(wait.since)}")

    def _is_in_foreground(self) -> bool:
        """Return whether a line is seen by who types; true where there is no job control."""
        try:
            return self._invocation.foreground_of(self._invocation.stderr.descriptor)
        except OSError:
            return True

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


def _bar(wait: _Wait, line: TransientLine) -> str:
    """Return a bar where it is known how far something has come, and there is room for one."""
    if not wait.total or line.columns() < _LEAST_FOR_BAR:
        return ""
    filled = min(wait.done / wait.total, 1.0)
    from afkcli.screen.bars import bar  # not at the top: few waits have one

    drawn = bar(filled, 1.0, _BAR_COLUMNS) if line.encoding == "utf-8" else "#" * int(filled * _BAR_COLUMNS)
    return f" [{drawn.ljust(_BAR_COLUMNS)}]"


def _transient_line(invocation: Invocation) -> TransientLine | None:
    """Return the transient line of stderr; None where afk does not write to it without waiting."""
    stderr = invocation.stderr
    lines = getattr(stderr.text, "buffer", None)
    if stderr.text is None or not isinstance(lines, LinesForPeople):
        return None
    return TransientLine(stderr.descriptor, stderr.text.encoding, lines, invocation.foreground_of)


def _fitted(what: str, counted: str, columns: int) -> str:
    """Return both on so many columns; what does not fit is cut from the words, then from the numbers behind them."""
    room = columns - len(counted)
    return f"{shortened(what, room)}{counted}" if room > 0 else shortened(counted.strip(), columns)

"""The text of an answer on stdout: as it is, or on a terminal as rendered Markdown."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from afkcli.core.contract.text import visible
from afkcli.host.invocation import Invocation
from afkcli.screen.display import is_append_only
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Output
from afkcli.screen.styles import shows_styles

if TYPE_CHECKING:
    from afkcli.screen.markdown.region import Region

FRAME_SECONDS = 0.05
"""The least time between two drawings of a block that has not ended."""
FRAME_SHARE = 4
"""At least so many times the time that a drawing took pass before the next one."""
IMPORT_AFTER_SECONDS = 0.1
"""How long after the start of a step the parser is imported: the request is on its way then."""
_SLICE = 32 * 1024


class AnswerText(Protocol):
    """Where the text of an answer is shown; `is_rendered` is whether it is rendered Markdown."""

    is_rendered: bool

    def prepare(self) -> None:
        """Get ready while the first piece is waited for."""

    def put(self, text: str) -> None:
        """Take a piece of the answer."""

    async def show(self) -> None:
        """Show what was taken, now or soon."""

    async def settle(self) -> None:
        """Show what was taken at once, as something else may be written to the terminal."""

    def stand_apart(self) -> str:
        """Return what comes before lines about tools, which so stand apart; the next piece does, too."""

    async def end(self) -> None:
        """End the text, so that what follows is on a line of its own."""

    def close(self) -> None:
        """Draw nothing any more."""


def answer_text(invocation: Invocation, output: Output, messages: Messages, *, plain: bool = False) -> AnswerText:
    """Return where the text of an answer is shown: as rendered Markdown, or as it is with `plain`."""
    if renders_markdown(invocation, is_terminal=output.is_terminal, plain=plain):
        return RenderedText(output, messages, invocation)
    return PlainText(output, messages)


def renders_markdown(invocation: Invocation, *, is_terminal: bool, plain: bool = False) -> bool:
    """Return whether answers are shown as rendered Markdown: on a terminal, unless output is only appended there."""
    if os.name == "nt" or not is_terminal or is_append_only(invocation, plain=plain):
        return False
    return invocation.environment.get("TERM", "unknown") not in ("", "unknown")


class PlainText:
    """An answer as it is; control characters are made visible on a terminal."""

    is_rendered = False

    def __init__(self, output: Output, messages: Messages) -> None:
        self._output = output
        self._messages = messages
        self._at_line_start = True

    def prepare(self) -> None:
        pass

    def put(self, text: str) -> None:
        if self._output.is_terminal:
            text = visible(text)
        if text:
            self._output.put(text)
            self._at_line_start = text.endswith("\n")
            self._messages.before = "" if self._at_line_start or not self._output.is_terminal else "\n"

    async def show(self) -> None:
        await self._output.flush()

    async def settle(self) -> None:
        await self._output.flush()

    def stand_apart(self) -> str:
        return ""

    async def end(self) -> None:
        if not self._at_line_start:
            self._output.put("\n")
            self._at_line_start = True
            self._messages.before = ""
        await self._output.flush()

    def close(self) -> None:
        pass


class RenderedText:
    """An answer as rendered Markdown, drawn while it arrives.

    If the rendering fails, the rest of the answer is shown as it is.

    Args:
        output: a terminal.
        messages: the lines on the same terminal.
        invocation: says which terminal it is.
    """

    is_rendered = True

    def __init__(self, output: Output, messages: Messages, invocation: Invocation) -> None:
        self._output = output
        self._messages = messages
        self._styles = shows_styles(invocation, invocation.stdout)
        self._environment: Mapping[str, str] = invocation.environment
        self._plain: PlainText | None = None
        self._region: Region | None = None
        self._waiting: list[str] = []
        self._due = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._drawing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._listens = False
        self._is_prepared = False
        self._apart = False  # whether a blank line comes before the next drawing
        self._has_text = False  # whether text was drawn since the last lines about tools
        self._before = ""

    def prepare(self) -> None:
        """Import the parser in a while, on a worker: the first piece of an answer is mostly waited for much longer."""
        if not self._is_prepared:
            self._is_prepared = True
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(IMPORT_AFTER_SECONDS, loop.run_in_executor, None, _import_renderer))

    def put(self, text: str) -> None:
        if self._plain is not None:
            self._plain.put(text)
        elif text:
            self._waiting.append(text)

    async def show(self) -> None:
        if self._plain is not None:
            await self._plain.show()
            return
        self._raise_failed()
        if self._waiting and time.monotonic() >= self._due:
            await self._draw()
        elif self._waiting:
            self._draw_later()

    async def settle(self) -> None:
        if self._plain is not None:
            await self._plain.settle()
        else:
            await self._draw()

    def stand_apart(self) -> str:
        self._apart, has_text = True, self._has_text
        self._has_text = False
        return "\n" if has_text else ""

    async def end(self) -> None:
        if self._plain is None:
            await self._draw(ended=True)
        if self._plain is not None:
            await self._plain.end()
            return
        if self._region is not None and self._region.is_mid_line:
            self._output.put("\n")
            self._messages.before = self._before = ""
        self._region = None
        await self._output.flush()

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        self._region = None
        if self._listens:
            self._listens = False
            loop = asyncio.get_running_loop()
            loop.remove_signal_handler(signal.SIGWINCH)
            loop.remove_signal_handler(signal.SIGCONT)

    def _raise_failed(self) -> None:
        """Raise what a drawing raised that nothing has waited for: stdout cannot be written."""
        if self._drawing is not None and self._drawing.done():
            drawing, self._drawing = self._drawing, None
            drawing.result()

    def _draw_later(self) -> None:
        if self._drawing is None and not any(timer.when() == self._due for timer in self._timers):
            delay = max(0.0, self._due - time.monotonic())
            self._timers = [asyncio.get_running_loop().call_later(delay, self._draw_now)]

    def _draw_now(self) -> None:
        if self._drawing is None or (self._drawing.done() and self._drawing.exception() is None):
            self._drawing = asyncio.ensure_future(self._draw())

    async def _draw(self, *, ended: bool = False) -> None:
        async with self._lock:
            text, self._waiting = "".join(self._waiting), []
            if not text and self._region is None:
                return
            for start in range(0, len(text) or 1, _SLICE):
                self._put_drawing(text[start : start + _SLICE], ended=ended and start + _SLICE >= len(text))
                await self._output.flush()

    def _put_drawing(self, text: str, *, ended: bool) -> None:
        """Put what brings the terminal up to date; the answer as it is if that fails."""
        if self._plain is not None:
            self._plain.put(text)
            return
        began = time.monotonic()
        try:
            region = self._begun_region()
            region.feed(text)
            text = ""
            if self._before and not self._messages.before:  # a line was written in between
                region.leave()
            drawn = region.draw(*self._output.terminal_size(), ended=ended)
        except Exception:  # whatever is wrong with the rendering, the answer has to be shown
            self._fall_back(text)
            return
        if drawn:
            self._has_text = True
            if self._apart:
                drawn, self._apart = f"\n{drawn}", False
        self._output.put(drawn)
        if drawn or not region.is_mid_line:  # else what sets the next line apart stays
            self._before = self._messages.before = "\n" if region.is_mid_line else ""
        now = time.monotonic()
        self._due = now + max(FRAME_SECONDS, FRAME_SHARE * (now - began))

    def _fall_back(self, text: str) -> None:
        """Show the rest of the answer as it is: the block that is not shown whole, and `text` behind it."""
        region = self._region
        self.close()
        self._plain = PlainText(self._output, self._messages)
        if region is not None:
            self._output.put(region.erased())
            self._messages.before = ""
            text = f"{region.rest}{text}"
        self._plain.put(text)

    def _begun_region(self) -> Region:
        from afkcli.screen.markdown.region import Region, does_reflow
        from afkcli.screen.markdown.stream import MarkdownStream

        if self._region is None:
            self._region = Region(MarkdownStream(styles=self._styles), reflows=does_reflow(self._environment))
            self._before = self._messages.before
            self._listen()
        return self._region

    def _listen(self) -> None:
        """Draw anew when the size of the terminal changes; after a suspension, leave what a shell has written below."""
        if self._listens:
            return
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGWINCH, self._draw_now)
            loop.add_signal_handler(signal.SIGCONT, self._leave)
            self._listens = True
        except (ValueError, RuntimeError, NotImplementedError):  # not the main thread
            self._listens = False

    def _leave(self) -> None:
        if self._region is not None:
            self._region.leave()
            self._before = self._messages.before = ""


def _import_renderer() -> None:
    """Import what renders Markdown."""
    from afkcli.screen.markdown.leaves import parser

    parser()

"""Reads what is typed on a terminal, with editing, history, completion and a status line, by prompt_toolkit.

Nothing is asked of the terminal: it need not say where its cursor is, so there is no wait and no warning where it does
not answer.

Since: 0.2.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.search import stop_search
from prompt_toolkit.styles import Style

from afkcli.chat.completion import Names, SlashCompleter
from afkcli.chat.history import TypedTexts
from afkcli.chat.reading import Left, Stopped, continues, signals_taken

_PASTE_SECONDS = 0.1
"""An Enter that comes so soon after one of a paste belongs to the paste."""
_MENU_LINES = 5
_LEAVE = "press Ctrl-C again, or Ctrl-D, to leave"


class Editor:
    """Reads texts on a terminal; see `Reader`.

    Args:
        terminal: a file of the terminal, to write to.
        kind: the value of TERM.
        shows_colours: whether colours and weights are shown.
        texts: what was typed before.
        names: what can be completed.
        folder: where the paths of files begin.
        stop_signals: the signals that end the chat.
        status: returns the status line for so many columns.
        when_shown: called once, when the first prompt is on the screen.
    """

    keeps_text = True
    is_attended = True

    def __init__(
        self,
        terminal: TextIO,
        *,
        kind: str,
        shows_colours: bool,
        texts: TypedTexts,
        names: Names,
        folder: Path,
        stop_signals: Sequence[int],
        status: Callable[[int], str],
        when_shown: Callable[[], None] = lambda: None,
    ) -> None:
        self._terminal = terminal
        self._texts = texts
        self._stop_signals = [number for number in stop_signals if number != signal.SIGINT]
        self._status = status
        self._when_shown: Callable[[], None] | None = when_shown
        self._is_leaving = False
        self._pasted_at = 0.0
        descriptor = terminal.fileno()
        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation="  ",
            history=_Texts(texts),
            completer=SlashCompleter(names, folder),
            complete_while_typing=Condition(_is_command),
            reserve_space_for_menu=_MENU_LINES,
            key_bindings=self._bindings(),
            bottom_toolbar=self._toolbar,
            style=_style(shows_colours),
            color_depth=None if shows_colours else ColorDepth.DEPTH_1_BIT,
            include_default_pygments_style=False,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            output=_Output(terminal, lambda: _as_size(descriptor), term=kind),
        )
        self._session.default_buffer.on_text_changed += self._on_text_changed
        self._session.app.ttimeoutlen = 0.05  # how long an Escape waits for what belongs to it
        self._session.app.after_render += self._on_rendered

    async def read(self, text: str = "") -> str:
        self._is_leaving = False
        with signals_taken(self._stop_signals, self._on_signal):
            try:
                said: str = await self._session.prompt_async(default=text, set_exception_handler=False)
            except (EOFError, OSError):  # the terminal has gone
                raise Left from None
        if said.strip():
            self._texts.add(said)
        return said

    def close(self) -> None:
        self._terminal.close()

    def refresh(self) -> None:
        """Draw the status line again; it may be called on any thread."""
        self._session.app.invalidate()

    def end(self, error: BaseException) -> None:
        """Have `read` raise `error` instead of waiting on; to be called in the event loop."""
        if self._session.app.is_running:
            self._session.app.exit(exception=error)

    def _on_signal(self, number: int) -> None:
        self.end(Stopped(number))

    def _on_text_changed(self, buffer: Buffer) -> None:
        if buffer.text:
            self._is_leaving = False

    def _on_rendered(self, app: object) -> None:
        shown, self._when_shown = self._when_shown, None
        if shown is not None:
            shown()

    def _toolbar(self) -> str:
        columns = _size(self._terminal.fileno())[1]
        return _LEAVE[: columns - 1] if self._is_leaving else self._status(columns)

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)
        nothing = Condition(lambda: not get_app().current_buffer.text)
        keys.add("enter", filter=typing)(self._on_enter)
        keys.add("escape", "enter", filter=typing)(lambda event: event.current_buffer.insert_text("\n"))
        for key in ("c-c", "<sigint>"):
            keys.add(key)(self._on_interrupt)
        keys.add("c-d", filter=typing & nothing)(lambda event: event.app.exit(exception=Left()))
        return keys

    def _on_enter(self, event: KeyPressEvent) -> None:
        """Send, or start a new line: behind a backslash, or inside of what is pasted."""
        buffer = event.current_buffer
        if self._is_pasted(event):
            buffer.insert_text("\n")
        elif continues(buffer.document.current_line_before_cursor) and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif buffer.text.strip():
            buffer.validate_and_handle()

    def _on_interrupt(self, event: KeyPressEvent) -> None:
        """Leave a search, clear what is typed, or leave the chat the second time."""
        buffer = self._session.default_buffer
        if event.app.current_buffer is not buffer:  # a search of the history
            stop_search()
        elif buffer.text:
            buffer.reset()
            self._is_leaving = False
        elif self._is_leaving:
            event.app.exit(exception=Left())
        else:
            self._is_leaving = True

    def _is_pasted(self, event: KeyPressEvent) -> bool:
        """Return whether an Enter came with other keys behind it: from a paste that the terminal does not mark."""
        now = time.monotonic()
        more = bool(event.app.key_processor.input_queue) or _can_be_read(event.app.input.fileno())
        if more or now - self._pasted_at < _PASTE_SECONDS:
            self._pasted_at = now
            return True
        return False


class _Texts(History):
    """The texts that were typed before, for prompt_toolkit; the editor adds to them itself, whole messages only."""

    def __init__(self, texts: TypedTexts) -> None:
        super().__init__()
        self._typed = texts

    async def load(self) -> AsyncGenerator[str, None]:
        """Yield the texts, the newest first. It is called when the prompt is shown, before a key is taken."""
        if not self._loaded:
            self._loaded_strings = list(reversed(self._typed.read()))
            self._loaded = True
        for text in self._loaded_strings:
            yield text

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._typed.read())

    def store_string(self, string: str) -> None:
        """Keep nothing here."""


class _Output(Vt100_Output):
    """A terminal that is not asked where its cursor is: what is drawn takes the lines that it needs."""

    @property
    def responds_to_cpr(self) -> bool:
        return False

    def get_rows_below_cursor_position(self) -> int:
        return 1

    def erase_down(self) -> None:
        """Erase from the cursor on, which is in the first column.

        The second column goes first: some terminals (tmux) keep what is erased from the very first position of the
        screen on in what has scrolled away, as if it had been there.
        """
        self.write_raw("\x1b[C\x1b[J\x1b[D\x1b[K")


def _is_command() -> bool:
    return get_app().current_buffer.text.startswith("/")


def _can_be_read(descriptor: int) -> bool:
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError):
        return False


def _size(descriptor: int) -> tuple[int, int]:
    """Return the lines and columns of a terminal; 24 and 80 where it does not know them."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80


def _as_size(descriptor: int) -> Size:
    lines, columns = _size(descriptor)
    return Size(rows=lines, columns=columns)


def _style(shows_colours: bool) -> Style:
    return Style.from_dict({"bottom-toolbar": "noreverse fg:ansibrightblack" if shows_colours else "noreverse"})

"""What the chat writes on a terminal beside the answers: the prompt, the status in words, and lines that had to wait.

Since: 0.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

from afkcli.chat.reading import Reader
from afkcli.chat.status import Status, status_words
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages


def terminal_file(invocation: Invocation) -> TextIO:
    """Return a file of the terminal to write to: that of stderr, else that of stdin."""
    if invocation.stderr.is_terminal:
        descriptor = os.dup(invocation.stderr.descriptor)
    else:
        descriptor = os.open(os.ttyname(invocation.stdin.descriptor), os.O_WRONLY | os.O_NOCTTY)
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="")


def terminal_writer(invocation: Invocation) -> Callable[[str], None]:
    """Return what writes a text to the terminal at once."""
    file = terminal_file(invocation)

    def write(text: str) -> None:
        file.write(text)
        file.flush()

    return write


class StatusInWords:
    """Says the status on a line of its own where it has changed."""

    def __init__(self, status: Callable[[], Status], messages: Messages) -> None:
        self._status = status
        self._messages = messages
        self._said: str | None = None

    def __call__(self) -> None:
        words = status_words(self._status())
        if words != self._said:
            self._said = words
            self._messages.say(words)


class HeldLines:
    """Lines for the person that come while the prompt is on the screen: they are written when it is gone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._held: list[str] | None = None

    def say(self, line: str) -> None:
        """Write a line, or hold it; it may be called on any thread."""
        held = self._held
        if held is not None:
            held.append(line)
        else:
            self._say(line)

    def held_while(self, reader: Reader) -> Reader:
        """Return `reader`, which holds lines while it reads."""
        return _Holding(reader, self)

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for line in held:
            self._say(line)


class _Holding:
    """A reader while which lines are held."""

    def __init__(self, reader: Reader, lines: HeldLines) -> None:
        self.keeps_text = reader.keeps_text
        self.is_attended = reader.is_attended
        self.close = reader.close
        self._reader = reader
        self._lines = lines

    async def read(self, text: str = "") -> str:
        self._lines.hold()
        try:
            return await self._reader.read(text)
        finally:
            self._lines.release()

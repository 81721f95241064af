"""Messages for a person on stderr, one line each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from afkcli.core.contract.text import one_line, visible
from afkcli.host.invocation import Invocation
from afkcli.screen.styles import DIM, RED, YELLOW, shows_styles, styled


class Messages:
    """Writes status, tool lines and warnings to stderr, with colours on a terminal; a closed stderr is not an error.

    Secrets are masked.
    """

    def __init__(self, invocation: Invocation | None = None) -> None:
        self._invocation = invocation = invocation or Invocation.of_process()
        self._stderr = invocation.stderr
        self._secrets = invocation.secrets
        self.colours = shows_styles(invocation, invocation.stderr)
        self.before = ""
        self._said: list[str] = []
        self._held: list[tuple[str, str]] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold lines back while a question is open on the terminal, and write them afterwards.

        A transient line is erased, and not drawn meanwhile.
        """
        self._held = []
        try:
            with self._invocation.without_transient():
                yield
        finally:
            lines, self._held = self._held, None
            for line, style in lines:
                self.say(line, style)

    @property
    def is_held(self) -> bool:
        """Whether lines are held back now."""
        return self._held is not None

    def styled(self, text: str, style: str = DIM) -> str:
        """Return `text` with an SGR parameter of ECMA-48 (2 dim, 31 red, 33 yellow) where stderr shows colours."""
        return styled(text, style) if self.colours else text

    def say(self, line: str, style: str = DIM) -> None:
        """Write one line; `style` as in `styled`."""
        if self._held is not None:
            self._held.append((line, style))
            return
        self._said = [*self._said[-9:], line]
        text = self.styled(f"afk: {one_line(self._secrets.mask(line))}", style)
        self.piece(f"{self.before}{text}\n")
        self.before = ""

    def raw(self, text: str) -> None:
        """Write text of several lines, as a traceback is."""
        self.piece(visible(self._secrets.mask(text)))

    def piece(self, text: str) -> None:
        """Write text as it is, with what is needed before and behind it."""
        stream = self._stderr.text
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)
                stream.flush()

    def warn(self, line: str) -> None:
        self.say(line, YELLOW)

    def warn_once(self, line: str) -> None:
        """Write a warning, unless it is one of the last ten lines: it was said before the run had events."""
        if line not in self._said:
            self.warn(line)

    def error(self, line: str) -> None:
        self.say(line, RED)

"""A block that is too large to be parsed again and again: its text as it is, until it ends."""

from __future__ import annotations

import re
from typing import Self

from afkcli.screen.markdown.code import highlighted
from afkcli.screen.markdown.leaves import Leaf
from afkcli.screen.markdown.styled import Line, Run, most_cells_of

_FENCE = re.compile(r"[ >\t]*(`{3,}|~{3,})[ \t]*([^\n]*)")
_LONG = 2000


class RawBlock:
    """A very large block, up to a fence or a blank line. What is shown of it is never redrawn.

    Args:
        fence: the marks that end it; "" where a blank line does.
        info: the words behind the fence that began it.
        styles: whether there are styles.
    """

    def __init__(self, fence: str, info: str, *, styles: bool) -> None:
        self._fence = fence
        self._info = info
        self._styles = styles
        self._begins = True  # the source so far is shown by its leaves
        self._mid_line = False
        self._ends: list[int] = []
        self._over_at: int | None = None

    @classmethod
    def after(cls, source: str, last: Leaf | None, *, styles: bool) -> Self:
        """Return the block that follows a source of which `last` is the last leaf."""
        if last is None or last.kind != "fence" or last.is_closed:
            return cls("", "", styles=styles)
        found = _FENCE.match(source.split("\n")[last.start])
        return cls(found[1], found[2], styles=styles) if found else cls("", "", styles=styles)

    def lines(self, source: str, *, ended: bool) -> list[Line]:
        """Return the lines of the source, all of them final."""
        self._ends, self._over_at = [], None
        lines: list[Line] = []
        at = 0
        while at < len(source) and self._over_at is None:
            end = source.find("\n", at)
            text = source[at : len(source) if end < 0 else end]
            is_rest = at == 0 and self._mid_line  # of a line of which the beginning is shown
            if end < 0 and not ended and not is_rest and self._waits(text):
                break
            at = len(source) if end < 0 else end + 1
            if end >= 0 and not is_rest and self._is_end(text):
                self._over_at = at
                if self._styles or not self._fence:
                    break
            runs = [Run(text)]
            if self._fence and not is_rest:
                runs = highlighted(text, self._info, styles=self._styles)[0]
            shown = tuple(run for run in runs if run.text)
            lines.append(Line(shown, at, most_cells_of(text), joined=is_rest))
            self._ends.append(at)
        return lines

    def shown(self, source: str, count: int) -> tuple[str, bool]:
        """Take note that so many lines are shown; return the source that is left, and whether the block is over."""
        if self._begins:
            self._begins = False
            self._mid_line = not source.endswith("\n")
            return (source[len(source.rstrip(" ")) :] if self._mid_line else ""), False
        if self._over_at is not None:
            return source[self._over_at :], True
        at = self._ends[count - 1] if count else 0
        if count:
            self._mid_line = source[at - 1] != "\n"
        return source[at:], False

    def _waits(self, text: str) -> bool:
        """Return whether the beginning of a line is not shown yet: it may be a fence, or has no colours."""
        return bool(self._fence) and len(text) < _LONG

    def _is_end(self, text: str) -> bool:
        text = text.strip(" >\t")
        return (text.startswith(self._fence) and not text.strip(self._fence[0])) if self._fence else not text

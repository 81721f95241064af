"""Text in styles, and lines of a terminal made of it."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from afkcli.screen.styles import styled

BOLD, DIM, ITALIC, UNDERLINED, STRUCK = "1", "2", "3", "4", "9"
CYAN, MAGENTA = "36", "35"

_CLOSING = "、。，．：；！？）］｝」』】》〉”’々ー…"  # noqa: RUF001 - East Asian punctuation that begins no line


class Run(NamedTuple):
    """A piece of text in one style, SGR parameters of ECMA-48; "" is no style."""

    text: str
    style: str = ""


class Line(NamedTuple):
    """A line of a terminal.

    Args:
        runs: its text.
        mark: how far its block is shown once this line is, in the block's own measure.
        cells: the columns that it takes at most; more than the terminal has if the terminal wraps it.
        is_certain: whether all terminals agree on its width, so that its rows can be counted where it is wrapped.
        joined: whether it continues the line before it; it is final then.
    """

    runs: tuple[Run, ...]
    mark: int
    cells: int
    is_certain: bool = True
    joined: bool = False

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)

    def rendered(self) -> str:
        """Return the line with its escape sequences."""
        return rendered(self.runs)


def rendered(runs: tuple[Run, ...]) -> str:
    """Return text with the escape sequences of its styles."""
    return "".join(styled(text, style) for text, style in runs)


class Styled:
    """Text of several lines, with the styles of its parts.

    Args:
        text: the text.
        spans: start, end and style of the parts that have one, in order, without overlaps.
    """

    __slots__ = ("spans", "text")

    def __init__(self, text: str = "", spans: list[tuple[int, int, str]] | None = None) -> None:
        self.text = text
        self.spans = spans or []

    def runs(self, start: int, end: int) -> list[Run]:
        """Return the part between two positions."""
        found: list[Run] = []
        at = start
        for first, last, style in self.spans:
            if last <= at:
                continue
            if first >= end:
                break
            if first > at:
                found.append(Run(self.text[at:first]))
            at = max(at, first)
            found.append(Run(self.text[at : min(last, end)], style))
            at = min(last, end)
        if at < end:
            found.append(Run(self.text[at:end]))
        return found


def cells_of(text: str) -> int:
    """Return the columns that `text` takes on a terminal that knows today's Unicode."""
    return len(text) if text.isascii() else _cells(text, certain=False)


def most_cells_of(text: str) -> int:
    """Return the most columns that `text` takes on any terminal: some join emoji and count variations, some do not."""
    return len(text) if text.isascii() else _cells(text, certain=True)


def is_certain(text: str) -> bool:
    """Return whether all terminals agree on the width of `text`."""
    return text.isascii() or not any(map(_is_uncertain, text))


def _is_uncertain(char: str) -> bool:
    if char < "\u0300":
        return char == "\xad"
    return _is_flag_letter(char) or _is_modifier(char) or unicodedata.category(char) in ("Mc", "Cf") or char == "\ufe0f"


def rows_of(text: str, columns: int) -> int:
    """Return the rows that a terminal of so many columns wraps `text` into; a wide character is never split."""
    if text.isascii():
        return max(1, -(-len(text) // columns))
    rows, used = 1, 0
    for char in text:
        cells = width(char)
        if used + cells > columns:
            rows, used = rows + 1, 0
        used += cells
    return rows


def _cells(text: str, *, certain: bool) -> int:
    cells = before = 0
    joined = False
    for char in text:
        cells_of_char = width(char)
        if char == "\ufe0f":  # the character before it is an emoji
            cells_of_char = 1 if before == 1 else 0
        elif not certain and (joined or _is_modifier(char)):
            cells_of_char = 0
        elif certain and char >= "\u0300" and unicodedata.category(char) == "Mc":
            cells_of_char = max(1, cells_of_char)
        elif certain and _is_flag_letter(char):
            cells_of_char = 2
        joined = char == "\u200d"
        cells += cells_of_char
        before = cells_of_char
    return cells


def _is_modifier(char: str) -> bool:
    return "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def width(char: str) -> int:
    """Return the columns of one character by itself."""
    if char < "\u0300":
        return 0 if char == "\xad" else 1
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def joins_before(char: str) -> bool:
    """Return whether a character belongs to the one before it, so that no line begins with it."""
    return char >= "\u0300" and (width(char) == 0 or _is_modifier(char) or char in _CLOSING)

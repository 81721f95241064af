"""Text that is wrapped at the width of the terminal: at blanks, and inside a word only where it does not fit.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from afkcli.screen.text import width_of

LEAST = 10
"""The columns that a line has for its text, however narrow the terminal is."""


def wrapped(text: str, columns: int, later: int | None = None) -> list[str]:
    """Return one line of `text` in parts of at most `columns` columns; no character is lost.

    Args:
        text: the text, without newlines and without characters that are not visible.
        columns: the width of the first part.
        later: the width of the other parts; `columns` by default.
    """
    columns, later = max(columns, LEAST), max(later if later is not None else columns, LEAST)
    parts: list[str] = []
    part, used, room = "", 0, columns
    for word in _words(text):
        if used + width_of(word) > room and part:
            parts.append(part)
            part, used, room = "", 0, later
        for piece in _pieces(word, room - used, later):
            if used + width_of(piece) > room and part:
                parts.append(part)
                part, used, room = "", 0, later
            part, used = part + piece, used + width_of(piece)
    return [*parts, part] if part or not parts else parts


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text, each with the blanks behind it."""
    start, at_blank = 0, False
    for at, char in enumerate(text):
        if char == " ":
            at_blank = True
        elif at_blank:
            yield text[start:at]
            start, at_blank = at, False
    yield text[start:]


def _pieces(word: str, room: int, columns: int) -> Iterator[str]:
    """Yield a word in pieces that fit, the first one in `room`."""
    if width_of(word) <= max(room, 0):
        yield word
        return
    piece, used, most = "", 0, room if room > 0 else columns
    for char in word:
        width = width_of(char)
        if used + width > most and piece:
            yield piece
            piece, used, most = "", 0, columns
        piece, used = piece + char, used + width
    yield piece

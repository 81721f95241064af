"""Text that is cut to fit a terminal."""

from __future__ import annotations

import unicodedata

_BRIEF = 400


def brief(text: str) -> str:
    """Return `text`, cut to a few lines of a terminal and then marked with `...`."""
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def shortened(text: str, width: int) -> str:
    """Return `text` on at most `width` columns of a terminal, with an ellipsis where it is cut."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) >= width:
        text = text[:-1]
    return f"{text}…"


def width_of(text: str) -> int:
    """Return the columns that `text` takes on a terminal: East Asian wide characters take two, combining ones 0."""
    if text.isascii():
        return len(text)
    return sum(_WIDTHS.get(unicodedata.east_asian_width(char), 1) for char in text if not unicodedata.combining(char))


_WIDTHS = {"W": 2, "F": 2}

"""Text that is cut to fit a terminal."""

from __future__ import annotations

import unicodedata

from afkcli.core.contract.lazy_pattern import LazyPattern

_BRIEF = 400
_ESCAPES = LazyPattern(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


def brief(text: str) -> str:
    """Return `text`, cut to a few lines of a terminal and then marked with `...`."""
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def shortened(text: str, width: int) -> str:
    """Return `text` on at most `width` columns of a terminal, with an ellipsis where it is cut."""
    if width_of(text) <= width:
        return text
    used, kept = 0, 0
    for char in text:
        used += width_of(char)
        if used >= width:  # the ellipsis takes one
            break
        kept += 1
    return f"{text[:kept]}…" if width > 0 else ""


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` with blanks up to `width` columns, behind it or, with `right`, before it. Since: 0.2."""
    blanks = " " * (width - width_of(text))
    return f"{blanks}{text}" if right else f"{text}{blanks}"


def width_of(text: str) -> int:
    """Return the columns that `text` takes on a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def fills_line(text: str, columns: int) -> bool:
    """Return whether the last character of `text` is in the last column of a terminal that is `columns` wide.

    Escape sequences in it count as styles do: they take no column.

    Since: 0.2.
    """
    column = 0
    for char in _ESCAPES.compiled.sub("", text.rpartition("\r")[2]):
        if char == "\t":
            column = min(columns - 1, column // 8 * 8 + 8)
            continue
        width = _width(char) if not char.isascii() else int(char >= " ")
        column = column + width if column + width <= columns else width
    return column >= columns


def _width(char: str) -> int:
    if unicodedata.category(char) in _NO_WIDTH or "\u1160" <= char <= "\u11ff":  # the rest of a Hangul syllable
        return 0
    return _WIDTHS.get(unicodedata.east_asian_width(char), 1)


_WIDTHS = {"W": 2, "F": 2}
_NO_WIDTH = frozenset({"Mn", "Me", "Cf"})

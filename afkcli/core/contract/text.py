"""Text on one line: what titles, error messages and notes have in common."""

from __future__ import annotations


def collapsed(text: str, length: int | None = None) -> str:
    """Return `text` with each run of white space as one blank, cut to `length` characters where one is given.

    Nothing else is changed: what a terminal gets goes through `afkcli.screen.text` too.

    Since: 0.2.
    """
    return " ".join(text.split())[:length]

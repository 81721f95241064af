"""Colours and weights of text on a terminal: the one place that decides whether there are any."""

from __future__ import annotations

import os

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"
"""SGR parameters of ECMA-48."""


def shows_styles(is_terminal: bool) -> bool:
    """Return whether a stream gets styled text: a terminal that is not dumb, unless NO_COLOR is set."""
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str) -> str:
    """Return `text` in a style, one or more SGR parameters; without one, or without text, as it is."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and style else text

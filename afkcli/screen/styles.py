"""Colours and weights of text on a terminal: the one place that decides whether there are any."""

from __future__ import annotations

from afkcli.host.invocation import Invocation, Stream

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"
"""SGR parameters of ECMA-48."""


def shows_styles(invocation: Invocation, stream: Stream) -> bool:
    """Return whether a stream gets styled text: a terminal that is not dumb, unless NO_COLOR is set."""
    environment = invocation.environment
    return stream.is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def styled(text: str, style: str) -> str:
    """Return `text` in a style, one or more SGR parameters; without one, or without text, as it is."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and style else text

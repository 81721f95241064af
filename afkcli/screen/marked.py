"""A line of text in which some words are marked.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afkcli.core.contract.text import visible
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import BOLD, YELLOW
from afkcli.screen.text import shortened, width_of

MARK = f"{BOLD};{YELLOW}"


def marked_line(stdout: Stdout, text: str, marked: Sequence[tuple[int, int]], width: int) -> str:
    """Return one line of `text` for a terminal, at most `width` columns of it, with what is in `marked` in a style.

    Args:
        stdout: where it is shown; without colours nothing is marked.
        text: the text, without newlines.
        marked: the starts and ends of what is marked, in order, without overlaps.
        width: the columns that there are.
    """
    line: list[str] = []
    for piece, style in _pieces(text, marked):
        shown = visible(piece)
        fitting = shortened(shown, width)
        line.append(stdout.styled(fitting, style))
        width -= width_of(fitting)
        if fitting != shown or width < 1:
            break
    return "".join(line)


def _pieces(text: str, marked: Sequence[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a text, each with its style."""
    at = 0
    for start, end in marked:
        yield text[at:start], ""
        yield text[start:end], MARK
        at = end
    yield text[at:], ""

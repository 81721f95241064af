"""A block of code: its lines as they are, so that they can be copied, in colours where its language is known."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from afkcli.core.contract.text import visible
from afkcli.screen.markdown.shown import Shown
from afkcli.screen.markdown.styled import CYAN, Line, Run, is_certain, most_cells_of

if TYPE_CHECKING:
    from pygments.lexer import Lexer

TAB = 4
_COLOURS = (
    ("Comment", "90"),
    ("Keyword.Constant", "36"),
    ("Keyword", "34"),
    ("Name.Builtin", "36"),
    ("Name.Function", "33"),
    ("Name.Class", "33"),
    ("Name.Decorator", "35"),
    ("Name.Tag", "34"),
    ("Name.Attribute", "33"),
    ("Name.Variable", "36"),
    ("Literal.String.Escape", "35"),
    ("Literal.String", "32"),
    ("Literal.Number", "35"),
    ("Operator.Word", "34"),
    ("Generic.Deleted", "31"),
    ("Generic.Inserted", "32"),
    ("Generic.Heading", "1"),
    ("Generic.Subheading", "36"),
    ("Generic.Emph", "3"),
    ("Generic.Strong", "1"),
)
"""The colours of the terminal's own scheme, so that code can be read on light and on dark."""


class Code:
    """The content of a block of code.

    Args:
        text: the code; without styles, with the marks around it.
        info: the words behind the mark that begins it, of which the first is the language.
        styles: whether there are styles.
    """

    def __init__(self, text: str, info: str, *, styles: bool) -> None:
        self._text = visible(text)
        self._info = info
        self._styles = styles

    def lines(self, columns: int, first: Sequence[Run], further: Sequence[Run], shown: Shown) -> list[Line]:
        found = []
        at = 0
        text = self._text.removesuffix("\n") if self._styles else self._text.rstrip("\n")
        for line, runs in zip(text.split("\n"), highlighted(text, self._info, styles=self._styles), strict=True):
            end = at + len(line) + 1
            if at >= shown.mark and at < len(self._text):
                found.append(_line([*(further if at else first), *runs], min(end, len(self._text)), columns))
            elif end > shown.mark + 1:  # its beginning is shown
                found.append(
                    _line([*further, Run(line[shown.mark - at :].expandtabs(TAB))], min(end, len(self._text)), columns)
                )
            at = end
        return found

    def show(self, shown: Shown, mark: int) -> None:
        shown.mark = mark


def _line(runs: list[Run], mark: int, columns: int) -> Line:
    """Return a line of code; one that terminals may count in different ways has no styles, so that it only grows."""
    while runs and not runs[-1].text.rstrip(" "):
        runs.pop()
    if runs:
        runs[-1] = Run(runs[-1].text.rstrip(" "), runs[-1].style)
    shown = "".join(run.text for run in runs)
    cells, certain = most_cells_of(shown), is_certain(shown)
    if cells > columns and not certain:
        return Line((Run(shown),), mark, cells, certain)
    return Line(tuple(runs), mark, cells, certain)


def highlighted(text: str, info: str, *, styles: bool) -> list[list[Run]]:
    """Return the lines of code in colours; in one colour if the language is not known."""
    text = text.expandtabs(TAB)
    lines = text.split("\n")
    if not styles:
        return [[Run(line)] for line in lines]
    lexer = _lexer(info.split(maxsplit=1)[0].strip("{}.").lower() if info else "")
    if lexer is None:
        return [[Run(line, CYAN)] for line in lines]
    return _lines_of(lexer.get_tokens_unprocessed(text))


def _lines_of(tokens: Iterable[tuple[int, object, str]]) -> list[list[Run]]:
    """Return the lines that tokens are on; what follows in one colour is one run."""
    lines: list[list[Run]] = [[]]
    for _, kind, value in tokens:
        colour = _colour(kind)
        for number, piece in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if piece and lines[-1] and lines[-1][-1].style == colour:
                lines[-1][-1] = Run(lines[-1][-1].text + piece, colour)
            elif piece:
                lines[-1].append(Run(piece, colour))
    return lines


@functools.cache
def _colour(kind: object) -> str:
    """Return the colour of a type of token."""
    name = str(kind).removeprefix("Token.")
    return next((colour for each, colour in _COLOURS if name == each or name.startswith(f"{each}.")), "")


@functools.lru_cache(maxsize=32)
def _lexer(language: str) -> Lexer | None:
    """Return what splits a language into tokens; None if it is not known."""
    if not language or language in ("text", "txt", "plain", "plaintext", "none"):
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer: Lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return None
    return lexer

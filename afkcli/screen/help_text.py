"""The layout of help texts: tables of two columns, examples and paragraphs that fit the width of a terminal.

It imports nothing, because the front page is shown with it.

Since: 0.2.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_COLUMNS = 100
_MIN_WIDTH = 20
_MAX_NAME = 30
"""Of the first column; the help of a longer name begins on a line of its own. As in click."""
_LEAST_TEXT = 22
"""The columns that the text of a table needs beside the names; in fewer it is below its name."""
_BELOW = 6
"""How far a text below its name is indented."""


def help_width(columns: int) -> int:
    """Return the columns of a help text on a terminal of so many columns."""
    return max(min(columns, MAX_COLUMNS) - 2, _MIN_WIDTH)


def usage_lines(usage: str, width: int, measure: Callable[[str], int] = len) -> Iterator[str]:
    """Yield the lines of `Usage:` and how a command is called."""
    start = "Usage: "
    first, *more = wrapped(usage, width - len(start), measure)
    yield f"{start}{first}"
    yield from (f"{' ' * len(start)}{line}" for line in more)


def table(
    rows: Sequence[tuple[str, str]], width: int, most: int = _MAX_NAME, measure: Callable[[str], int] = len
) -> Iterator[str]:
    """Yield the lines of a table of two columns, indented by two, the second wrapped to the width.

    Where there is no room for a text beside its name, all texts are below their names.

    Args:
        rows: name and text.
        width: of a line at most.
        most: the longest name that has its text beside it.
        measure: how wide a text is shown.
    """
    first = min(max(measure(name) for name, _ in rows), most) + 2
    below = width - first - 2 < _LEAST_TEXT
    start = _BELOW if below else first + 2
    for name, text in rows:
        lines = list(wrapped(text, width - start, measure)) if text else []
        if below or measure(name) > first - 2:
            *others, last = wrapped(name, width - 2, measure)
            yield from (f"  {line}" for line in (*others, last))
        else:
            begin = lines.pop(0) if lines else ""
            yield f"  {name}{' ' * (first - measure(name))}{begin}".rstrip()
        for line in lines:
            yield f"{'':<{start}}{line}"


def wrapped(text: str, width: int, measure: Callable[[str], int] = len) -> Iterator[str]:
    """Yield the lines of a text. A word that is wider than a line is cut, where it can be after a `|`, `/` or `,`."""
    line = ""
    for word in text.split():
        if line and measure(line) + 1 + measure(word) > width:
            yield line
            line = ""
        *pieces, word = _pieces(word, width, measure)
        yield from pieces
        line = f"{line} {word}" if line else word
    yield line


def _pieces(word: str, width: int, measure: Callable[[str], int]) -> Iterator[str]:
    while measure(word) > width:
        end = max(1, next(end for end in range(len(word), -1, -1) if measure(word[:end]) <= width))
        end = next((at for at in range(end, end // 2, -1) if word[at - 1] in "|/,"), end)
        yield word[:end]
        word = word[end:]
    yield word


def example_lines(
    examples: Sequence[tuple[str, str]], width: int, measure: Callable[[str], int] = len
) -> Iterator[str]:
    """Yield the lines of examples: each a command and what it does, beside each other if there is room for all.

    Else the text is below its command, and a long command continues on the next line after a backslash, so that it can
    be copied as it is.
    """
    longest = max(measure(command) for command, _ in examples) + 4
    if longest + max(measure(text) for _, text in examples) <= width:
        yield from (f"  {command}{' ' * (longest - 2 - measure(command))}{text}".rstrip() for command, text in examples)
        return
    for command, text in examples:
        yield from _command_lines(command, width, measure)
        if text:
            yield from (f"{'':<{_BELOW}}{line}" for line in wrapped(text, width - _BELOW, measure))


def _command_lines(command: str, width: int, measure: Callable[[str], int]) -> Iterator[str]:
    line = " "
    for word in _shell_words(command):
        if line.strip() and measure(line) + 1 + measure(word) > width - 2:
            yield f"{line} \\"
            line = "   "
        line = f"{line} {word}"
    yield line


def _shell_words(command: str) -> Iterator[str]:
    """Yield the words of a command, each as it is typed: a blank between quotes does not end a word."""
    word = quote = ""
    for char in command:
        if char == " " and not quote:
            yield word
            word = ""
            continue
        if char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        word += char
    yield word

"""A command as a person would type it in a shell: quoted where a POSIX shell needs it, wrapped between its arguments.

Since: 0.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.screen.shown import TAB, has_hidden, shown
from afkcli.screen.text import width_of
from afkcli.screen.wrapping import wrapped

PROMPT, NEW_LINE, MORE = "  $ ", "  > ", "    "
"""What lines begin with: a command, a new line in one of its arguments, the rest of a line that was too long."""

_ASSIGNS = LazyPattern(r"[\w.+-]+=[\w@%+=:,./-]*\Z", re.ASCII)
"""What a shell would take for a variable, were it not quoted, in the place of the program."""

_PLAIN = LazyPattern(r"[\w@%+=:,./-]+", re.ASCII)


def quoted(word: str) -> str:
    """Return a word of a command as a shell reads it, with every character visible; a newline stays one.

    A word with characters that are not visible is written as `$'...'` of POSIX.1-2024, with escapes.
    """
    if _PLAIN.compiled.fullmatch(word):
        return word
    if has_hidden(word) or "\t" in word:
        inside = word.replace("\\", "\\\\").replace("'", "\\'").replace("\t", "\\t").replace("\n", "\\n")
        return f"$'{shown(inside.replace(chr(13), chr(92) + 'r'))}'"
    inside = word.replace("'", "'\\''")
    return f"'{inside}'"


def command_lines(argv: Sequence[str], columns: int) -> list[str]:
    """Return a command in lines of at most `columns` columns; what is wrapped between arguments ends with `\\`."""
    lines: list[str] = []
    line = PROMPT
    for number, word in enumerate(argv):
        first, *others = (f"'{word}'" if not number and _ASSIGNS.compiled.match(word) else quoted(word)).split("\n")
        room = columns - width_of(line) - (1 if number else 0) - 2  # for the backslash
        if number and width_of(first) > room:
            lines.append(f"{line} \\")
            line = MORE
        elif number:
            line += " "
        *full, line = _broken(line, first, columns - 2)
        lines += full
        for other in others:
            lines.append(line)
            *full, line = _broken(NEW_LINE, other, columns - 2)
            lines += full
    return [*lines, line]


def script_lines(text: str, columns: int) -> list[str]:
    """Return a text that a shell reads in lines of at most `columns` columns, with every character visible."""
    lines: list[str] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n")):
        lines += _broken(NEW_LINE if number else PROMPT, shown(line.replace("\t", TAB)), columns)
    return lines


def _broken(line: str, text: str, columns: int) -> list[str]:
    """Return a line with `text` behind it, broken where it is too long."""
    first, *others = wrapped(text, columns - width_of(line), columns - len(MORE))
    return [line + first, *(MORE + other for other in others)]

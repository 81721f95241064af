"""Command lines that can be copied from a message into a shell.

Since: 0.2.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

_MOST_CHARS = 500
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}


def shell_line(words: Iterable[str]) -> str:
    """Return words as a line for a shell (on Windows for its own), which has the same words when it is pasted.

    A line of more than 500 characters is cut and ends with `...`.
    """
    words = list(words)
    if sys.platform == "win32":
        from subprocess import list2cmdline

        line = list2cmdline(words)
    else:
        line = " ".join(map(quoted, words))
    return line if len(line) <= _MOST_CHARS else f"{line[:_MOST_CHARS]}..."


def quoted(word: str) -> str:
    """Return a word as bash, zsh and fish read it, on one line.

    In single quotes nothing is special, not even the `!` of an interactive shell. A word with an apostrophe is in
    double quotes if nothing in it is special there. One with control characters, or several blanks in a row, has
    the form `$'...'`, which fish does not know.
    """
    if word and _SAFE.issuperset(word):
        return word
    if not word.isprintable() or "  " in word:  # a message has one blank in place of several
        return "$'" + "".join(map(_escaped, word)).replace("  ", " \\x20") + "'"
    if "'" not in word:
        return f"'{word}'"
    if not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return "'" + word.replace("'", "'\\''") + "'"


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 128 else f"\\U{ord(char):08x}"

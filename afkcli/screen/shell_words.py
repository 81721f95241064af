"""The words of a line that is being typed in a shell, quotes and all, up to the cursor.

Since: 0.2.
"""

from __future__ import annotations

from typing import NamedTuple

_SPECIAL = frozenset(" \t\n!\"#$&'()*;<>?[\\]^`{|}~")
"""What bash gives a meaning, at least somewhere in a word."""
_ESCAPED_IN_QUOTES = frozenset('"$`\\\n')


class Cursor(NamedTuple):
    """A line up to the cursor.

    Args:
        words: those before the word at the cursor, without quotes.
        raw: the word at the cursor as it is typed.
        value: the same without quotes.
        quote: the quote that is open at the cursor: `'`, `"` or "".
    """

    words: tuple[str, ...]
    raw: str
    value: str
    quote: str


def cursor_of(line: str) -> Cursor:
    """Return the words of a line as bash and zsh read it. A quote may be open at its end."""
    words: list[str] = []
    value, quote, start, at = "", "", 0, 0
    inside = False
    while at < len(line):
        char = line[at]
        if not quote and char in " \t\n":
            if inside:
                words.append(value)
            value, inside, start = "", False, at + 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, inside = char, True
        elif char == "\\" and quote != "'" and at + 1 < len(line):
            at += 1
            value += line[at] if not quote or line[at] in _ESCAPED_IN_QUOTES else f"\\{line[at]}"
            inside = True
        else:
            value, inside = value + char, True
        at += 1
    return Cursor(tuple(words), line[start:], value, quote)


def unquoted(word: str) -> str:
    """Return a word without quotes; one may be open at its end. Fish reads these words as bash does, in what counts."""
    return cursor_of(word.replace("\n", " ")).value if not word.startswith(" ") else word


def bash_replacement(value: str, cursor: Cursor, breaks: str) -> str | None:
    """Return what bash has to put in place of what it takes for the word at the cursor; None if `value` does not fit.

    Readline replaces only what follows the last character that breaks words (`COMP_WORDBREAKS`, such as `:` and `=`),
    or the quote that is open, and inserts the text as it is.

    Args:
        value: the whole word that is meant.
        cursor: the line.
        breaks: the characters that break words.
    """
    kept = _kept(cursor, breaks)
    before = cursor_of(kept).value
    if before and not value.startswith(before):
        return None
    return _quoted(value[len(before) :], cursor.quote)


def _kept(cursor: Cursor, breaks: str) -> str:
    """Return the beginning of the raw word that readline leaves as it is."""
    raw, end, at, quote = cursor.raw, 0, 0, ""
    while at < len(raw):
        char = raw[at]
        if char == "\\" and quote != "'":
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, end = char, at + 1
        elif not quote and char in breaks:
            end = at + 1
        at += 1
    return raw[:end]


def _quoted(text: str, quote: str) -> str:
    """Return a text as it is typed inside an open quote, or without one."""
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote == '"':
        escaped = "".join(f"\\{char}" if char in _ESCAPED_IN_QUOTES else char for char in text)
        return escaped.replace("!", '"\\!"')
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)

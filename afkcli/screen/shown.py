"""Text of a model in a question: every character that a terminal would not show as it is becomes an escape.

Since: 0.2.
"""

from __future__ import annotations

import unicodedata

from afkcli.core.contract.text import escaped

TAB = "    "


def shown(text: str, *, keep: str = "") -> str:
    """Return `text` with every character that is not visible in the form `\\u202e`, newlines too.

    A combining mark is shown where it belongs to a letter of a script that needs them; on an ASCII letter it would make
    another letter that looks like a known one.

    Args:
        text: the text.
        keep: characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    made: list[str] = []
    base = ""
    for char in text:
        if char in keep:
            made.append(char)
            base = ""
        elif unicodedata.category(char) in ("Mn", "Me"):
            made.append(char if base else _escape(char))
        else:
            visible = escaped(char)
            made.append(visible)
            base = char if visible == char and not char.isascii() and char.isalpha() else ""
    return "".join(made)


def has_hidden(text: str) -> bool:
    """Return whether `text` has characters that are not visible, besides tabs and the ends of lines."""
    return shown(text, keep="\n\t") != text


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

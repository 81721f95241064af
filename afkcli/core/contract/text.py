"""Text on one line, and text that is safe for a terminal: for titles, messages, notes and output."""

from __future__ import annotations

import re
from collections.abc import Callable

from afkcli.core.contract.lazy_pattern import LazyPattern

# Everything that moves a terminal or hides text: C0 but tab and newline, DEL, C1, and the bidirectional controls.
_UNSAFE = LazyPattern("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

# Characters without width, which make two names look alike. Prose keeps them: Persian, Khmer and emoji need some.
_HIDDEN = LazyPattern("[\xad\u180e\u200b-\u200d\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")

# The same without the joiners that are between two characters of such a script, or of an emoji.
_HIDDEN_IN_PROSE = LazyPattern(
    "[\xad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    "|(?<![^\0-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\0-\x7f])"
)


def collapsed(text: str, length: int | None = None) -> str:
    """Return `text` with each run of white space as one blank, cut to `length` characters where one is given.

    Nothing else is changed; text for a terminal needs `one_line` or `visible` instead.

    Since: 0.2.
    """
    return " ".join(text.split())[:length]


def decoded(data: bytes) -> str:
    """Return text that a person or a program saved, without its byte order mark: UTF-8, or UTF-16 where a mark says so.

    Windows tools put a mark in front; the `>` of an old PowerShell writes UTF-16.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def in_mb(size: int) -> str:
    """Return a size in bytes for a person."""
    megabytes = size / (1 << 20)
    return f"{megabytes:.0f} MB" if megabytes >= 1000 else f"{megabytes:.3g} MB"


MAX_LINE_CHARS = 4_000
"""The longest line about what went wrong, in an event, in the thread and on a terminal."""


def error_line(text: str, redact: Callable[[str], str]) -> str:
    """Return a line about what went wrong without secrets, cut to `MAX_LINE_CHARS`.

    It is cut before it is copied, as a server may answer with megabytes, and again after the secrets were masked, so
    that the place where it was first cut leaves no part of a secret.
    """
    line = redact(text[: 2 * MAX_LINE_CHARS])
    return line if len(line) <= MAX_LINE_CHARS else f"{line[:MAX_LINE_CHARS]}..."


def visible(text: str) -> str:
    """Return `text` with control characters and bidirectional overrides made visible, so that a terminal shows them."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.compiled.sub(_picture, text.replace("\r\n", "\n"))


def error_text(error: BaseException) -> str:
    """Return what an exception of a plugin says, for a line for a person; its class too if it has no text."""
    return str(error) if isinstance(error, Exception) and str(error) else repr(error)


def one_line(text: str) -> str:
    """Return `text` on one line, safe for a terminal, with characters without width made visible too."""
    line = visible(collapsed(text))
    return line if line.isascii() else _HIDDEN.compiled.sub(_picture, line)


def prose_line(text: str) -> str:
    """Return a sentence of a person on one line, safe for a terminal; as `one_line`, but joiners in words stay.

    Words of Persian, Hindi or Khmer, and families of emoji, have them: with `<U+200C>` in it a title cannot be read.

    Since: 0.2.
    """
    line = visible(collapsed(text))
    return line if line.isascii() else _HIDDEN_IN_PROSE.compiled.sub(_picture, line)


# Characters that are drawn as nothing or as a blank, though Unicode does not count them among the controls or spaces.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))


def escaped(text: str) -> str:
    """Return `text` with every character that a terminal would not show as it is in the form `\\u202e`.

    For text that must hide nothing: also odd spaces, characters without width, unassigned and private ones are escaped.

    Since: 0.2.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_shown(char) else _escape(ord(char)) for char in text)


def _is_shown(char: str) -> bool:
    import unicodedata

    if char in _BLANK or 0xE0100 <= ord(char) <= 0xE01EF:
        return False
    category = unicodedata.category(char)
    return char == " " or category[0] not in "CZ"


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def visible_json(line: str) -> str:
    """Return a line of JSON that means the same and is safe for a terminal."""
    return line if line.isascii() else _UNSAFE.compiled.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the Control Pictures block of Unicode
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def dollars(amount: float) -> str:
    """Return US dollars with cents, and with as many digits as a small amount needs. Since: 0.2."""
    if amount == 0 or amount >= 0.1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.0001 else "below $0.0001"

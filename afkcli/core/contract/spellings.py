"""The spellings in which a secret comes back: encoded for a URL, JSON, HTML or base64, in hexadecimal, cut, or split.

A text is searched in the spelling in which it stands, then with its escapes decoded, up to `MAX_LAYERS` times: a server
may put a body of JSON into another one. The search is linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache

MAX_LAYERS = 3
MIN_CUT = 8
"""Of a beginning or an end of a secret that is masked like the whole; what is shorter tells little."""

MIN_CODED = 6
"""Of the characters of an encoded form that depend on the secret alone."""

_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "sol": "/", "plus": "+", "equals": "="}
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(
    r"(?P<url>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<utf16>(?:\\u[0-9A-Fa-f]{4})+)"
    r"|\\x(?P<byte>[0-9A-Fa-f]{2})"
    r"|\\(?P<char>[\\\"'/bfnrt])"
    r"|&#(?P<decimal>[0-9]{1,7});"
    r"|&#[xX](?P<hex>[0-9A-Fa-f]{1,6});"
    rf"|&(?P<name>{'|'.join(_ENTITIES)});"
    r"|(?P<nothing>\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff])"
)
_MARKS = ("%", "\\", "&")
"""What each escape begins with that can be printed."""

_IN_A_WORD = re.compile(r"[\w+/=.~-]")
_Span = tuple[int, int]


class Spellings:
    """Finds some secrets in texts, in every spelling.

    Args:
        secrets: their plain forms.

    Since: 0.2.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain = set(secrets)
        forms = plain.union(*map(_coded, plain)) if plain else plain
        self._forms = sorted(forms, key=len, reverse=True)
        self._shortest = min(map(len, forms), default=0)
        self._cuttable = [form for form in self._forms if len(form) > MIN_CUT and not re.search(r"\s|^https?:", form)]

    def mask(self, text: str, mark: str) -> str:
        """Return `text` with `mark` in the place of each secret, and of each beginning or end of one."""
        if not self._forms or len(text) < min(self._shortest, MIN_CUT):
            return text
        spans = _joined(self._spans(text, MAX_LAYERS))
        if not spans:
            return text
        kept, at = [], 0
        for start, end in spans:
            kept += [text[at:start], mark]
            at = end
        return "".join([*kept, text[at:]])

    def _spans(self, text: str, layers: int) -> Iterator[_Span]:
        for form in self._forms:
            start = text.find(form)
            while start >= 0:
                yield start, start + len(form)
                start = text.find(form, start + len(form))
        for form in self._cuttable:
            yield from _cut(text, form)
        if layers and (not text.isprintable() or any(mark in text for mark in _MARKS)):
            decoded = _Decoded(text)
            for start, end in self._spans(decoded.text, layers - 1):
                yield decoded.span(start, end)


class _Decoded:
    """A text with its escapes decoded, and where each piece of it stood."""

    def __init__(self, text: str) -> None:
        pieces: list[str] = []
        self._starts = [0]
        self._pieces: list[tuple[int, int, bool]] = [(0, 0, False)]
        at = length = 0
        for found in _ESCAPE.finditer(text):
            for piece, start, end, is_escape in (
                (text[at : found.start()], at, found.start(), False),
                (_meaning(found), found.start(), found.end(), True),
            ):
                if piece:
                    pieces.append(piece)
                    self._starts.append(length)
                    self._pieces.append((start, end, is_escape))
                    length += len(piece)
            at = found.end()
        pieces.append(text[at:])
        self._starts.append(length)
        self._pieces.append((at, len(text), False))
        self.text = "".join(pieces)

    def span(self, start: int, end: int) -> _Span:
        """Return where a part of the decoded text stood; an escape is taken whole."""
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, position: int) -> _Span:
        number = bisect_right(self._starts, position) - 1
        start, end, is_escape = self._pieces[number]
        if is_escape:
            return start, end
        place = start + position - self._starts[number]
        return place, place + 1


def _meaning(found: re.Match[str]) -> str:
    """Return what an escape stands for, "" for what is not shown."""
    kind, text = found.lastgroup, found[found.lastgroup or 0]
    if kind == "url":
        return bytes.fromhex(text.replace("%", "")).decode("utf-8", "replace")
    if kind == "utf16":
        return bytes.fromhex(text.replace("\\u", "")).decode("utf-16-be", "replace")
    if kind == "char":
        return _LETTERS.get(text, text)
    if kind == "name":
        return _ENTITIES[text]
    if kind == "nothing":
        return ""
    number = int(text, 10 if kind == "decimal" else 16)
    return chr(number) if number < 0x110000 else "\ufffd"


def _cut(text: str, form: str) -> Iterator[_Span]:
    """Yield the words of a text that are a beginning of a form, or an end of one: the rest was cut off."""
    for start in _found(text, form[:MIN_CUT]):
        length = _common(text[start : start + len(form)], form)
        if _tells(form[:length], form) and not _IN_A_WORD.match(text, start + length):
            yield start, start + length
    for start in _found(text, form[-MIN_CUT:]):
        end = start + MIN_CUT
        length = _common(text[max(0, end - len(form)) : end][::-1], form[::-1])
        before = end - length - 1
        if _tells(form[-length:], form) and (before < 0 or not _IN_A_WORD.match(text[before])):
            yield end - length, end


def _found(text: str, piece: str) -> Iterator[int]:
    start = text.find(piece)
    while start >= 0:
        yield start
        start = text.find(piece, start + 1)


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _tells(piece: str, form: str) -> bool:
    """Return whether a piece tells a secret, and is not just a word, as in `application/json`."""
    return any(map(str.isdigit, piece)) or 4 * len(piece) >= 3 * len(form)


def _joined(spans: Iterable[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


@lru_cache(maxsize=256)
def _coded(secret: str) -> frozenset[str]:
    """Return a secret in hexadecimal, and in base64 wherever it stands in what was encoded: in three alignments."""
    from base64 import b64encode

    data = secret.encode("utf-8", "replace")
    forms = {data.hex(), data.hex().upper()}
    for before in range(3):
        text = b64encode(b"\0" * before + data).decode()
        whole = (8 * (before + len(data))) // 6  # the characters behind it depend on what follows, too
        core = text[-(-8 * before // 6) : whole]
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return frozenset(form for form in forms if len(form) >= MIN_CODED)

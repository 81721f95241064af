r"""Regular expressions of JSON Schema, which are those of ECMA-262, matched in bounded time.

A pattern is translated for the package `regex`, which knows Unicode properties (`\p{L}`) and can be given a time limit.
The rules are those of ECMA-262 with the flag `u` (https://tc39.es/ecma262/#sec-patterns), because JSON Schema asks for
it. What web browsers also take without that flag is taken where it has one meaning in all dialects (`\-`, a brace that
is not a quantifier). Everything else cannot be translated, and the caller says so instead of guessing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

MAX_PATTERN_CHARS = 10_000
"""The longest pattern that is translated."""

MATCH_SECONDS = 0.1
"""How long one pattern may search one text."""

_DIGITS = "0-9"
_WORD = "0-9A-Z_a-z"
_SPACE = r"\t\n\x0b\x0c\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_LINE_ENDS = r"\n\r\u2028\u2029"
_SETS = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_BOUNDARY = f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))"
_NO_BOUNDARY = f"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))"

_QUANTIFIER = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??")
_GROUP = re.compile(r"\((?:\?(?:[:=!]|<[=!]|<(?P<name>[A-Za-z_$][\w$]*)>))?", re.ASCII)
_PROPERTY = re.compile(r"\{[A-Za-z_]+(?:=[A-Za-z_0-9]+)?\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})")
_LOW_HALF = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_NAMED = re.compile(r"k<([A-Za-z_][A-Za-z_0-9]*)>")
_NUMBERED = re.compile(r"[1-9][0-9]*")


class PatternError(ValueError):
    """A pattern cannot be checked here; the message says why."""


class Pattern:
    """A translated pattern.

    Args:
        source: an ECMA-262 regular expression.

    Raises:
        PatternError: it cannot be translated.
    """

    def __init__(self, source: str) -> None:
        import regex

        if len(source) > MAX_PATTERN_CHARS:
            raise PatternError(f"it is longer than {MAX_PATTERN_CHARS:,} characters")
        translated = _Translation(source).text
        try:
            self._compiled: Any = regex.compile(translated, regex.VERSION0)
        except (regex.error, RecursionError, OverflowError, MemoryError) as error:
            raise PatternError(str(error)) from None

    def is_in(self, text: str, seconds: float = MATCH_SECONDS) -> bool:
        """Return whether some part of `text` matches.

        Raises:
            PatternError: it took longer than `seconds`.
        """
        try:
            return self._compiled.search(text, timeout=max(seconds, 0.001)) is not None
        except TimeoutError:
            raise PatternError(f"it takes longer than {MATCH_SECONDS:g} s") from None


@lru_cache(maxsize=256)
def pattern_of(source: str) -> Pattern | PatternError:
    """Return the translation of a pattern, or why there is none; both are kept."""
    try:
        return Pattern(source)
    except PatternError as error:
        return error


class _Translation:
    """One pass over a pattern; `text` is its form for `regex`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._groups = len([1 for found in _GROUP.finditer(_without_classes(source)) if _captures(found)])
        made = []
        while self._at < len(source):
            made.append(self._next())
        self.text = "".join(made)

    def _next(self) -> str:
        char = self._source[self._at]
        special = {"\\": self._escape, "[": self._class, "(": self._group}.get(char)
        if special is not None:
            return special()
        quantifier = _QUANTIFIER.match(self._source, self._at)
        if quantifier is not None:
            return self._quantifier(quantifier[0])
        self._at += 1
        if char == ".":
            return f"[^{_LINE_ENDS}]"
        if char == "$":
            return r"\Z"
        return char if char in "^|)" else _literal(char)

    def _quantifier(self, found: str) -> str:
        self._at += len(found)
        if _QUANTIFIER.match(self._source, self._at):
            raise PatternError("it has two quantifiers in a row, which other dialects know")
        return found

    def _group(self) -> str:
        found = _GROUP.match(self._source, self._at)
        assert found is not None
        self._at = found.end()
        if found[0] == "(" and self._source.startswith("?", self._at):
            raise PatternError("it has a group of another dialect")
        if found["name"] is not None and "$" in found["name"]:
            raise PatternError("it has a group whose name has a `$`")
        return found[0]

    # -- escapes -------------------------------------------------------------------------------------------------------

    def _escape(self) -> str:
        char = self._after_backslash()
        if char in "bB":
            self._at += 1
            return _BOUNDARY if char == "b" else _NO_BOUNDARY
        named, numbered = _NAMED.match(self._source, self._at), _NUMBERED.match(self._source, self._at)
        if named is not None:
            self._at = named.end()
            return f"(?({named[1]})(?P={named[1]})|)"  # of a group that took no part, it matches nothing
        if numbered is not None:
            if int(numbered[0]) > self._groups:
                raise PatternError(f"it refers to group {numbered[0]}, which it does not have")
            self._at = numbered.end()
            return f"(?({numbered[0]})\\g<{numbered[0]}>|)"
        if char.lower() in _SETS:
            self._at += 1
            return f"[{'^' if char.isupper() else ''}{_SETS[char.lower()]}]"
        if char in "pP":
            return self._property()
        return _literal(self._character())

    def _after_backslash(self) -> str:
        self._at += 1
        if self._at == len(self._source):
            raise PatternError("it ends with a backslash")
        return self._source[self._at]

    def _property(self) -> str:
        found = _PROPERTY.match(self._source, self._at + 1)
        if found is None:
            raise PatternError(r"its \p names no property of Unicode")
        letter = self._source[self._at]
        self._at = found.end()
        return f"\\{letter}{found[0]}"

    def _character(self) -> str:
        """Return the one character that an escape stands for; what comes next is the part after the backslash."""
        char = self._source[self._at]
        found = _HEX.match(self._source, self._at)
        if found is not None:
            self._at = found.end()
            return self._code_point(int(found[1] or found[2] or found[3], 16))
        if char == "c" and re.match(r"c[A-Za-z]", self._source[self._at :]):
            self._at += 2
            return chr(ord(self._source[self._at - 1]) % 32)
        self._at += 1
        if char == "0" and not self._source[self._at : self._at + 1].isdigit():
            return "\0"
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum() or char == "_":
            raise PatternError(f"its \\{char} is of another dialect")
        return char

    def _code_point(self, number: int) -> str:
        if 0xD800 <= number <= 0xDBFF:
            low = _LOW_HALF.match(self._source, self._at)
            if low is not None:
                self._at = low.end()
                number = 0x10000 + ((number - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if 0xD800 <= number <= 0xDFFF or number > 0x10FFFF:
            raise PatternError("it names a half of a surrogate pair, or no character")
        return chr(number)

    # -- classes -------------------------------------------------------------------------------------------------------

    def _class(self) -> str:
        self._at += 1
        negated = self._source.startswith("^", self._at)
        self._at += negated
        inside: list[str] = []
        others: list[str] = []  # what is left when a set is taken away has no form inside a class
        while True:
            if self._at >= len(self._source):
                raise PatternError("it has a class that does not end")
            if self._source[self._at] == "]":
                self._at += 1
                break
            self._member(inside, others)
        choices = [*([f"[{''.join(inside)}]"] if inside else []), *others]
        if not choices:
            return r"[\s\S]" if negated else "(?!)"
        if not others:
            return f"[^{''.join(inside)}]" if negated else choices[0]
        either = "|".join(choices)
        return rf"(?:(?!{either})[\s\S])" if negated else f"(?:{either})"

    def _member(self, inside: list[str], others: list[str]) -> None:
        """Take one member of a class: a set, a character, or a range of characters."""
        first = self._class_atom(inside, others)
        if first is None or self._source[self._at : self._at + 1] != "-":
            inside += [_literal(first)] if first is not None else []
            return
        if self._source[self._at + 1 : self._at + 2] in ("]", ""):
            inside.append(_literal(first))
            return
        self._at += 1
        last = self._class_atom(inside, others)
        if last is None:  # `[a-\d]`: web browsers take the hyphen as it is
            inside += [_literal(first), _literal("-")]
        elif last < first:
            raise PatternError("it has a range that runs backwards")
        else:
            inside.append(f"{_literal(first)}-{_literal(last)}")

    def _class_atom(self, inside: list[str], others: list[str]) -> str | None:
        """Return the next character of a class; None if a set came, which is in `inside` or `others` then."""
        char = self._source[self._at]
        if char != "\\":
            self._at += 1
            return char
        char = self._after_backslash()
        if char == "b":
            self._at += 1
            return "\b"
        if char in "pP":
            inside.append(self._property())
            return None
        if char.lower() not in _SETS:
            return self._character()
        self._at += 1
        if char.islower():
            inside.append(_SETS[char])
        else:
            others.append(f"[^{_SETS[char.lower()]}]")
        return None


def _literal(char: str) -> str:
    """Return a character as `regex` takes it for itself, in a class or outside."""
    return char if char.isascii() and char.isalnum() else f"\\U{ord(char):08x}"


def _without_classes(source: str) -> str:
    """Return a pattern without its escapes and classes, for counting its groups."""
    return re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", source, flags=re.DOTALL)


def _captures(group: re.Match[str]) -> bool:
    return group["name"] is not None or (group[0] == "(" and not group.string.startswith("?", group.end()))

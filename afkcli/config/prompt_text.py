"""The text of a prompt with its variables: `{{ name }}`, filled once. `\\{{` is the text `{{`.

Since: 0.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from unicodedata import normalize

from afkcli.core.contract.errors import ConfigError

_PLACE = re.compile(r"\\\{\{|\{\{([^{}\n]*)\}\}")


def variable_name(text: str) -> str | None:
    """Return the name of a variable in its one form: letters, digits, `_` and `-`, with no digit or `-` first."""
    name = normalize("NFC", text.strip())
    return name if name.replace("-", "_").isidentifier() and not name.startswith("-") else None


def names_in(text: str, where: str, first_line: int) -> dict[str, int]:
    """Return the variables that a text names, each with the line where it is first.

    Args:
        text: the text.
        where: the file, for messages.
        first_line: the number of the text's first line in the file.

    Raises:
        ConfigError: something else is between `{{` and `}}`.
    """
    found: dict[str, int] = {}
    for place, inner in _places(text):
        line = first_line + text.count("\n", 0, place.start())
        name = variable_name(inner)
        if name is None:
            raise ConfigError(f"{where}, line {line}: {place[0]} is not a variable; write \\{{{{ for the text {{{{")
        found.setdefault(name, line)
    return found


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables filled, once: a value is not looked at. One without a value stays as it is."""

    def value(place: re.Match[str]) -> str:
        if place[1] is None:
            return "{{"
        name = variable_name(place[1])
        return place[0] if name is None else values.get(name, place[0])

    return _PLACE.sub(value, text)


def _places(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for place in _PLACE.finditer(text):
        if place[1] is not None and place[1].strip():
            yield place, place[1]

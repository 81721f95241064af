"""Arguments of a call as aligned fields: nested values indented, long texts cut with their size.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from afkcli.core.contract.jsonform import Json, dumps
from afkcli.screen.shown import TAB, shown
from afkcli.screen.text import padded, shortened, width_of
from afkcli.screen.wrapping import wrapped

NEW_LINE = "> "
"""What a new line in a text begins with, so that no text of a model can look like a line of afk."""

_MOST_LINES = 12
_MOST_NAME = 24


def field_lines(fields: Mapping[str, Json], columns: int, *, whole: bool = False, indent: int = 2) -> list[str]:
    """Return fields in lines of at most `columns` columns.

    Args:
        fields: the values by name.
        columns: the width of the terminal.
        whole: whether long texts are shown to their end.
        indent: the blanks in front of each line.
    """
    indent = min(indent, max(columns // 3, 2))  # what is nested deeper is not indented any more
    longest = min(_MOST_NAME, columns - indent - 2)
    names = {name: shortened(shown(name), longest) or '""' for name in fields}
    width = min(max(map(width_of, names.values()), default=0), max(columns // 3, 4))
    lines: list[str] = []
    for name, value in fields.items():
        lines += _field(names[name], value, width, columns, whole, " " * indent)
    return lines


def _field(name: str, value: Json, width: int, columns: int, whole: bool, blanks: str) -> Iterator[str]:
    if value and isinstance(value, (dict, list)):
        inner = value if isinstance(value, dict) else {str(at): item for at, item in enumerate(value, 1)}
        yield f"{blanks}{name}:"
        yield from field_lines(inner, columns, whole=whole, indent=len(blanks) + 2)
        return
    front = f"{blanks}{padded(name, width)}  "
    hanging = " " * width_of(front)
    if width_of(name) > width or columns - width_of(front) < min(20, columns // 2):
        yield f"{blanks}{name}"
        front = hanging = f"{blanks}{TAB}"
    lines = _value_lines(value, columns - width_of(front), whole)
    yield front + lines[0]
    yield from (hanging + line for line in lines[1:])


def _value_lines(value: Json, columns: int, whole: bool) -> list[str]:
    text = value if isinstance(value, str) else dumps(value)
    if isinstance(value, str) and _could_be_another_value(value):
        text = dumps(value)
    lines: list[str] = []
    for number, line in enumerate(text.split("\n")):
        front = NEW_LINE if number else ""
        lines += [
            front * (part == 0) + piece
            for part, piece in enumerate(wrapped(shown(line.replace("\t", TAB)), columns - len(front), columns))
        ]
    if whole or len(lines) <= _MOST_LINES:
        return lines
    size = f"{len(text):,} characters, {text.count(chr(10)) + 1:,} lines"
    return [
        *lines[: _MOST_LINES // 2],
        *wrapped(f"... ({size}; v shows all)", columns),
        *lines[-_MOST_LINES // 2 + 2 :],
    ]


def _could_be_another_value(text: str) -> bool:
    """Return whether a text, as it is, would be read as a number, `true`, `null`, a list, nothing, or with blanks."""
    if text != text.strip(" ") or not text or text in ("true", "false", "null"):
        return True
    return text[0] in '[{"' or (text.lstrip("-")[:1].isdigit() and text.lstrip("-").replace(".", "").isdigit())

"""The front matter of a Markdown file: YAML, read as a person wrote it.

PyYAML parses; the values are made here, from its events. Its own rules are those of YAML 1.1, where `no` is false,
`010` is 8 and `2024-01-01` is a date. Here a value is what JSON would take it for, else the text as it was written. The
size, the depth and what aliases expand to are bounded.

Since: 0.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from afkcli.core.contract.errors import ConfigError

if TYPE_CHECKING:
    import yaml

FENCE = "---"
_MAX_CHARS = 100_000
"""What the values of a front matter may have together, with each alias written out."""
_MAX_DEPTH = 40
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "Null": None, "~": None, "": None}


class Scalar(str):
    """A value as it was written, on the line `line`; `plain` says that it had no quotes."""

    __slots__ = ("line", "plain")
    line: int
    plain: bool

    @property
    def value(self) -> Any:
        """The value that JSON would take it for, else the text."""
        if not self.plain:
            return str(self)
        if self in _WORDS:
            return _WORDS[self]
        found = _NUMBER.fullmatch(self)
        if found is None or len(self) > 40:
            return str(self)
        return float(self) if found[2] or found[3] else int(self)


class Table(dict[str, Any]):
    """A mapping; `lines` has the line of each key."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Divided(NamedTuple):
    """A file: the lines of its front matter (None if it has none), the line where these begin, and the text."""

    front: str | None
    first_line: int
    text: str
    text_line: int


def divided(text: str, where: str) -> Divided:
    """Return the front matter and the text of a file.

    The front matter is between a first line `---`, before which only empty lines may be, and the next line `---`. Any
    other such line is text.

    Raises:
        ConfigError: the front matter has no end.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if start == len(lines) or lines[start].rstrip() != FENCE:
        return Divided(None, 1, "\n".join(lines), 1)
    for number in range(start + 1, len(lines)):
        if lines[number].rstrip() == FENCE:
            return Divided("\n".join(lines[start + 1 : number]), start + 2, "\n".join(lines[number + 1 :]), number + 2)
    raise ConfigError(f"{where}, line {start + 1}: the front matter has no end; end it with a line {FENCE}")


def read_front_matter(text: str, where: str, first_line: int) -> Table:
    """Return the keys of a front matter, with their values as `Scalar`, list or `Table`.

    Args:
        text: the lines between the fences.
        where: the file, for messages.
        first_line: the number of the first of these lines in the file.

    Raises:
        ConfigError: it is not YAML, a key is there twice, or it is too large; the message has the line.
    """
    import yaml

    if len(text) > _MAX_CHARS:
        raise ConfigError(f"{where}: the front matter has more than {_MAX_CHARS} characters; shorten it")
    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader), where, first_line).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark is not None else 0)
        raise ConfigError(f"{where}, line {line}: not valid YAML: {_in_words(error)}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        what = " ".join(str(error).split())
        raise ConfigError(f"{where}: not valid YAML: {what}") from None
    except RecursionError:
        raise ConfigError(f"{where}: the front matter is nested too deeply") from None


def plain(value: Any) -> Any:
    """Return a value of a front matter as JSON: numbers, true, false and null where they have no quotes."""
    if isinstance(value, Scalar):
        return value.value
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()}


def _in_words(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context).split())
    if "'\\t'" in problem:
        return "a line is indented by a tab; use spaces"
    if problem.startswith("mapping values are not allowed"):
        return "put quotes around a text that has a colon and a space"
    if problem.startswith("expected alphabetic or numeric character"):
        return "put quotes around a text that begins with * or &"
    if problem.startswith("found character") and "cannot start" in problem:
        return f"{problem}; put quotes around a text that begins with it"
    return problem


class _Reader:
    """Makes the values of one document from the events of PyYAML."""

    def __init__(self, events: Iterator[Any], where: str, first_line: int) -> None:
        self._events = events
        self._where = where
        self._first_line = first_line
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._size = 0

    def document(self) -> Table:
        """Return the only document, which is a mapping or empty."""
        import yaml

        found: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, f"the front matter is one document; leave out the line {FENCE} or ...")
            elif isinstance(event, yaml.NodeEvent):
                found = self._value(event, 0)
        if found is None or (isinstance(found, Scalar) and found.value is None):
            return Table()
        if not isinstance(found, Table):
            raise ConfigError(
                f"{self._where}, line {self._first_line}: the front matter is not a list of keys, such as model: NAME"
            )
        return found

    def _value(self, event: Any, depth: int) -> Any:
        import yaml

        if depth > _MAX_DEPTH:
            raise self._error(event, "the front matter is nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(
                    event, f"*{event.anchor} names no anchor; put quotes around a text that begins with *"
                )
            value, size = self._anchors[event.anchor]
            self._grow(event, size)
            return value
        if event.tag is not None and not (isinstance(event, yaml.ScalarEvent) and event.tag == "!"):
            raise self._error(event, f"the tag {event.tag} is not supported; write the value without it")
        before = self._size
        if isinstance(event, yaml.ScalarEvent):
            value = Scalar(event.value)
            value.line, value.plain = self._line(event), event.style is None and event.tag is None
            self._grow(event, len(value) + 1)
        else:
            self._grow(event, 1)
            value = self._list(depth) if isinstance(event, yaml.SequenceStartEvent) else self._table(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._size - before)
        return value

    def _list(self, depth: int) -> list[Any]:
        import yaml

        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _table(self, depth: int) -> Table:
        import yaml

        table = Table()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            if not isinstance(key, Scalar):
                raise self._error(event, "put quotes around a text that begins with { or [")
            if key == "<<" and key.plain:
                raise self._error(event, "<< is not supported; write the keys out")
            if key in table:
                raise self._error(event, f"the key {str(key)!r} is there twice")
            table.lines[str(key)] = self._line(event)
            table[str(key)] = self._value(next(self._events), depth + 1)
        return table

    def _grow(self, event: Any, size: int) -> None:
        self._size += size
        if self._size > _MAX_CHARS:
            raise self._error(event, f"the values, aliases written out, have more than {_MAX_CHARS} characters")

    def _line(self, event: Any) -> int:
        return self._first_line + int(event.start_mark.line)

    def _error(self, event: Any, what: str) -> ConfigError:
        return ConfigError(f"{self._where}, line {self._line(event)}: {what}")

"""Session files: lines of JSON that a coding agent wrote. What is common to their readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from afkcli.core.contract.jsonform import JsonError, JsonObject, loads_object
from afkcli.core.contract.text import collapsed, in_mb
from afkcli.core.thread.exchange import Incomplete
from afkcli.foreign.conversation import ForeignError, TooLargeError

Program = Literal["codex", "claude"]
MAX_FILE = 512 * 1024 * 1024
MAX_NAMED = 10
"""How many bad lines are named one by one."""
_OWN_TYPES = frozenset({"thread", "record", "content", "left_out", "rescued_turn", "rescued_journal", "end"})
_CLAUDE_TYPES = frozenset({"summary", "file-history-snapshot", "queue-operation", "last-prompt"})


class Line(NamedTuple):
    """An object of a session file, and the number of its line (1 is the first)."""

    number: int
    form: JsonObject


def program_of(line: bytes) -> Program | Literal["afk"] | None:
    """Return which program wrote a line of JSON; None if this line alone does not tell."""
    try:
        form = loads_object(line)
    except JsonError:
        return None
    kind = form.get("type")
    if "v" in form and kind in _OWN_TYPES:
        return "afk"
    if isinstance(kind, str) and isinstance(form.get("payload"), dict):
        return "codex"
    if "sessionId" in form or ("uuid" in form and "parentUuid" in form) or kind in _CLAUDE_TYPES:
        return "claude"
    if "type" not in form and isinstance(form.get("id"), str) and {"timestamp", "instructions"} <= form.keys():
        return "codex"  # the first line of 2025's files, whose further lines have no envelope
    return None


class BadLines:
    """Collects the lines that cannot be read; the first ones are named, the others counted."""

    def __init__(self) -> None:
        self.items: list[Incomplete] = []
        self._more = 0
        self._last = 0

    def add(self, line: int, error: Exception) -> None:
        """Take a line that is left out, and why."""
        self._last = line
        if len(self.items) < MAX_NAMED:
            self.items.append(Incomplete(line=line, what=collapsed(str(error), 300)))
        else:
            self._more += 1

    def all(self) -> Iterator[Incomplete]:
        """Yield those that are named, and one for the rest."""
        yield from self.items
        if self._more:
            yield Incomplete(line=self._last, what=f"{self._more} more lines cannot be read, this one is the last")


def objects(lines: Iterable[bytes], bad: BadLines) -> Iterator[Line]:
    """Yield the objects in `lines`; a line that is none goes to `bad`.

    Raises:
        TooLargeError: they are more than `MAX_FILE` bytes.
    """
    size = 0
    for number, line in enumerate(lines, 1):
        size += len(line)
        if size > MAX_FILE:
            raise TooLargeError(f"the session is larger than {in_mb(MAX_FILE)}")
        if not line.strip():
            continue
        try:
            yield Line(number, loads_object(line.removeprefix(b"\xef\xbb\xbf")))
        except JsonError as error:
            bad.add(number, ForeignError(f"not a line of a session: {error}"))

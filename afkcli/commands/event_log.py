"""Reads a log with one JSON event a line: its last events, and those that are appended later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from afkcli.core.contract.jsonform import JsonError, JsonObject, loads_object

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of the log: the unchanged line, and the object in it."""

    line: str
    form: JsonObject


@dataclass(slots=True)
class EventLog:
    """The files of a log. They may grow, and files may be added, while the log is read.

    Args:
        files: returns the files that there are now, oldest first.
        wanted: returns whether an event belongs to the result.
    """

    files: Callable[[], Sequence[Path]]
    wanted: Callable[[JsonObject], bool]
    left_out: int = 0
    _read_to: dict[Path, int] = field(default_factory=dict)

    def last(self, count: int) -> list[LoggedEvent]:
        """Return the last `count` events, oldest first; `more` continues after them."""
        found: list[LoggedEvent] = []
        for path in reversed(self.files()):
            end = self._read_to[path] = _end_of_lines(path)
            if len(found) < count:
                found += self._last_of(path, end, count - len(found))
        return found[::-1]

    def more(self) -> list[LoggedEvent]:
        """Return the events that were appended since; an incomplete line is left for the next call."""
        events: list[LoggedEvent] = []
        files = self.files()
        for path in files:
            start = self._read_to.get(path, 0)
            lines = _lines_from(path, start)
            self._read_to[path] = start + sum(map(len, lines))
            events += self._events(lines)
        self._read_to = {path: self._read_to[path] for path in files}
        return events

    def _last_of(self, path: Path, end: int, count: int) -> list[LoggedEvent]:
        found: list[LoggedEvent] = []
        for line in _lines_backwards(path, end):
            found += self._events([line])
            if len(found) == count:
                break
        return found

    def _events(self, lines: Sequence[bytes]) -> Iterator[LoggedEvent]:
        for line in lines:
            if not line.strip():
                continue
            try:
                form = loads_object(line)
            except JsonError:  # it was cut by a full disk
                self.left_out += 1
                continue
            if self.wanted(form):
                yield LoggedEvent(line.decode("utf-8").rstrip("\n"), form)


def _end_of_lines(path: Path) -> int:
    """Return where the last whole line of a file ends."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - _BLOCK)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    return start + newline + 1
                end = start
    except FileNotFoundError:  # it was deleted because it was old
        pass
    return 0


def _lines_backwards(path: Path, end: int) -> Iterator[bytes]:
    """Yield the lines before `end`, the last one first, without reading more of the file than is asked for."""
    pieces: list[bytes] = []  # pieces of the line that is being read, the last piece first
    try:
        with path.open("rb") as file:
            while end:
                start = max(0, end - _BLOCK)
                file.seek(start)
                first, *lines = file.read(end - start).split(b"\n")
                if lines:
                    pieces.append(lines.pop())
                    yield from _joined(pieces)
                    yield from (line for line in reversed(lines) if line)
                    pieces = [first]
                else:
                    pieces.append(first)
                end = start
    except FileNotFoundError:
        return
    yield from _joined(pieces)


def _joined(pieces: list[bytes]) -> Iterator[bytes]:
    line = b"".join(reversed(pieces))
    if line:
        yield line


def _lines_from(path: Path, start: int) -> list[bytes]:
    """Return the whole lines from `start` on, their newlines included."""
    try:
        if path.stat().st_size <= start:
            return []
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return []
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)

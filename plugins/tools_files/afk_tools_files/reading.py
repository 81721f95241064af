"""Text files and folders, read within bounds."""

from __future__ import annotations

import codecs
import heapq
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from afk_tools_files.inside import Place, RefusedError, Roots, is_forbidden, kind_of

PIECE = 65536
MAX_SCANNED = 100_000
"""The largest number of entries of a folder that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of one call; their names are those of the settings."""

    max_output_bytes: int
    max_lines: int
    max_entries: int
    max_hits: int
    max_file_bytes: int
    timeout_s: float


def binary(place: Place, size: int) -> RefusedError:
    """Return the error for a file that is not text."""
    return RefusedError(f"{place.shown!r} is a binary file of {size} bytes, not UTF-8 text")


def pieces(descriptor: int, place: Place) -> Iterator[bytes]:
    """Yield the lines of an open file, a line longer than 64 KB in pieces.

    Raises:
        RefusedError: it is binary; raised as soon as that is noticed.
    """
    size = os.fstat(descriptor).st_size
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        if b"\0" in file.peek(PIECE)[:PIECE]:
            raise binary(place, size)
        while piece := file.readline(PIECE):
            if b"\0" in piece:
                raise binary(place, size)
            yield piece


def read(roots: Roots, place: Place, bounds: Bounds, start_line: int, end_line: int | None) -> str:
    """Return lines of a file, counted from 1, with a first line that says which they are.

    Raises:
        RefusedError: the file may not be read, is not text, or has no such lines.
    """
    if end_line is not None and end_line < start_line:
        raise RefusedError(f"end_line {end_line} is before start_line {start_line}")
    last = min(end_line or start_line + bounds.max_lines, start_line + bounds.max_lines - 1)
    with roots.file(place) as descriptor:
        window = _Window(start_line, last, bounds)
        for piece in pieces(descriptor, place):
            if not window.take(piece):
                break
        else:
            window.ended = True
        try:
            text = window.text()
        except UnicodeDecodeError:
            raise binary(place, os.fstat(descriptor).st_size) from None
    if window.ended and window.line == 0:
        return f"{place.shown}: empty"
    if window.ended and window.line < start_line:
        raise RefusedError(f"{place.shown!r} has no line {start_line}; it has {window.line}")
    return f"{place.shown}: {window.said()}\n{text}"


class _Window:
    """The requested lines of a file that is read line by line."""

    def __init__(self, first: int, last: int, bounds: Bounds) -> None:
        self._first, self._last, self._bounds = first, last, bounds
        self._until = time.monotonic() + bounds.timeout_s
        self._kept = bytearray()
        self._begun = True
        self._full = False
        self.line = 0
        self.ended = False

    def take(self, piece: bytes) -> bool:
        """Take the next piece of a line; return whether another one is wanted."""
        if self._begun:
            if self.line >= self._last:
                return False
            self.line += 1
        self._begun = piece.endswith(b"\n")
        if self.line >= self._first:
            self._kept += piece
            if len(self._kept) > self._bounds.max_output_bytes:
                self._full = True
                return False
        if time.monotonic() > self._until:
            raise RefusedError(f"reading took longer than {self._bounds.timeout_s:g} s; it came to line {self.line}")
        return True

    def text(self) -> str:
        """Return the kept text; `UnicodeDecodeError` if it is not UTF-8."""
        if not self._full:
            return self._kept.decode()
        decoder = codecs.getincrementaldecoder("utf-8")()
        return decoder.decode(bytes(self._kept[: self._bounds.max_output_bytes])) + "\n[... cut off here ...]"

    def said(self) -> str:
        """Return which lines these are, and whether more follow."""
        lines = f"lines {self._first}-{self.line}" if self.line > self._first else f"line {self.line}"
        if self._full:
            return f"{lines}, cut off after {self._bounds.max_output_bytes} bytes"
        if self.ended:
            return f"{lines} of {self.line}"
        return f"{lines}; more follow, from start_line {self.line + 1}"


def list_folder(roots: Roots, place: Place, bounds: Bounds) -> str:
    """Return the entries of a folder, a line each, sorted by name; folders end in `/`.

    Raises:
        RefusedError: it may not be listed.
    """
    until = time.monotonic() + bounds.timeout_s
    with roots.folder(place) as folder:
        names: list[str] = []
        more = False
        for name in entries(folder, place):
            more = len(names) >= MAX_SCANNED or time.monotonic() > until
            if more:
                break
            names.append(name)
        described = (_described(roots, folder, place, name) for name in heapq.nsmallest(len(names), names))
        shown: list[str] = []
        size = 0
        for line in (line for line in described if line is not None):
            size += len(line.encode(errors="replace")) + 1
            if len(shown) >= bounds.max_entries or size > bounds.max_output_bytes:
                more = True
                break
            shown.append(line)
    if more:
        shown.append(f"[... cut off after {len(shown)} entries ...]")
    return "\n".join(shown) or f"{place.shown}: no entries"


def entries(folder: int, place: Place) -> Iterator[str]:
    """Yield the names in an open folder, without those that are never used.

    Raises:
        RefusedError: it may not be listed.
    """
    try:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise RefusedError(f"{place.shown!r} cannot be listed: {error.strerror}") from None
    try:
        with os.scandir(readable) as found:
            for entry in found:
                if not is_forbidden(entry.name):
                    yield entry.name
    finally:
        os.close(readable)


def shown_name(name: str) -> str:
    """Return a name on one line, as JSON if it has invisible characters."""
    return name if name.isprintable() else json.dumps(name)


def _described(roots: Roots, folder: int, place: Place, name: str) -> str | None:
    """Return the line of an entry, or None for one that is gone or never used."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return f"{shown_name(name)} -> {shown_name(os.readlink(name, dir_fd=folder))} (not followed)"
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        try:
            roots.check_folder(status, place)
        except RefusedError:
            return None
        return f"{shown_name(name)}/"
    if not stat.S_ISREG(status.st_mode):
        return f"{shown_name(name)} ({kind_of(status.st_mode)})"
    try:
        roots.check_file(status, place)
    except RefusedError:
        return None
    changed = datetime.fromtimestamp(status.st_mtime, UTC).strftime("%Y-%m-%dT%H:%MZ")
    return f"{shown_name(name)}  {status.st_size} bytes  {changed}"

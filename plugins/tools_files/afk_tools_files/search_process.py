"""Searches files by a regular expression, in a process of its own.

Python cannot interrupt a match: in a thread, a pattern that never ends would stop all of afk, leases included. Here an
alarm ends the process in the middle of a match. The process is confined before it reads the request, so nothing may be
imported later. The request comes as JSON on stdin. Each hit is written to stdout when
it is found, on one line. A summary, or an error with exit code 1, is written to stderr.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import resource
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from afk_tools_files.inside import Place, RefusedError, Root, Roots
from afk_tools_files.reading import binary, entries, pieces, shown_name

MAX_LINE = 300
"""The number of characters of a line that a hit shows."""
MAX_DEPTH = 100
MEMORY_BYTES = 1_000_000_000


class _EnoughError(Exception):
    """The largest number of hits, or of bytes, is reached."""


class Search:
    """One search: its pattern, and the counts so far."""

    def __init__(self, request: dict[str, Any]) -> None:
        identities = [(device, inode) for device, inode in request["own_identities"]]
        self._roots = Roots([Root(**root) for root in request["roots"]], request["own"], identities)
        self._limits = {name: request[name] for name in ("max_hits", "max_output_bytes", "max_file_bytes")}
        self._place = self._roots.find(request["path"])
        self._globs = request["glob"].split("/") if request["glob"] else []
        pattern = re.escape(request["pattern"]) if request["literal"] else request["pattern"]
        try:
            self._pattern = re.compile(pattern, re.IGNORECASE if request["ignore_case"] else 0)
        except (re.error, OverflowError, RecursionError) as error:
            raise RefusedError(f"the pattern is not a regular expression: {error}") from None
        self._hits = self._bytes = self._files = 0
        self._left_out: dict[str, int] = {}

    def run(self) -> str:
        """Write the hits; return the summary."""
        enough = ""
        try:
            if self._is_file():
                self._search(self._place)
            else:
                for place in self._walk(self._place):
                    self._try(place)
        except _EnoughError as error:
            enough = f"; {error}"
        left_out = "".join(f"; left out: {count} {what}" for what, count in self._left_out.items())
        return f"{self._hits} lines found, {self._files} files searched{left_out}{enough}"

    def _is_file(self) -> bool:
        """Return whether the path names one file, or something that is refused like a file."""
        if not self._place.parts:
            return False
        parent = Place(root=self._place.root, parts=self._place.parts[:-1], first=self._place.first)
        with self._roots.folder(parent) as folder, suppress(OSError):
            return not stat.S_ISDIR(os.stat(self._place.parts[-1], dir_fd=folder, follow_symlinks=False).st_mode)
        return False

    def _walk(self, place: Place) -> Iterator[Place]:
        if len(place.parts) - len(self._place.parts) > MAX_DEPTH:
            self._leave_out("folders too deep")
            return
        with self._roots.folder(place) as folder:
            folders: list[Place] = []
            for name in sorted(entries(folder, place)):
                inner = place.below(name)
                try:
                    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                except OSError:
                    continue
                if stat.S_ISDIR(mode):
                    folders.append(inner)
                elif stat.S_ISREG(mode) and self._wanted(inner):
                    yield inner
        for inner in folders:
            try:
                yield from self._walk(inner)
            except RefusedError:
                self._leave_out("folders that are not to be used")

    def _wanted(self, place: Place) -> bool:
        if len(self._globs) < 2:
            return not self._globs or fnmatch.fnmatchcase(place.parts[-1], self._globs[0])
        return _fits(place.parts[len(self._place.parts) :], self._globs)

    def _try(self, place: Place) -> None:
        try:
            self._search(place)
        except RefusedError:
            self._leave_out("binary or not readable")

    def _search(self, place: Place) -> None:
        with self._roots.file(place) as descriptor:
            if os.fstat(descriptor).st_size > self._limits["max_file_bytes"]:
                self._leave_out(f"larger than {self._limits['max_file_bytes'] // 1_000_000} MB")
                return
            self._files += 1
            number, begun = 0, True
            for piece in pieces(descriptor, place):
                number += begun
                whole = begun and piece.endswith(b"\n")
                begun = piece.endswith(b"\n")
                try:
                    line = piece.decode(errors="strict" if whole else "replace").rstrip("\r\n")
                except UnicodeDecodeError:
                    raise binary(place, os.fstat(descriptor).st_size) from None
                found = self._pattern.search(line)
                if found:
                    self._say(f"{shown_name(place.shown)}:{number}: {_around(line, found)}")

    def _say(self, hit: str) -> None:
        data = f"{hit}\n".encode(errors="replace")
        self._bytes += len(data)
        if self._hits >= self._limits["max_hits"]:
            raise _EnoughError(f"cut off after {self._hits} lines: look for less, or in fewer files")
        if self._bytes > self._limits["max_output_bytes"]:
            raise _EnoughError(f"cut off after {self._limits['max_output_bytes']} bytes")
        self._hits += 1
        with suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), data)

    def _leave_out(self, what: str) -> None:
        self._left_out[what] = self._left_out.get(what, 0) + 1


def _fits(parts: Sequence[str], globs: Sequence[str]) -> bool:
    """Return whether the names match the globs one by one; `**` matches any number of folders."""
    if not globs or not parts:
        return not globs and not parts
    if globs[0] == "**":
        return _fits(parts, globs[1:]) or _fits(parts[1:], globs)
    return fnmatch.fnmatchcase(parts[0], globs[0]) and _fits(parts[1:], globs[1:])


def _around(line: str, found: re.Match[str]) -> str:
    """Return the part of a long line in which the hit begins."""
    if len(line) <= MAX_LINE:
        return line
    start = max(0, min(found.start() - MAX_LINE // 3, len(line) - MAX_LINE))
    end = start + MAX_LINE
    return f"{'[...] ' if start else ''}{line[start:end]}{' [...]' if end < len(line) else ''}"


def main() -> None:
    """Make the search that stdin describes."""
    request = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        said, code = Search(request).run(), 0
    except RefusedError as error:
        said, code = str(error), 1
    except (MemoryError, RecursionError):
        said, code = "the pattern takes too much memory; write a simpler one", 1
    os.write(sys.stderr.fileno(), said.encode(errors="replace"))
    os._exit(code)  # nothing is buffered, and there may not be enough memory to clean up

"""Looks at the write-ahead log that a process left when it died, before SQLite recovers it.

SQLite ends a log at its first bad frame, drops what follows and reports nothing. What was committed once is known
from two witnesses: the log's index (`-shm`), which outlives a killed process and tells the last frame that was
committed, and the mark of a commit behind a bad frame. What was never committed has neither, so a torn end is silent.

The formats: https://www.sqlite.org/fileformat2.html#walformat and https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from afkcli.plugin import FrozenStruct, private_file

_HEADER, _FRAME = struct.Struct(">IIII8sII"), struct.Struct(">II8sII")
_BYTE_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
"""The order of the bytes in what is summed, by the log's magic number."""

_INDEX_HEADER = struct.Struct("=IIIBBHII8s8s8s")
_INDEX = struct.Struct(f"={_INDEX_HEADER.size}s{_INDEX_HEADER.size}sI28xI")
_INDEX_VERSION = 3007000
_IN_USE = 128
"""The byte of the index that every connection holds a lock on, and its first one alone (SQLite's `UNIX_SHM_DMS`)."""


class _Index(FrozenStruct):
    """What the index tells: the last frame that was committed, and those that are in the database too."""

    salts: bytes
    committed: int
    moved: int
    moving: int  # more than `moved` if a process died while it moved them


def tell_damage(file: Path) -> None:
    """Keep a copy of the log of the database `file` and say so, if SQLite will drop something that was committed.

    It looks only if no other process has the database open. In this one no connection may be open: closing the index
    gives up all locks that a process holds on it (POSIX).
    """
    if sys.platform == "win32":
        return
    log, index = (file.with_name(f"{file.name}-{suffix}") for suffix in ("wal", "shm"))
    with suppress(OSError), _alone(index) as content:  # what cannot be read or kept is SQLite's to tell
        if content is not None:
            _tell(log, _read_index(content))


def _tell(log: Path, index: _Index | None) -> None:
    content = log.read_bytes() if log.exists() else b""
    salts = _salts(content)
    whole, committed = _commits(content, salts) if salts else (0, int(index is None and any(content)))
    if index is not None and salts in (None, index.salts):
        committed = max(committed, index.committed)
    if committed <= whole:
        return
    kept = log.with_name(f"{log.name}.damaged-{int(time.time())}")
    with os.fdopen(private_file(kept), "wb") as copy:
        copy.write(content)
        copy.flush()
        os.fsync(copy.fileno())
    if index is not None and whole < index.moved == index.moving:
        os.truncate(log, 0)  # the database is ahead of what is left of the log, which would cover it with older pages
    logging.getLogger("afkcli").warning(
        "afk: the write-ahead log %s is damaged; what was written last may be missing; a copy is kept at %s", log, kept
    )


if sys.platform != "win32":

    @contextmanager
    def _alone(index: Path) -> Iterator[bytes | None]:
        """Yield what is in the index and keep the database from being opened; None if another process has it open."""
        import fcntl

        with os.fdopen(os.open(index, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as stream:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _IN_USE)
            except OSError:
                yield None
            else:
                yield stream.read(_INDEX.size)


def _read_index(content: bytes) -> _Index | None:
    """Return what the index tells, None if it was not written to its end."""
    if len(content) < _INDEX.size:
        return None
    first, second, moved, moving = _INDEX.unpack_from(content)
    version, _, _, is_set, _, _, committed, _, _, salts, _ = _INDEX_HEADER.unpack(first)
    if first != second or version != _INDEX_VERSION or not is_set:
        return None
    return _Index(salts, committed, moved, moving)


def _salts(log: bytes) -> bytes | None:
    """Return what marks the frames of this log, and not those of an earlier one; None if the log's header is bad."""
    if len(log) < _HEADER.size:
        return None
    magic, _, _, _, salts, *stored = _HEADER.unpack_from(log)
    sound = magic in _BYTE_ORDERS and _summed(log[:24], _BYTE_ORDERS[magic], [0, 0]) == stored
    return salts if sound else None


def _commits(log: bytes, salts: bytes) -> tuple[int, int]:
    """Return the number of the last frame that SQLite will recover, and of the last commit behind a bad frame."""
    magic, _, page, _, _, *sums = _HEADER.unpack_from(log)
    order, size = _BYTE_ORDERS[magic], _FRAME.size + page
    last, behind, sound = 0, 0, True
    for number, start in enumerate(range(_HEADER.size, len(log) - size + 1, size), 1):
        of_page, commit, its_salts, *stored = _FRAME.unpack_from(log, start)
        ours = its_salts == salts and of_page != 0
        if sound:
            summed = log[start : start + 8] + log[start + _FRAME.size : start + size]
            sums = _summed(summed, order, sums)
            sound = ours and sums == stored
            last = number if sound and commit else last
        elif ours and commit:
            behind = number
    return last, behind


def _summed(data: bytes, order: str, sums: list[int]) -> list[int]:
    """Return the log's checksum `sums` continued over `data`."""
    first, second = sums
    for one, other in struct.iter_unpack(f"{order}II", data):
        first = first + one + second & 0xFFFFFFFF
        second = second + other + first & 0xFFFFFFFF
    return [first, second]

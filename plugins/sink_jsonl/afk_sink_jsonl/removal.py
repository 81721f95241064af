"""Takes the lines of deleted threads out of the log.

A file is replaced in one step by one without these lines, and only if no process writes to it: a writer has a shared
lock on its file, and this takes the exclusive one. Where there are no such locks, the files of today and yesterday are
left alone.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from afk_sink_jsonl.logfolder import COPY
from afkcli.plugin import Removal, private_file, sync_folder

_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 1 << 20


def remove_lines(files: Sequence[Path], keys: Collection[str]) -> Iterator[Removal]:
    """Take the lines of the threads with `keys` out of `files`; yield what was done with each file that has some.

    Raises:
        OSError: a file cannot be read or written.
    """
    wanted = [json.dumps(key).encode() for key in keys]
    for folder in {file.parent for file in files}:
        _remove_unfinished(folder)
    for file in files:
        with suppress(FileNotFoundError):  # it was deleted because it was old
            if _has_one(file, wanted):
                yield _without(file, frozenset(keys), wanted)


def _remove_unfinished(folder: Path) -> None:
    """Remove the copies of processes that were killed while they made them: they have lines of other threads."""
    for copy in folder.glob("*.new"):
        if not COPY.fullmatch(copy.name):
            continue
        file = folder / f"{copy.name.partition('.jsonl.')[0]}.jsonl"
        with suppress(OSError):  # of another user
            if not file.exists():
                copy.unlink()
                continue
            descriptor = os.open(file, os.O_RDWR | _SAFE)
            try:
                if _take_alone(descriptor, file):  # whoever makes a copy has this lock
                    copy.unlink()
            finally:
                os.close(descriptor)


def _has_one(file: Path, wanted: Sequence[bytes]) -> bool:
    """Return whether one of the keys is anywhere in a file."""
    longest = max(map(len, wanted), default=0)
    with file.open("rb") as stream:
        rest = b""
        while block := stream.read(_BLOCK):
            piece = rest + block
            if any(key in piece for key in wanted):
                return True
            rest = piece[-longest:]
    return False


def _without(file: Path, keys: frozenset[str], wanted: Sequence[bytes]) -> Removal:
    old = os.open(file, os.O_RDWR | _SAFE)
    try:
        if not stat.S_ISREG(os.fstat(old).st_mode) or not _take_alone(old, file):
            return Removal(file=file, runs=0, in_use=True)
        new = file.with_name(f"{file.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
        try:
            runs = _copy(old, private_file(new, new=True), keys, wanted)
            if not runs:
                new.unlink()
            elif new.stat().st_size:
                new.replace(file)
            else:
                new.unlink()
                file.unlink()
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
        return Removal(file=file, runs=len(runs), in_use=False)
    finally:
        os.close(old)


def _copy(old: int, new: int, keys: frozenset[str], wanted: Sequence[bytes]) -> set[str]:
    """Copy a file without the lines of some threads, and return the runs whose lines were left out."""
    runs: set[str] = set()
    with os.fdopen(new, "wb") as copy, open(old, "rb", closefd=False) as stream:
        for line in stream:
            run = _run_of(line, keys) if any(key in line for key in wanted) else None
            if run is None:
                copy.write(line)
            else:
                runs.add(run)
        copy.flush()
        os.fsync(copy.fileno())
    return runs


def _run_of(line: bytes, keys: frozenset[str]) -> str | None:
    """Return the run of a line if it is an event of one of the threads."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return str(event.get("run_id")) if isinstance(event, dict) and event.get("thread_key") in keys else None


if sys.platform == "win32":

    def _take_alone(file: int, path: Path) -> bool:
        return _is_old(path)
else:

    def _take_alone(file: int, path: Path) -> bool:
        """Take the exclusive lock of a file; return whether no process can write to it now."""
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return _is_old(path)
        return os.fstat(file).st_nlink > 0


def _is_old(path: Path) -> bool:
    """Return whether no event of now belongs into a file."""
    return path.name[:10] < (datetime.now(UTC).date() - timedelta(days=1)).isoformat()

"""Keeps a turn that its store could not save in a file of its own."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, JsonError, JsonObject, loads_object
from afkcli.host.files import make_private_folder, replace_file
from afkcli.host.paths import state_dir

if TYPE_CHECKING:
    from afkcli.core.thread.turns import SealedTurn


_SURELY_DEAD_SECONDS = 3600
"""A run that died leaves an unfinished file; one that lives adds to its file more often than that."""


def rescue(thread_id: str, turn: SealedTurn, contents: Mapping[str, bytes]) -> str | None:
    """Write `turn` and the contents of its attachments to a file in the state folder, or else in the temporary folder.

    It replaces an earlier file of the same run. If there is no room for the contents, the turn is written without them.
    `afk threads import` reads the file, and names what is missing.

    Returns:
        The path of the file, or None if none could be written.
    """
    from afkcli.core.thread.exchange import content_line, rescued_line  # not at the top: few runs need it

    line = rescued_line(thread_id, turn)
    attached = [content_line(sha256, data) for sha256, data in contents.items()]
    for lines in ([line, *attached], [line]) if attached else ([line],):
        for folder in _folders():
            path = folder / f"afk-{turn.run_id}.json"
            with contextlib.suppress(OSError):
                make_private_folder(folder)
                replace_file(path, lines)
                return str(path)
    return None


def _folders() -> Iterator[Path]:
    with contextlib.suppress(ConfigError):  # a user without a home folder
        yield state_dir() / "rescue"
    from tempfile import gettempdir

    yield Path(gettempdir())


class RescueFile(NamedTuple):
    """A file that `rescue` wrote: the name of the thread, the run, and whether its run may still be writing to it."""

    path: Path
    thread_id: str
    run_id: str
    is_open: bool


def rescue_files() -> Iterator[RescueFile]:
    """Yield the rescue files of this user; one that cannot be read is left out. Since: 0.2."""
    for folder in _folders():
        with contextlib.suppress(OSError):
            for path in sorted(folder.glob("afk-*.json")):
                found = _read_file(path)
                if found is not None:
                    yield found


def _read_file(path: Path) -> RescueFile | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or (os.name == "posix" and status.st_uid != os.geteuid()):
                return None
            form = loads_object(file.readline(MAX_LINE_BYTES + 1))
        turn = form["turn"]
        is_ended = turn["state"] != "interrupted" or time.time() - status.st_mtime > _SURELY_DEAD_SECONDS
        return RescueFile(path, str(form["thread_id"]), str(turn["run_id"]), is_open=not is_ended)
    except (OSError, JsonError, KeyError, TypeError):
        return None


def rescue_more(where: str, body: JsonObject, contents: Mapping[str, bytes]) -> None:
    """Add the body of a journal record, and `contents` by their hash, to the file that `rescue` wrote.

    They then survive the process. If there is no room for the contents, the body is added without them.
    """
    from afkcli.core.thread.exchange import content_line, rescued_journal_line

    line = rescued_journal_line(body)
    attached = [content_line(sha256, data) for sha256, data in contents.items()]
    descriptor = os.open(where, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))
    try:
        try:
            _add(descriptor, line + "".join(attached))
        except OSError:
            if not attached:
                raise
            _add(descriptor, line)
    finally:
        os.close(descriptor)


def _add(descriptor: int, text: str) -> None:
    """Add lines to an open file, all of them or nothing: no import reads a file with half a line in it."""
    before = os.fstat(descriptor).st_size
    rest = memoryview(text.encode())
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise

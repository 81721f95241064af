"""Keeps a turn that its store could not take in a file of its own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.thread.exchange import content_line, rescued_journal_line, rescued_line
from afkcli.core.thread.turns import SealedTurn
from afkcli.host.paths import make_private_folder, state_dir


def rescue(thread_id: str, turn: SealedTurn, contents: Mapping[str, bytes]) -> str | None:
    """Write `turn`, and `contents` of what is attached to it, to the state folder, or else to the temporary folder.

    It takes the place of what was written of the same run before. Where there is no room for the contents, the turn is
    written without them. Returns the file's path, or None.
    `afk threads import` takes the file back, and says what is missing.
    """
    line = rescued_line(thread_id, turn)
    attached = [content_line(sha256, data) for sha256, data in contents.items()]
    for lines in ([line, *attached], [line]) if attached else ([line],):
        for folder in (state_dir() / "rescue", Path(tempfile.gettempdir())):
            path = folder / f"afk-{turn.run_id}.json"
            with contextlib.suppress(OSError):
                make_private_folder(folder)
                _write(path, lines)
                return str(path)
    return None


def rescue_more(where: str, body: JsonObject) -> None:
    """Add the body of a journal record to the file that `rescue` wrote; it then survives the process."""
    descriptor = os.open(where, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(rescued_journal_line(body))


def _write(path: Path, lines: Sequence[str]) -> None:
    """Write a file that survives power loss, in one step; half of one is removed."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise

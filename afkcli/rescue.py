"""Keeps a turn that its store could not take in a file of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from afkcli.core.exchange import rescued_line
from afkcli.core.thread import SealedTurn
from afkcli.paths import make_private_folder, state_dir


def rescue(thread_id: str, turn: SealedTurn) -> str | None:
    """Write `turn` to the state folder, or else to the temporary folder; return the file's path, or None.

    `afk threads import` takes the file back.
    """
    line = rescued_line(thread_id, turn)
    for folder in (state_dir() / "rescue", Path(tempfile.gettempdir())):
        path = folder / f"afk-{turn.run_id}.json"
        try:
            make_private_folder(folder)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            continue
        return str(path)
    return None

"""Writes files in one step: a reader sees the old file or the whole new one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def replace_file(path: Path, pieces: Iterable[str]) -> None:
    """Write a text file as UTF-8 with the mode 0600, and put it in the place of `path`; it survives power loss.

    If that fails, or `pieces` raises, the old file stays and nothing is left beside it. A link at `path` is replaced,
    not followed.

    Args:
        path: the file; its folder exists.
        pieces: the text, in parts of any length.

    Raises:
        OSError: the file cannot be written.
        UnicodeEncodeError: the text has a lone surrogate.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise

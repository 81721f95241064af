"""Files and folders that only the user can read, and files that are written in one step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Create `folder` and those of its parents that are missing, each with the mode 0700 whatever the umask is.

    A folder that exists keeps its mode.

    Raises:
        OSError: a folder cannot be created, or a file is in its place.
    """
    if folder.is_dir():
        return
    make_private_folder(folder.parent)
    try:
        folder.mkdir(0o700)
    except FileExistsError:  # another process was faster
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o700)


def private_file(file: Path, *, new: bool = False) -> int:
    """Create `file` empty with the mode 0600 whatever the umask is, and return its descriptor, to read and write.

    Args:
        file: the path; a link there is not followed.
        new: whether a file that exists is an error, and not emptied.

    Raises:
        OSError: it cannot be created. Since: 0.2.
    """
    there = os.O_EXCL if new else os.O_TRUNC
    flags = os.O_RDWR | os.O_CREAT | there | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(file, flags, 0o600)
    if os.name == "posix":
        os.fchmod(descriptor, 0o600)
    return descriptor


def replace_file(path: Path, pieces: Iterable[str]) -> None:
    """Write a text file as UTF-8 with the mode 0600, and put it in the place of `path`; it survives power loss.

    A reader sees the old file or the whole new one. If that fails, or `pieces` raises, the old file stays and nothing
    is left beside it. A link at `path` is replaced, not followed.

    Args:
        path: the file; its folder exists.
        pieces: the text, in parts of any length.

    Raises:
        OSError: the file cannot be written.
        UnicodeEncodeError: the text has a lone surrogate.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
    descriptor = private_file(new, new=True)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the file is there; some file systems cannot sync a folder
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names of new files in `folder` survive power loss; Windows has no such call. Since: 0.2.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files and folders with modes that are set on purpose, and files that are written in one step and survive power loss.

A file survives power loss when it and the folder with its name were synced (fsync(2)), a new folder when its parent
was.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Create `folder` and those of its parents that are missing, each with the mode 0700 whatever the umask is.

    New folders survive power loss. A folder that exists keeps its mode.

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
        _sync_if_possible(folder.parent)


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


def replace_file(path: Path, pieces: Iterable[str], *, mode: int = 0o600, new: bool = False) -> None:
    """Write a text file as UTF-8, and put it in the place of `path`; it survives power loss.

    A reader sees the old file or the whole new one. If that fails, or `pieces` raises, the old file stays and nothing
    is left beside it. A link at `path` is replaced, not followed.

    Args:
        path: the file; its folder exists.
        pieces: the text, in parts of any length.
        mode: the permissions, whatever the umask is. Since: 0.2.
        new: whether a file that exists is an error, and not replaced. Since: 0.2.

    Raises:
        FileExistsError: `new`, and something is at `path`.
        OSError: the file cannot be written.
        UnicodeEncodeError: the text has a lone surrogate.
    """
    written = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
    descriptor = private_file(written, new=True)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            if os.name == "posix":
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if new:
            _move_to_free_name(written, path)
        else:
            written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    _sync_if_possible(path.parent)


def _move_to_free_name(file: Path, path: Path) -> None:
    """Rename `file` to `path`, which must not exist."""
    try:
        path.hardlink_to(file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):  # `Path.exists` follows a link
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        file.replace(path)
    else:
        file.unlink()


_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
"""Of a file system that syncs no folder, or of a folder that the user may write to but not read."""


def _sync_if_possible(folder: Path) -> None:
    """Sync a folder, where its file system and its permissions allow that.

    Raises:
        OSError: the disk failed.
    """
    try:
        sync_folder(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


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

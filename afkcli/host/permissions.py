"""Who else can write a file, and files that are read once: their bytes and their owner come from one open file.

POSIX alone tells owners and modes; elsewhere every regular file is accepted.

Since: 0.2.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_OWN_BYTES = 10_000_000
"""A longer config, plugin file or instructions file of the user is refused: an endless file would fill the memory."""

_MAX_LINKS = 40  # as in Linux: path_resolution(7)


class UnsafeFileError(Exception):
    """A file is not used; the message says why, as a sentence about "it"."""


def read_file_once(
    path: Path, limit: int, refused: Callable[[os.stat_result], str | None] = lambda status: None
) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file, and the status of the file from which they were read.

    Args:
        path: the file; links are followed.
        limit: how many bytes it may have.
        refused: returns from the status of the open file why it is not used, or None.

    Raises:
        UnsafeFileError: it is a FIFO or a device, too long, or refused.
        OSError: it cannot be opened or read.
    """
    try:
        status = path.stat()  # before it is opened, which has effects on some devices
    except ValueError:
        raise UnsafeFileError("its path is not valid") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError("it is not a regular file")
    # O_NONBLOCK, because opening a FIFO that came in between would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        why = refused(status) if stat.S_ISREG(status.st_mode) else "it is not a regular file"
        if why is not None:
            raise UnsafeFileError(why)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnsafeFileError(f"it is longer than {limit} bytes")
    return data, status


def read_own_file(path: Path, limit: int = MAX_OWN_BYTES) -> bytes:
    """Return the bytes of a file that only the user, or root, can have written.

    Raises:
        UnsafeFileError: others own it, can write it or can replace it; the message has the command that mends that.
        OSError: it cannot be opened or read.
    """
    return read_file_once(path, limit, lambda status: others_can_change(path, status))[0]


def others_can_change(path: Path, status: os.stat_result) -> str | None:
    """Return why others than the user and root can change what is at a path, with the command that mends it, or None.

    Looked at are the file, the links that lead to it, and their folders. Of the folders above those, only the right of
    everyone to write counts: in containers they often have other owners.

    Args:
        path: the path by which the file was opened.
        status: the status of the open file.
    """
    if not hasattr(os, "geteuid"):
        return None
    why = _changeable(status, path.resolve(), "it")
    if why is not None:
        return why
    folders: dict[Path, None] = {}
    for hop in _hops(path):
        if hop.is_symlink() and hop.lstat().st_uid not in (0, os.geteuid()):
            return _owned_by_another(f"the link {hop}", hop)
        folders |= dict.fromkeys((hop.parent, hop.parent.resolve()))
    for folder in folders:
        why = _changeable(folder.stat(), folder, f"the folder {folder}")
        if why is not None:
            return why
    above = dict.fromkeys(parent for folder in folders for parent in folder.parents)
    open_to_all = next((folder for folder in above if _is_open_to_all(folder.stat())), None)
    return None if open_to_all is None else _written_by_others(f"the folder {open_to_all}", open_to_all)


def is_private_group(status: os.stat_result) -> bool:
    """Return whether the file's group has only its owner, as on systems with the umask 002.

    Then the right of the group to write gives no other user access. Not for root, whose group has other members on some
    systems.
    """
    import grp
    import pwd

    if status.st_uid == 0:
        return False
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return (group.gr_gid, group.gr_name) == (owner.pw_gid, owner.pw_name) and set(group.gr_mem) <= {owner.pw_name}


def others_can_write(status: os.stat_result, path: Path) -> bool:
    """Return whether the mode of a file lets others than its owner write.

    A group without other members is no other, unless the file has an access control list: then the bits of the group
    are the mask of that list (acl(5)).
    """
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and (not is_private_group(status) or _has_acl(path))


def _changeable(status: os.stat_result, path: Path, what: str) -> str | None:
    if status.st_uid not in (0, os.geteuid()):
        return _owned_by_another(what, path)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return None  # in a sticky folder, such as /tmp, only the owner of a file can replace it
    if others_can_write(status, path):
        return _written_by_others(what, path)
    return None


def _is_open_to_all(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX


def _has_acl(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except (AttributeError, OSError):  # macOS, or a file system without such lists
        return False


def _hops(path: Path) -> Iterator[Path]:
    """Yield a path, and what its last part leads to, link by link; the last one is no link."""
    current = path.absolute()
    for _ in range(_MAX_LINKS):
        yield current
        if not current.is_symlink():
            return
        current = current.parent / current.readlink()


def _owned_by_another(what: str, path: Path) -> str:
    import shlex  # not at the top: every command checks files, and few are refused

    return f"another user owns {what}; make it yours with: chown -h {os.geteuid()} {shlex.quote(str(path))}"


def _written_by_others(what: str, path: Path) -> str:
    import shlex

    return f"others can write {what}; mend it with: chmod go-w {shlex.quote(str(path))}"

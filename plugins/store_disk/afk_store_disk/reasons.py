"""Why a file or a folder cannot be used, in one line for a person.

SQLite names what it could not do, not why: where no inode is left it says that the database is read-only. So the
operating system is asked again, by a probe.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

ELSEWHERE = "set AFK_HOME or [stores.disk] path to another folder"

_LINES = {
    errno.ENOSPC: "the disk is full: nothing was written to {path}; free some space",
    errno.EDQUOT: f"your disk quota is used up: nothing was written to {{path}}; free some space, or {ELSEWHERE}",
    errno.EROFS: f"{{path}} is on a file system that is mounted read-only; mount it writable, or {ELSEWHERE}",
    errno.EMFILE: "{path} cannot be opened: this process has too many open files; raise the limit with `ulimit -n`",
    errno.ENFILE: "{path} cannot be opened: this machine has too many open files; end some programs",
    errno.ENOMEM: "not enough memory to use {path}; end some programs",
    errno.ELOOP: f"{{path}} is a link that leads back to itself; remove it, or {ELSEWHERE}",
}
_NO_INODES = "the file system of {path} has no inodes left: no file can be created there; delete some files"
_NO_FOLDER = f"{{path}} is a file where a folder is needed; move it away, or {ELSEWHERE}"
_DANGLING = f"{{path}} is a link to {{target}}, which does not exist; create that or remove the link, or {ELSEWHERE}"
_NOT_YOURS = "{path} cannot be written ({error}): {step} belongs to another user (uid {uid}); change its owner, or "


def reason(error: OSError, file: Path) -> str | None:
    """Return the line for an error of the operating system about `file` or a folder above it; None for another kind."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else file
    if error.errno == errno.ENOSPC and _without_inodes(path):
        return _NO_INODES.format(path=path.parent)
    if error.errno in _LINES:
        return _LINES[error.errno].format(path=path)
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        return _in_the_way(path)
    if error.errno in (errno.EACCES, errno.EPERM):
        return _of_another_user(path, error.strerror or "no permission")
    return None


def probe(file: Path) -> OSError | None:
    """Ask the operating system what it refuses: `file` itself, or a new file beside it; None if it refuses neither."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.probe")
    try:
        if file.exists():
            os.close(os.open(file, os.O_RDWR))
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        error.filename = str(file)
        return error
    try:
        os.write(descriptor, bytes(4096))
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(file)
        return error
    finally:
        os.close(descriptor)
        with suppress(OSError):
            beside.unlink()
    return None


def _without_inodes(path: Path) -> bool:
    """Return whether the file system has room for data but for no further file."""
    if not hasattr(os, "statvfs"):
        return False
    for folder in (path.parent, *path.parent.parents):
        with suppress(OSError):
            found = os.statvfs(folder)
            return found.f_files > 0 and found.f_favail == 0
    return False


def _in_the_way(path: Path) -> str | None:
    """Return what is in the place of a folder on the way to `path`."""
    for step in (*reversed(path.parents), path):
        if step.is_symlink() and not step.exists():
            return _DANGLING.format(path=step, target=step.readlink())
        if step != path and step.exists() and not step.is_dir():
            return _NO_FOLDER.format(path=step)
    return _NO_FOLDER.format(path=path) if path.is_file() and path.suffix != ".db" else None


def _of_another_user(path: Path, error: str) -> str | None:
    """Return that the first thing on the way to `path` that cannot be used belongs to another user."""
    if not hasattr(os, "geteuid"):
        return None
    for step in (path, *path.parents):
        with suppress(OSError):
            owner = step.stat().st_uid
            return _not_yours(path, step, owner, error) if owner != os.geteuid() else None
    return None


def _not_yours(path: Path, step: Path, owner: int, error: str) -> str:
    return _NOT_YOURS.format(path=path, step=step, uid=owner, error=error) + ELSEWHERE

"""The afk.toml of a project: where it is looked for, and when it is not read at all."""

from __future__ import annotations

import os
from pathlib import Path

from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.permissions import UnsafeFileError, others_can_write, read_file_once

FILE_NAME = "afk.toml"
_MAX_BYTES = 1_000_000  # configs are written by hand; a larger file is not read into memory


class ProjectFile(FrozenStruct, kw_only=True):
    """A project file, read once: `data` are its bytes; `refused` is the reason if the whole file is ignored."""

    path: Path
    data: bytes = b""
    owner: int = -1
    refused: str | None = None


def find_project_file(start: str | Path | None) -> ProjectFile | None:
    """Return the nearest afk.toml at or above `start`, never one above the home folder; None if there is none."""
    if start is None:  # the working directory was deleted
        return None
    try:
        start = Path(start).resolve()
        home = Path.home().resolve()
    except (OSError, RuntimeError):  # `start` was deleted, or the home folder is not known
        return None
    for folder in (start, *start.parents):
        if folder in home.parents:
            break
        path = folder / FILE_NAME
        if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112 - is_dir raises where it may not look
            return read_project_file(path)
        if folder == home:
            break
    return None


def read_project_file(path: Path) -> ProjectFile:
    """Read a project file, or one that it references; refuse it if another user owns it or can write it."""
    try:
        real = path.resolve(strict=True)
        link = path.lstat()
        data, status = read_file_once(real, _MAX_BYTES, lambda status: _refused(status, link, real))
    except UnsafeFileError as error:
        return ProjectFile(path=real, refused=str(error))
    except ValueError:
        return ProjectFile(path=path, refused="its path is not valid")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        why = getattr(error, "strerror", None) or "a loop of symbolic links"
        return ProjectFile(path=Path(os.path.abspath(path)), refused=f"it cannot be read: {why}")  # noqa: PTH100
    return ProjectFile(path=real, data=data, owner=status.st_uid)


def _refused(status: os.stat_result, link: os.stat_result, real: Path) -> str | None:
    """Return why a file is refused: the owner of it or of the link to it, or who can write it."""
    if not hasattr(os, "geteuid"):
        return None
    if {status.st_uid, link.st_uid} != {os.geteuid()}:
        return "another user owns it"
    return "others can write it; chmod go-w it" if others_can_write(status, real) else None

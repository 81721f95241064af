"""Room on the disk that a batch keeps free, so that the answers that were paid can be written when the disk is full."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from afkcli.host.files import private_file

SPARE_BYTES: Final = 8 * 1024 * 1024
FULL: Final = "the disk is full"
"""Why a batch is paused when its spare room had to be used."""


def spare_file(batch: Path) -> Path:
    """Return the file that holds the room of the batch in the file `batch`."""
    return batch.with_name(f"{batch.name}.spare")


def keep_spare_room(batch: Path) -> None:
    """Take up the room, unless that was done; `OSError` if there is none."""
    file = spare_file(batch)
    if file.exists():
        return
    making = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = private_file(making)
    try:
        allocate = getattr(os, "posix_fallocate", None)
        if allocate is not None:
            allocate(descriptor, 0, SPARE_BYTES)
        else:
            os.write(descriptor, bytes(SPARE_BYTES))
        making.rename(file)
    except OSError:
        making.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def free_spare_room(batch: Path) -> None:
    """Give the room back to the disk; another process may have done so."""
    spare_file(batch).unlink(missing_ok=True)


def is_full(error: Exception) -> bool:
    """Return whether a write failed because there is no room on the disk."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)

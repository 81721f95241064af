"""One file of the log: opened so that it cannot be redirected, appended to so that no line is torn."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# O_NONBLOCK: a FIFO in the file's place must not block the open. Names that Windows does not have count as 0.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)

_MOST_PIECES = 1000
"""Systems take at least 1,024 in one write."""

_OTHER_WRITER_SECONDS = 0.05  # how long another process may take between the first and the last byte of its line


class LogFile:
    """A file that this and other processes append lines to.

    While it is open it has a lock that is shared with other writers (`flock`), so that lines are taken out only of a
    file that no process writes to (removal.py).
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, and create it with mode 0600 if it is missing.

        Raises:
            OSError: a symbolic link, a FIFO, a device or another user's file is in its place, or it cannot be opened.
        """
        self._path = path
        self._file = self._opened()
        self._seen = 0  # the size at which the file last ended with a complete line

    def _opened(self) -> int:
        while True:
            file = os.open(self._path, _FLAGS, 0o600)
            try:
                self._refuse_foreign(os.fstat(file), file)
                share(file)
                if os.fstat(file).st_nlink:
                    return file
            except OSError:
                os.close(file)
                raise
            os.close(file)  # a file without some lines took its place just now

    def _refuse_foreign(self, status: os.stat_result, file: int) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(self._path))
        if not hasattr(os, "geteuid"):
            return
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "the file belongs to another user", str(self._path))
        if stat.S_IMODE(status.st_mode) != 0o600:  # also where the umask left no permission to the user
            os.fchmod(file, 0o600)

    def usable(self, max_bytes: int) -> bool:
        """Return whether lines may still go here: below `max_bytes` (0 means no limit) and not deleted meanwhile."""
        status = os.fstat(self._file)
        return status.st_nlink > 0 and not (max_bytes and status.st_size >= max_bytes)

    def append(self, lines: Sequence[bytes]) -> None:
        """Append pieces of lines, the last of which ends with a newline, in one write.

        After a line that was cut (a full disk, here or in another process) it begins on a new line.

        Raises:
            OSError: it was not written, or only a part of it.
        """
        size = os.fstat(self._file).st_size
        if size != self._seen and self._ends_torn():
            lines = [b"\n", *lines]
        try:
            written = _write(self._file, lines)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        if written < sum(map(len, lines)):
            self._seen = -1
            raise OSError(errno.ENOSPC, "only a part of the event could be written", str(self._path))
        self._seen = size + written

    def _ends_torn(self) -> bool:
        """Return whether the file ends within a line. Wait for a line that another process is just writing."""
        until = time.monotonic() + _OTHER_WRITER_SECONDS
        while self._last_byte() not in (b"\n", b""):
            if time.monotonic() > until:
                return True
            time.sleep(0.001)
        return False

    def _last_byte(self) -> bytes:
        size = os.lseek(self._file, 0, os.SEEK_END)
        os.lseek(self._file, max(0, size - 1), os.SEEK_SET)
        return os.read(self._file, 1)

    def close(self) -> None:
        os.close(self._file)


if sys.platform == "win32":

    def share(file: int) -> None:
        """Do nothing: Windows has no such lock."""
else:

    def share(file: int) -> None:
        """Take the lock of a writer; a file system without locks is written to without one."""
        import fcntl

        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)


def _write(file: int, pieces: Sequence[bytes]) -> int:
    """Write all `pieces` by one call, so that no line of another process comes between them."""
    if len(pieces) == 1 or len(pieces) > _MOST_PIECES or not hasattr(os, "writev"):
        return os.write(file, b"".join(pieces))
    return os.writev(file, pieces)

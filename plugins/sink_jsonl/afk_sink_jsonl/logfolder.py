"""The folder of the log: `YYYY-MM-DD.jsonl`, then `YYYY-MM-DD-1.jsonl` and so on if a day needs more."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

from afk_sink_jsonl.logfile import LogFile
from afkcli.plugin import make_private_folder

COPY = re.compile(r"(\d{4}-\d{2}-\d{2})(-\d+)?\.jsonl\.\d+-[0-9a-f]{8}\.new")
"""A copy that was left behind by a process that was killed; see removal.py."""
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(-\d+)?\.jsonl")


class LogFolder:
    """The folder with the files of the log.

    Args:
        path: the folder; created with mode 0700 if it is missing.
        ours: the folder is afk's own, so a wider mode is corrected.
        keep_days: older files are deleted when a file is opened; 0 keeps all.
    """

    def __init__(self, path: Path, *, ours: bool, keep_days: int) -> None:
        self._path = path
        self._ours = ours
        self._keep_days = keep_days

    def open(self, day: str, max_bytes: int) -> LogFile:
        """Open the first file of `day` that is below `max_bytes` (0 means no limit).

        Files are only ever appended to, never renamed, so processes that rotate at the same time agree without a lock.

        Raises:
            OSError: the folder or the file cannot be made, or something else is in its place.
            ValueError: `day` is not a date.
        """
        date.fromisoformat(day)
        self._make()
        self._delete_old()
        for number in count():
            file = LogFile(self._path / (f"{day}-{number}.jsonl" if number else f"{day}.jsonl"))
            if file.usable(max_bytes):
                return file
            file.close()
        raise AssertionError("unreachable")

    def files(self) -> list[Path]:
        """Return the existing files of the log, oldest first; an empty list if there is no folder yet."""
        found: list[tuple[str, int, Path]] = []
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._path) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    found.append((match[1], int((match[2] or "-0")[1:]), Path(entry.path)))
        return [path for _, _, path in sorted(found)]

    def _make(self) -> None:
        make_private_folder(self._path)
        status = self._path.stat()
        if self._ours and stat.S_IMODE(status.st_mode) & 0o077 and _is_mine(status):
            self._path.chmod(0o700)

    def _delete_old(self) -> None:
        if not self._keep_days:
            return
        oldest = (datetime.now(UTC).date() - timedelta(days=self._keep_days)).isoformat()
        # A failed deletion does not matter: another process may be deleting the same files.
        with suppress(OSError), os.scandir(self._path) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name) or COPY.fullmatch(entry.name)
                if match and match[1] < oldest and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        Path(entry.path).unlink()


def _is_mine(status: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and status.st_uid == os.geteuid()

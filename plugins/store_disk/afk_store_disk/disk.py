"""What a row of the database may hold: JSON text, and nothing else."""

from __future__ import annotations

from typing import Any

import diskcache
from diskcache.core import MODE_RAW, UNKNOWN

from afkcli.plugin import StoreError


class JsonTextDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores text as it is, in the row itself, and refuses every other form that diskcache knows.

    diskcache unpickles what it finds in a row or in a file beside the database, so anyone who can write there could run
    code in afk (CVE-2025-69872). Here nothing is unpickled and no file beside the database is read, written or removed.
    """

    def put(self, key: object) -> tuple[str, bool]:
        """Return the database's form of `key`, which is text."""
        return _only_text(key), True

    def get(self, key: object, raw: object) -> str:
        """Return the key of a row."""
        if not raw:
            raise StoreError("the key is not text but a pickled object, which afk never reads")
        return _only_text(key)

    def store(self, value: object, read: bool, key: object = UNKNOWN) -> tuple[int, int, None, str]:
        """Return the columns size, mode, filename and value for `value`, which is JSON text."""
        if read:
            raise StoreError(f"the row {key!r} cannot be stored in a file of its own")
        return 0, MODE_RAW, None, _only_text(value)

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> str:
        """Return the text of a row.

        Raises:
            StoreError: the row is of another form, so it was not written by afk or is damaged.
        """
        if read or filename is not None:
            raise StoreError(f"it points to a file ({filename!r}), which afk never reads")
        if mode != MODE_RAW:
            raise StoreError(f"it is of diskcache's mode {mode!r} (pickle or file), which afk never reads")
        return _only_text(value)

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> Any:
        """Refuse: there are no files beside the database."""
        raise StoreError(f"the row {key!r} cannot be stored in a file of its own")

    def remove(self, file_path: str) -> None:
        """Remove nothing: a planted row could name any file."""


def _only_text(value: object) -> str:
    if type(value) is not str:
        raise StoreError(f"it is not text but {type(value).__name__}")
    return value

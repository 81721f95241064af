"""Creates the database by diskcache, whose table it is, and says what its rows may hold: JSON text alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import UNKNOWN

from afk_store_disk.cache import CONTENTS_TABLE, SCHEMA_VERSION
from afk_store_disk.problems import BUSY_SECONDS
from afk_store_disk.rows import MODE_RAW, only_text, row_text
from afkcli.plugin import StoreError

SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "disk_min_file_size": 2**62,
    "sqlite_auto_vacuum": 0,
    "sqlite_mmap_size": 0,  # a mapped file that is cut short kills the process with SIGBUS
    "sqlite_journal_mode": "wal",
    "sqlite_synchronous": 2,
}
"""diskcache's settings: nothing is ever evicted or put in side files, and all is durable unless said otherwise."""


class JsonTextDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores text as it is, in the row itself, and refuses every other form that diskcache knows.

    diskcache unpickles what it finds in a row or in a file beside the database, so anyone who can write there could run
    code in afk (CVE-2025-69872). Here nothing is unpickled and no file beside the database is read, written or removed.
    """

    def put(self, key: object) -> tuple[str, bool]:
        """Return the database's form of `key`, which is text."""
        return only_text(key), True

    def get(self, key: object, raw: object) -> str:
        """Return the key of a row."""
        if not raw:
            raise StoreError("the key is not text but a pickled object, which afk never reads")
        return only_text(key)

    def store(self, value: object, read: bool, key: object = UNKNOWN) -> tuple[int, int, None, str]:
        """Return the columns size, mode, filename and value for `value`, which is JSON text."""
        if read:
            raise StoreError(f"the row {key!r} cannot be stored in a file of its own")
        return 0, MODE_RAW, None, only_text(value)

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> str:
        """Return the text of a row.

        Raises:
            StoreError: the row is of another form, so it was not written by afk or is damaged.
        """
        if read:
            raise StoreError("it is not read from a file, which afk never does")
        return row_text(mode, filename, value)

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> Any:
        """Refuse: there are no files beside the database."""
        raise StoreError(f"the row {key!r} cannot be stored in a file of its own")

    def remove(self, file_path: str) -> None:
        """Remove nothing: a planted row could name any file."""


class NewCache(diskcache.Cache):  # type: ignore[misc]
    """Creates a database in `file`, which is empty, with diskcache's own schema; used once and closed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        super().__init__(str(file.parent), timeout=BUSY_SECONDS, disk=JsonTextDisk, **SETTINGS)
        self._con.execute(CONTENTS_TABLE)
        self._con.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @property
    def _con(self) -> Any:
        if getattr(self._local, "con", None) is None:
            self._local.con = sqlite3.connect(self.file, timeout=BUSY_SECONDS, isolation_level=None)
        return self._local.con

"""Brings a database of an older schema to this one: a backup beside it first, then all of it in one transaction."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from afk_store_disk import cache
from afk_store_disk.problems import BUSY_SECONDS
from afkcli.plugin import private_file, sync_folder

Migration = Callable[[sqlite3.Connection], None]


def _add_contents(con: sqlite3.Connection) -> None:
    con.execute(cache.CONTENTS_TABLE)


MIGRATIONS: dict[int, Migration] = {1: _add_contents}
"""What changes the rows of a version to those of the next one; called inside the transaction, which it leaves open."""


def migrate(file: Path) -> None:
    """Bring the database to `cache.SCHEMA_VERSION`, unless another process just did.

    The backup is `threads.v<version>.db`, readable by the user alone. A run that has the database open with older code
    finds the new version with its next transaction, and writes nothing more.
    """
    with closing(cache.connect(file, "mode=rw", BUSY_SECONDS)) as con:
        con.execute("PRAGMA synchronous = FULL")
        con.execute("BEGIN IMMEDIATE")
        version = cache.version_of(con)
        if version >= cache.SCHEMA_VERSION:
            return
        backup = file.with_name(f"{file.stem}.v{version}{file.suffix}")
        _copy(file, backup)
        for step in range(version, cache.SCHEMA_VERSION):
            MIGRATIONS[step](con)
        con.execute(f"PRAGMA user_version = {cache.SCHEMA_VERSION}")
        con.execute("COMMIT")
    logging.getLogger("afkcli").warning(
        "%s was brought from schema version %d to %d; as it was before, it is in %s",
        file,
        version,
        cache.SCHEMA_VERSION,
        backup,
    )


def _copy(file: Path, backup: Path) -> None:
    """Copy a database that is locked for writing, so that the copy survives power loss or does not exist."""
    new = backup.with_suffix(".new")
    descriptor = private_file(new)
    try:
        with closing(cache.connect(file, "mode=rw", BUSY_SECONDS)) as source, closing(sqlite3.connect(new)) as target:
            source.backup(target)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(backup)
    sync_folder(backup.parent)

"""Files beside the database that are made from it, follow it, and are made again whenever they are lost or wrong.

The database holds one row `changed/<number>/<key>` a thread, with a number that grows with every change. A file that
follows it keeps the number up to which it knows each thread in a table `thread (key, number)`. So it reads the rows
behind the last one that it knows, and these threads. Then it compares how many rows there are, the sum of their numbers
and the last one; where they differ (a thread was deleted, the file is damaged or of another database) it compares all
rows.

The sums cost what there is of threads. So a file that has a table `seen` keeps what the files of the database looked
like when both agreed, and how many rows there were: while these look the same, nothing has changed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from afk_store_disk import rows
from afk_store_disk.cache import Changes, ThreadCache
from afkcli.plugin import FrozenStruct, private_file

T = TypeVar("T")

MEMORY = ":memory:"
SEEN_TABLE = "CREATE TABLE seen (files TEXT, threads INTEGER, last TEXT)"

_NOT_DAMAGE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)


class FollowingFile:
    """One such file.

    Args:
        file: it is created where it is missing, and thrown away where it is damaged.
        version: the version of its tables; a file of another version is thrown away.
        make_tables: makes the tables in an empty file, inside a transaction.
    """

    def __init__(self, file: Path, version: int, make_tables: Callable[[sqlite3.Connection], None]) -> None:
        self._file = file
        self._version = version
        self._make_tables = make_tables

    def use(self, call: Callable[[sqlite3.Connection], T], seconds: float) -> T:
        """Return what `call` returns for an open connection.

        If the file turns out to be damaged, `call` is called once more with a new one. Where the file cannot be used,
        it is called with an empty database in memory.

        Args:
            call: what to do with it.
            seconds: how long to wait while other processes write to the file.
        """
        for _ in range(2):
            try:
                return self._use(str(self._created()), call, seconds)
            except (sqlite3.Error, OSError, ValueError, TypeError) as error:  # damage gives values of any type
                if not _is_damage(error) or not self.remove():
                    break
        return self._use(MEMORY, call, seconds)

    def use_once(self, call: Callable[[sqlite3.Connection], T], seconds: float) -> T:
        """Return what `call` returns for an open connection to the file; nothing is repaired.

        Raises:
            sqlite3.Error, OSError: the file cannot be used within `seconds`.
        """
        return self._use(str(self._created()), call, seconds)

    def remove(self) -> bool:
        """Remove the file, so that it is made again, and return whether it could be removed."""
        try:
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{self._file}{suffix}").unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _created(self) -> Path:
        if not self._file.exists():
            os.close(private_file(self._file))
        return self._file

    def _use(self, path: str, call: Callable[[sqlite3.Connection], T], seconds: float) -> T:
        with closing(sqlite3.connect(path, timeout=seconds, isolation_level=None)) as con:
            con.text_factory = partial(str, encoding="utf-8", errors="replace")
            con.execute("PRAGMA synchronous = OFF")  # what a power loss breaks is made again
            con.execute("PRAGMA trusted_schema = OFF")
            con.execute("PRAGMA secure_delete = ON")  # what is deleted is not in the file any more
            if _version_of(con) == 0:
                with transaction(con):
                    if _version_of(con) == 0:  # no other process was first
                        self._make_tables(con)
                        con.execute(f"PRAGMA user_version = {self._version}")
            if _version_of(con) != self._version:
                raise _wrong_version()
            return call(con)


def _version_of(con: sqlite3.Connection) -> int:
    ((version,),) = con.execute("PRAGMA user_version").fetchall()
    return int(version)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, (ValueError, TypeError)):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
    return code not in _NOT_DAMAGE


def _wrong_version() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the index is of another version")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


@contextmanager
def transaction(con: sqlite3.Connection) -> Iterator[None]:
    """Make what is written inside one transaction."""
    con.execute("BEGIN IMMEDIATE")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise


class Difference(FrozenStruct):
    """What changed in the database: the keys of threads that are gone, and those of changed ones with their numbers."""

    gone: frozenset[str]
    changed: Mapping[str, int]


NO_DIFFERENCE = Difference(frozenset(), {})


def difference(con: sqlite3.Connection, cache: ThreadCache, *, compare: bool = False) -> Difference:
    """Return what the table `thread` does not know of the database yet.

    Args:
        con: the file that follows.
        cache: the database, in a snapshot.
        compare: whether to compare all rows, though numbers and sums agree.
    """
    there, here = cache.changes(), _changes(con)
    if there == here and not compare:
        return NO_DIFFERENCE
    newer = rows.changed_threads(cache.keys_after(rows.CHANGED, here.last))
    if not compare and _with(con, here, newer) == there:
        return Difference(frozenset(), newer)
    now = rows.changed_threads(cache.keys(rows.CHANGED))
    known = dict(con.execute("SELECT key, number FROM thread"))
    changed = {key: number for key, number in now.items() if known.get(key) != number}
    return Difference(frozenset(known.keys() - now.keys()), changed)


def is_unchanged(con: sqlite3.Connection, files: str) -> bool:
    """Return whether the database is known to be as the table `thread` has it, without a look at its rows.

    Args:
        con: a file that has the table `seen`.
        files: what the files of the database look like, see `ThreadCache.files`.
    """
    seen = con.execute("SELECT threads, last FROM seen WHERE files = ?", (files,)).fetchone()
    return seen is not None and seen == (_count(con), _last_known(con))


def keep_seen(con: sqlite3.Connection, files: str, seconds: float) -> None:
    """Keep that the database is as the table `thread` has it; if others write to the file just now, not this time.

    Args:
        con: a file that has the table `seen`, which keeps waiting `seconds` for others with its next statements.
        files: what the files of the database look like.
        seconds: how long it waits.
    """
    con.execute("PRAGMA busy_timeout = 0")
    try:
        with transaction(con):
            put_seen(con, files)
    except sqlite3.Error as error:
        if _is_damage(error):
            raise
    con.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def put_seen(con: sqlite3.Connection, files: str) -> None:
    """Keep that the database is as the table `thread` has it, inside a transaction; `files` as of `is_unchanged`."""
    con.execute("DELETE FROM seen")
    con.execute("INSERT INTO seen VALUES (?, ?, ?)", (files, _count(con), _last_known(con)))


def data_version(con: sqlite3.Connection) -> int:
    """Return a number that is another one once another connection has changed the file."""
    ((version,),) = con.execute("PRAGMA data_version").fetchall()
    return int(version)


def newer_threads(con: sqlite3.Connection, cache: ThreadCache, most: int) -> dict[str, int]:
    """Return up to `most` threads with a number behind the last one that is known, the least number first."""
    return rows.changed_threads(islice(cache.keys_after(rows.CHANGED, _last_known(con)), most))


def _changes(con: sqlite3.Connection) -> Changes:
    ((count, total),) = con.execute("SELECT count(*), total(number) FROM thread").fetchall()
    return Changes(count, total, _last_known(con))


def _count(con: sqlite3.Connection) -> int:
    ((count,),) = con.execute("SELECT count(*) FROM thread").fetchall()  # by itself: SQLite counts pages then
    return int(count)


def _last_known(con: sqlite3.Connection) -> str:
    last = con.execute("SELECT number, key FROM thread ORDER BY number DESC, key DESC LIMIT 1").fetchone()
    return rows.changed_key(*last) if last is not None else ""


def _with(con: sqlite3.Connection, here: Changes, newer: Mapping[str, int]) -> Changes:
    """Return the sums as they are when `newer` is known too."""
    count, total, last = here.threads, here.total, here.last
    for key, number in newer.items():
        known = con.execute("SELECT number FROM thread WHERE key = ?", (key,)).fetchone()
        count, total = count + (known is None), total + number - (known[0] if known is not None else 0)
        last = max(last, rows.changed_key(number, key))
    return Changes(count, total, last)


def checked_text(value: object) -> str:
    """Return a value of such a file that has to be text; `TypeError` if it is something else, which is damage."""
    if type(value) is not str:
        raise TypeError("the index has a value that is not text")
    return value

"""The database: the rows of a diskcache `Cache`, read and written by statements of ours."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from afk_store_disk.problems import BUSY_SECONDS, INDEX_DAMAGED, damaged, is_locked, is_too_large, spoils_a_row
from afk_store_disk.rows import CHANGED, LargeText, all_under, row_text
from afk_store_disk.write_lock import QUEUE, SHORT_SECONDS, Connection, WriteLock, wait_at_most
from afkcli.plugin import MAX_LINE_BYTES, FrozenStruct, StoreError, while_waiting

SCHEMA_VERSION = 2
"""The layout of the rows, kept in the database's header (`PRAGMA user_version`); see rows.py."""

CONTENTS_TABLE = "CREATE TABLE Content (thread TEXT, sha256 TEXT, data BLOB, PRIMARY KEY (thread, sha256))"
"""The contents of attachments: bytes, which the rows of diskcache do not hold; see disk.py. Since version 2."""

LOG_BYTES = 8 * 1024 * 1024
"""The size that the log has at rest; a greater one is moved to the database by the next durable transaction."""

MOVE_SECONDS = 3.0
"""How often the log is moved to the database, by one of all processes, if nothing durable was written."""

BUSY_MOVE_SECONDS = 1.0
"""How often it is moved at most where several turns write: it costs two syncs, for which the other turns wait."""

_EACH_CONNECTION = (
    "PRAGMA mmap_size = 0",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    f"PRAGMA journal_size_limit = {LOG_BYTES}",
    # What is durable is synced after the transaction, without the lock; see `transaction`. A checkpoint syncs, too.
    f"PRAGMA synchronous = {'FULL' if sys.platform == 'win32' else 'NORMAL'}",
    "PRAGMA wal_autocheckpoint = 8000",
    *(["PRAGMA fullfsync = ON"] if sys.platform == "darwin" else []),
)
_CANNOT_SHARE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)  # primary codes, the low byte

MOST_ROW_BYTES = MAX_LINE_BYTES + (1 << 20)
"""The largest value that is read or written: a record, its body at most `MAX_LINE_BYTES`, and what the row says of it.
SQLite refuses a larger one before it takes memory for it."""
HEAD_BYTES = 4096
"""How much of a larger one is read: the line about the record."""

_ROW = "SELECT mode, filename, value FROM Cache WHERE raw = 1 AND key = ?"
_ROWS = "SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND key IN ({keys})"
_RANGE = "SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND key >= ? AND key < ? ORDER BY key"
_SCAN = _RANGE.replace("Cache", "Cache NOT INDEXED")
_PLACES = "SELECT key, rowid FROM Cache WHERE raw = 1 AND key >= ? AND key < ? ORDER BY key"
_PLACE = "SELECT key, mode, filename, value FROM Cache WHERE rowid = ?"
_KEYS = "SELECT key FROM Cache WHERE raw = 1 AND key >= ? AND key < ? ORDER BY key"
_LAST_KEY = f"{_KEYS} DESC LIMIT 1"
SETTLED_SECONDS = 3.0
"""How old the last write has to be for `ThreadCache.files`: the coarsest clock of a file system, of FAT, has 2 s."""
_CHANGES = (  # the key is `changed/`, 16 digits, and more; see rows.py
    "SELECT count(*), total(CAST(substr(key, 9, 16) AS INTEGER)) FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"
)
_PUT_CONTENT = (  # what is there already, as with the seal of a turn, is compared and not written again
    "INSERT INTO Content (thread, sha256, data) VALUES (?, ?, ?) "
    "ON CONFLICT (thread, sha256) DO UPDATE SET data = excluded.data WHERE data IS NOT excluded.data"
)
_DELETE = "DELETE FROM Cache WHERE rowid IN ({found}) AND ({same})"
_IN_RANGE = "SELECT rowid FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"
_DELETE_KEYS = (
    "DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache WHERE raw = 1 AND key IN ({keys})) AND +key IN ({keys})"
)
_SAME_RANGE = "+key >= ? AND +key < ?"  # a damaged index may lead to another row, so this is the key in the table ("+")
_INSERT = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value)"
    " VALUES {rows} ON CONFLICT (key, raw) "
)
_NEW_ROW = "(?, 1, ?, NULL, ?, 0, NULL, 0, 1, NULL, ?)"
_PUT = _INSERT + (
    "DO UPDATE SET store_time = excluded.store_time, expire_time = NULL, access_time = excluded.access_time, "
    "access_count = 0, tag = NULL, size = 0, mode = 1, filename = NULL, value = excluded.value "
    "WHERE +Cache.key = excluded.key"
)
_PUT_NEW = _INSERT + "DO NOTHING"
_ROWS_AT_ONCE = 50
_KEYS_AT_ONCE = 400
_CHARS_AT_ONCE = 1 << 20
_BY_INDEX = (
    "SELECT named.rowid, found.key FROM Cache AS named LEFT JOIN Cache AS found ON found.rowid = named.rowid"
    " WHERE named.raw = 1 AND named.key = ?"
)
_BY_TABLE = "SELECT rowid, key FROM Cache NOT INDEXED WHERE key = ?"


class Changes(FrozenStruct):
    """The rows under `changed/`: how many there are, the sum of their numbers, and the greatest key ("" for none)."""

    threads: int
    total: float
    last: str


class ThreadCache:
    """An existing database of afk's.

    diskcache makes it (disk.py) and can read it. It is not used here: its import takes 25 ms, it writes all settings
    again whenever it opens a database, and it needs two statements for a row. Text comes out with damaged bytes
    replaced, so that damage is found by its checksum and not by a crash.

    Raises:
        StoreError: the database has a newer schema, or is not afk's.
    """

    def __init__(self, file: Path, lock: WriteLock) -> None:
        self.file = file
        self.lock = lock
        self._timeout = min(BUSY_SECONDS, lock.timeout)
        self._local = threading.local()
        self._log = file.with_name(f"{file.name}-wal")
        self._queue = file.with_name(QUEUE)
        self._durable_at = self._moved = 0.0
        self.to_move = False  # whether something durable may be in the log alone
        self._con  # noqa: B018 - opens the database, so that what is wrong with it is said now

    @property
    def _con(self) -> Connection:
        """The connection of this thread in this process; one that came through a fork is left alone."""
        con: Connection | None = getattr(self._local, "con", None)
        if con is None or self._local.pid != os.getpid():
            self._local.inherited = con
            self._local.con = con = self._connect()
            self._local.pid = os.getpid()
            self._local.place = self._place()
            self._local.has_log = None
        return con

    def _connect(self) -> Connection:
        try:
            return self._open("mode=rw")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _CANNOT_SHARE or not self._is_at_rest():
                raise
        return self._open("mode=ro&immutable=1")  # a folder that cannot be written can still be read

    def _keep_log(self, con: Connection) -> None:
        """Have the database keep a log, if it does not: a copy by VACUUM INTO does not, and other programs end it.

        While another process uses it without a log, that cannot be changed, and SQLite syncs the database itself.
        """
        wait_at_most(con, SHORT_SECONDS)
        try:
            ((mode,),) = con.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return
        self._local.has_log = mode == "wal"

    def _place(self) -> tuple[int, int] | None:
        """Return which file is at the path of the database now, None if there is none."""
        try:
            found = os.stat(self.file)  # noqa: PTH116 - once in each transaction
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """Raise `StoreError` if the database was deleted or replaced: what is written to the open file would be lost.

        SQLite does not notice, as it writes to the file that it has opened.
        """
        if self._place() != self._local.place:
            raise StoreError(
                f"{self.file} was deleted or replaced while afk had it open, so nothing was written; "
                "put it back, or start afk again"
            )

    def _is_at_rest(self) -> bool:
        """Return whether all of the database is in its one file, so that it can be read without shared memory."""
        return self.file.is_file() and not (self._log.exists() and self._log.stat().st_size)

    def _open(self, how: str) -> Connection:
        con = connect(self.file, how, self._timeout)
        try:
            con.text_factory = partial(str, encoding="utf-8", errors="replace")
            con.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)
            for pragma in _EACH_CONNECTION:
                con.execute(pragma)
            check_version(con, self.file)
        except BaseException:
            con.close()
            raise
        return con

    @property
    def has_written(self) -> bool:
        """Whether this process has written something durable."""
        return self._durable_at > 0.0

    @contextmanager
    def transaction(
        self, *, durable: bool, at_once: bool = False, keep: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Make what is written inside one transaction; with `durable` it survives power loss once this returns.

        The log is synced when the lock is free again, so that the others wait for no disk. They may see a transaction
        before it is durable; what they make durable after it makes it durable, too.

        Args:
            durable: whether it has to survive power loss.
            at_once, keep: as in `WriteLock.take`.
        """
        con = self._con
        if self._local.has_log is None:
            self._keep_log(con)
        place = self.lock.take(con, at_once=at_once, keep=keep)
        try:
            check_version(con, self.file)  # it may have been brought to a newer one since it was opened
            self._check_place()
            yield
            con.execute("COMMIT")
        except BaseException:
            if con.in_transaction:
                con.execute("ROLLBACK")
            raise
        finally:
            place.leave()
        if durable:
            self.to_move, self._durable_at = True, time.time()
            self._sync_log()

    def _sync_log(self) -> None:
        """Have all of the log survive power loss, as SQLite does it at `synchronous = FULL`."""
        if sys.platform == "win32":
            return  # SQLite has done it
        with suppress(StoreError):  # who wanted this may have given up, but it is written
            while_waiting()  # the lock is free
        if self._local.has_log is None and not self._log.exists():
            return
        descriptor = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)  # no lock of SQLite's is on this file
        try:
            sync(descriptor)
            grown = os.fstat(descriptor).st_size > LOG_BYTES
        finally:
            os.close(descriptor)
        if grown:
            self._checkpoint()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Make what is written inside all or nothing, within a transaction that continues either way."""
        con = self._con
        con.execute("SAVEPOINT operation")
        try:
            yield
        except BaseException:
            if con.in_transaction:  # some failures have rolled all of it back already
                con.execute("ROLLBACK TO operation")
                con.execute("RELEASE operation")
            raise
        con.execute("RELEASE operation")

    def move_log(self, *, at_most_every: float = 0.0) -> None:
        """Copy what is in the log to the database: after this process wrote something durable, else every 3 s.

        What another process has copied meanwhile counts. The next write begins the log anew. Damage of the log then
        takes nothing of it, and no older page in the log can cover a newer one. It waits for no lock; if it fails, the
        log keeps what it has.

        Args:
            at_most_every: seconds that have to have passed since the last time.
        """
        moved, now = self._last_move(), time.time()
        if self._durable_at < moved <= now:
            self.to_move = False
        if not 0 <= now - moved < (at_most_every if self.to_move else MOVE_SECONDS):
            self._checkpoint()

    def _last_move(self) -> float:
        try:
            return self._queue.stat().st_mtime
        except OSError:
            return self._moved

    def _checkpoint(self) -> None:
        self._moved = time.time()
        with suppress(OSError):
            os.utime(self._queue)
        with suppress(sqlite3.Error):
            ((busy, _, _),) = self._con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self.to_move = bool(busy)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make what is read inside one moment's state."""
        con = self._con
        self._local.began = time.time()
        con.execute("BEGIN")
        try:
            yield
        finally:
            if con.in_transaction:
                con.execute("ROLLBACK")

    def files(self) -> tuple[str, bool]:
        """Return a text that tells the state of the database's files, and whether any later write changes it.

        A write changes the times of a file, but two writes within one tick of the clock of a file system leave the
        same times. So the text is sure only where the last write was a while before the snapshot began in which this
        is called.
        """
        found, newest = [], 0.0
        for file in (self._log, self.file):  # in this order: what leaves the log changes the database after that
            try:
                status = file.stat()
            except FileNotFoundError:
                continue
            if file is self.file or status.st_size:  # each process that reads makes an empty log
                about = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                found.append(":".join(map(str, about)))
                newest = max(newest, status.st_mtime, status.st_ctime)
        return " ".join(found), newest + SETTLED_SECONDS <= self._local.began

    def text(self, key: str) -> str | None:
        """Return the text of the row `key`, or None where there is none; `StoreError` if it is not text of ours."""
        row = self._con.execute(_ROW, (key,)).fetchone()
        return None if row is None else self._fetch(key, *row)

    def text_if_sound(self, key: str) -> tuple[str | None, bool]:
        """Return the text of the row `key`, None if it is not ours, and whether there is such a row."""
        try:
            row = self._con.execute(_ROW, (key,)).fetchone()
        except sqlite3.Error as error:
            if not is_too_large(error):
                raise
            return None, True
        return (self._fetch_if_sound(key, *row), True) if row is not None else (None, False)

    def texts(
        self, start: str, end: str, *, limit: int = -1, reverse: bool = False
    ) -> Iterator[tuple[str, str | None]]:
        """Yield key and text of the rows from `start` to before `end`; the text of a row that is not ours is None."""
        order = " DESC" if reverse else ""
        done = 0
        try:
            for key, *row in self._con.execute(f"{_RANGE}{order} LIMIT ?", (start, end, limit)):
                done += 1
                yield str(key), self._fetch_if_sound(key, *row)  # of a damaged row it may be a number
        except sqlite3.Error as error:
            if not spoils_a_row(error):
                raise
            places = self._con.execute(f"{_PLACES}{order} LIMIT ? OFFSET ?", (start, end, limit, done)).fetchall()
            yield from self._one_by_one(places)

    def texts_of(self, keys: Collection[str]) -> Iterator[tuple[str, str | None]]:
        """Yield key and text of the rows with these keys, in no order; the text of a row that is not ours is None."""
        for group in _split(keys):
            marks = ", ".join("?" * len(group))
            for key, *row in self._con.execute(_ROWS.format(keys=marks), group).fetchall():
                yield str(key), self._fetch_if_sound(key, *row)

    def neighbours(self, first: str, last: str) -> dict[str, str | None]:
        """Return the texts of the rows from `first` to `last`, which are few, by one statement."""
        return dict(self.texts(first, f"{last}\0"))

    def scanned_texts(self, start: str, end: str) -> Iterator[tuple[str, str | None]]:
        """Yield the same by reading the whole table: slow, but it also finds rows that a damaged index hides."""
        done = 0
        try:
            for key, *row in self._con.execute(_SCAN, (start, end)):
                done += 1
                yield str(key), self._fetch_if_sound(key, *row)  # of a damaged row it may be a number
        except sqlite3.Error as error:
            if not spoils_a_row(error):
                raise
            places = self._con.execute(_PLACES.replace("Cache", "Cache NOT INDEXED"), (start, end)).fetchall()
            yield from self._one_by_one(places[done:])

    def _one_by_one(self, places: list[tuple[str, int]]) -> Iterator[tuple[str, str | None]]:
        """Yield the same row by row, so that one that cannot be read does not take its neighbours with it."""
        for key, place in places:
            try:
                found = self._con.execute(_PLACE, (place,)).fetchone()
                # a damaged index may name a row that is not there
                yield str(key), self._fetch_if_sound(key, *found[1:]) if found is not None else None
            except sqlite3.Error as error:
                if not spoils_a_row(error):
                    raise
                yield str(key), self._head(place) if is_too_large(error) else None

    def _head(self, place: int) -> LargeText | None:
        """Return the beginning of a row that is too large to be read, None if that cannot be read either."""
        try:
            with self._con.blobopen("Cache", "value", place, readonly=True) as blob:
                return LargeText(blob.read(HEAD_BYTES).decode("utf-8", "replace"), len(blob))
        except sqlite3.Error:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix` and a slash, in order; the index alone is read."""
        for (key,) in self._con.execute(_KEYS, all_under(prefix)):
            yield key

    def keys_after(self, prefix: str, last: str) -> Iterator[str]:
        """Yield the keys that start with `prefix` and a slash and are greater than `last`, in order."""
        start, end = all_under(prefix)
        for (key,) in self._con.execute(_KEYS, (max(start, f"{last}\0"), end)):
            yield key

    def changes(self) -> Changes:
        """Return what is under `changed/`, from the index alone."""
        count, total = self._con.execute(_CHANGES, all_under(CHANGED)).fetchone()
        return Changes(count, total, self.last_key(CHANGED))  # max(key) would compare all of the keys

    def last_key(self, prefix: str) -> str:
        """Return the greatest key that starts with `prefix` and a slash, "" if there is none."""
        row = self._con.execute(_LAST_KEY, all_under(prefix)).fetchone()
        return row[0] if row is not None else ""

    def put(self, key: str, text: str) -> None:
        """Write the row `key`; `StoreError` if a damaged index leads to another row, which would be overwritten."""
        self.put_all({key: text})

    def put_all(self, texts: Mapping[str, str]) -> None:
        """Write rows by their keys, in one statement; raises as `put`."""
        if self._insert(_PUT, texts.items()):
            raise damaged(self.file, INDEX_DAMAGED)

    def put_new(self, texts: Iterable[tuple[str, str]]) -> None:
        """Write rows that are not there yet; `StoreError` if one is, which only damage can explain.

        The texts are taken as they are written, so that not all of them need be in memory.
        """
        refused = self._insert(_PUT_NEW, texts)
        if refused:
            raise damaged(self.file, f"it has a row {' or '.join(refused)} already")

    def write(self, texts: Mapping[str, str], *, new: bool) -> bool:
        """Write rows as `put_new` or `put_all` does, by as few statements; return whether all were written."""
        return not self._insert(_PUT_NEW if new else _PUT, texts.items(), most=_KEYS_AT_ONCE // 2)

    def _insert(self, statement: str, texts: Iterable[tuple[str, str]], most: int = _ROWS_AT_ONCE) -> list[str]:
        """Write rows, and return the keys of the first statement that did not write all of its rows."""
        now = time.time()
        for group in _groups(texts, most):
            values = [value for key, text in group for value in (key, now, now, text)]
            rows = ", ".join([_NEW_ROW] * len(group))
            if self._con.execute(statement.format(rows=rows), values).rowcount != len(group):
                return [key for key, _ in group]
        return []

    def is_shown_by_index(self, key: str) -> bool:
        """Return whether the index of keys leads to the rows that the table has for `key`, and to no others.

        The whole table is read, though not the values.
        """
        by_index = self._con.execute(_BY_INDEX, (key,)).fetchall()
        by_table = self._con.execute(_BY_TABLE, (key,)).fetchall()
        return len(by_table) <= 1 and by_index == by_table

    def put_contents(self, thread: str, contents: Mapping[str, bytes]) -> None:
        """Keep contents of a thread, by their hash."""
        for sha256, data in contents.items():
            self._con.execute(_PUT_CONTENT, (thread, sha256, data))

    def content(self, thread: str, sha256: str) -> bytes | None:
        """Return one content of a thread, or None if there is none; b"" for a value that is not bytes."""
        found = self._con.execute("SELECT data FROM Content WHERE thread = ? AND sha256 = ?", (thread, sha256))
        row = found.fetchone()
        if row is None:
            return None
        return row[0] if isinstance(row[0], bytes) else b""

    def sizes_of_contents(self) -> dict[str, tuple[int, int]]:
        """Return how many contents each thread has, by its key, and their bytes."""
        found = self._con.execute("SELECT thread, count(*), total(length(data)) FROM Content GROUP BY thread")
        return {str(thread): (count, int(size)) for thread, count, size in found}

    def drop_contents(self, thread: str) -> None:
        """Delete all contents of a thread."""
        self._con.execute("DELETE FROM Content WHERE thread = ?", (thread,))

    def drop(self, *ranges: tuple[str, str]) -> None:
        """Delete the rows of each range, from its start to before its end, in one statement."""
        for start in range(0, len(ranges), _ROWS_AT_ONCE):
            group = ranges[start : start + _ROWS_AT_ONCE]
            found = " UNION ALL ".join([_IN_RANGE] * len(group))
            same = " OR ".join([_SAME_RANGE] * len(group))
            values = [end for between in group for end in between]
            self._con.execute(_DELETE.format(found=found, same=same), values * 2)

    def drop_rows(self, *keys: str) -> None:
        """Delete the rows with these keys, as far as they are there."""
        self.drop(*((key, f"{key}\0") for key in keys))

    def drop_exact(self, keys: Collection[str]) -> None:
        """As `drop_rows`, for many keys."""
        for group in _split(keys):
            self._con.execute(_DELETE_KEYS.format(keys=", ".join("?" * len(group))), group * 2)

    def close(self) -> None:
        """Close the connection of this thread."""
        con: sqlite3.Connection | None = getattr(self._local, "con", None)
        if con is not None:
            con.close()
            del self._local.con

    def _fetch_if_sound(self, key: str, mode: object, filename: object, value: object) -> str | None:
        try:
            return self._fetch(key, mode, filename, value)
        except StoreError:
            return None

    def _fetch(self, key: str, mode: object, filename: object, value: object) -> str:
        try:
            return row_text(mode, filename, value)
        except StoreError as error:
            raise StoreError(f"the row {key!r} of {self.file} is refused: {error}") from None


def _split(keys: Collection[str]) -> Iterator[list[str]]:
    """Yield keys in groups for one statement each."""
    left = list(keys)
    while left:
        yield left[:_KEYS_AT_ONCE]
        left = left[_KEYS_AT_ONCE:]


def _groups(texts: Iterable[tuple[str, str]], most: int) -> Iterator[list[tuple[str, str]]]:
    """Yield rows in groups of at most `most` for one statement each, which SQLite copies: few where they are large."""
    group: list[tuple[str, str]] = []
    size = 0
    for key, text in texts:
        if group and (len(group) == most or size + len(text) > _CHARS_AT_ONCE):
            yield group
            group, size = [], 0
        group.append((key, text))
        size += len(text)
    if group:
        yield group


if sys.platform == "darwin":

    def sync(descriptor: int) -> None:
        """Sync a file; fsync alone leaves it in the cache of the disk there."""
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
else:

    def sync(descriptor: int) -> None:
        """Sync the content of a file."""
        os.fdatasync(descriptor) if sys.platform == "linux" else os.fsync(descriptor)


class OlderSchemaError(StoreError):
    """The database has an older schema and has to be migrated."""


def connect(file: Path, how: str, timeout: float) -> Connection:
    """Open the database `file` with the parameters `how` of an SQLite URI; it has to be there."""
    return sqlite3.connect(
        f"{file.as_uri()}?{how}", uri=True, timeout=timeout, isolation_level=None, factory=Connection
    )


def version_of(con: sqlite3.Connection) -> int:
    """Return the schema version of a database."""
    ((version,),) = con.execute("PRAGMA user_version").fetchall()
    return int(version)


def check_version(con: sqlite3.Connection, file: Path) -> None:
    """Raise `StoreError` if the database has not the schema that this code knows."""
    version = version_of(con)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{file} has the schema version {version}, and this afk knows versions up to {SCHEMA_VERSION}: "
            "upgrade afk (the file was not changed)"
        )
    if version < 1:
        raise StoreError(f"{file} is empty, damaged or not afk's; restore it from a backup or move it away")
    if version < SCHEMA_VERSION:
        raise OlderSchemaError(f"{file} has the older schema version {version}")

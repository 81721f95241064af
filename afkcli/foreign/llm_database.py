"""Reads `llm`'s logs database (`llm logs path`): opened for reading only, also while `llm` writes to it.

Its older tables are `conversations` and `responses`; since 0.32 there are `threads`, `turns` and `messages` besides,
and an upgraded database has both. Columns came over time, so that those that are missing are read as NULL
(https://llm.datasette.io/en/stable/logging.html#sql-schema).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.core.contract.text import collapsed
from afkcli.foreign.conversation import ForeignError, time_of

MAGIC = b"SQLite format 3\0"
"""How every SQLite database begins (https://www.sqlite.org/fileformat.html)."""
OLDER = frozenset({"conversations", "responses"})
NEWER = frozenset({"threads", "turns", "messages", "parts"})
BUSY_SECONDS = 5.0
_CROCKFORD = {char: value for value, char in enumerate("0123456789abcdefghjkmnpqrstvwxyz")}

_NO_INDEX = frozenset(
    {
        ("responses", "conversation_id"),
        ("tool_calls", "response_id"),
        ("tool_results", "response_id"),
        ("turns", "tip_message_hash"),
    }
)
"""What is looked up and has no index in the database: a table is read once for it, not once for each conversation."""

Row = dict[str, object]


class LlmDatabase:
    """One open database.

    Args:
        connection: to it.

    Raises:
        ForeignError: it is not one of `llm`'s.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        # A view or a virtual table could run for as long as its author wants.
        self._tables = {name for name, sql in found if str(sql).upper().startswith("CREATE TABLE")}
        self._columns: dict[str, set[str]] = {}
        self._indexes: dict[tuple[str, str], dict[object, list[int]]] = {}
        self._version: object = None
        self.has_older, self.has_newer = self._tables >= OLDER, self._tables >= NEWER
        if not (self.has_older or self.has_newer):
            raise ForeignError(
                "it is a SQLite database, but not llm's: it has no tables conversations and responses, or threads and "
                "turns; a database of an llm before 0.5 is upgraded by `llm logs`"
            )

    def rows(self, table: str, wanted: Sequence[str], by: str = "", value: object = None, order: str = "") -> list[Row]:
        """Return rows of a table in order (that of `order`, else as they were inserted).

        Args:
            table: its name; there may be no such table, which then has no rows.
            wanted: the columns; those that the table does not have are None.
            by, value: a column and the value that it has in the rows; all rows where `by` is empty.
            order: the column to sort by.
        """
        has = self._columns_of(table)
        if not has or (by and by not in has):
            return []
        columns = ", ".join(f'"{name}"' if name in has else f'NULL AS "{name}"' for name in wanted)
        where = f'WHERE "{by}" = ?' if by else ""
        sort = f'"{order}", rowid' if order in has else "rowid"
        values: Iterable[object] = (value,)
        if (table, by) in _NO_INDEX:
            where, values = "WHERE rowid = ?", self._index(table, by).get(value, ())
        # All names are constants of this package or columns that the table has.
        query = f'SELECT {columns} FROM "{table}" {where} ORDER BY {sort}'  # noqa: S608
        found = (row for item in values for row in self._connection.execute(query, (item,) if by else ()))
        return [dict(zip(wanted, row, strict=True)) for row in found]

    def _index(self, table: str, column: str) -> dict[object, list[int]]:
        """Return the rows of a table by the value of a column."""
        index = self._indexes.get((table, column))
        if index is None:
            index = self._indexes[table, column] = {}
            query = f'SELECT "{column}", rowid FROM "{table}" ORDER BY rowid'  # noqa: S608
            for value, row in self._connection.execute(query):
                index.setdefault(value, []).append(row)
        return index

    def _columns_of(self, table: str) -> set[str]:
        if table not in self._tables:
            return set()
        if table not in self._columns:
            self._columns[table] = {str(row[1]) for row in self._connection.execute(f'PRAGMA table_info("{table}")')}
        return self._columns[table]

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Read in one transaction, so that all is of one moment. It is short: in some modes it holds up writers."""
        self._connection.execute("BEGIN")
        try:
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            version = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:  # another process wrote
                self._version = version
                self._indexes.clear()
            yield
        finally:
            self._connection.rollback()


@contextmanager
def open_database(path: str) -> Iterator[LlmDatabase]:
    """Open `llm`'s database for reading.

    Args:
        path: of the file.

    Raises:
        ForeignError: it is no database, not `llm`'s, damaged, or locked.
    """
    connection = None
    try:
        # In a folder that cannot be written, the files beside a database in WAL mode cannot be made; no process writes.
        # What a process has left in the file `-wal` would be missed then.
        for mode in ("mode=ro", "immutable=1") if _size(f"{path}-wal") == 0 else ("mode=ro",):
            connection = _connected(f"file:{quote(path)}?{mode}")
            if connection is not None:
                break
        if connection is None:
            raise ForeignError(
                "the database cannot be opened for reading; copy it, and the files beside it, and import that"
            )
        with closing(connection):
            yield LlmDatabase(connection)
    except sqlite3.Error as error:
        raise ForeignError(f"the database cannot be read: {collapsed(str(error), 200)}") from None


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _connected(uri: str) -> sqlite3.Connection | None:
    """Return a connection that can read; None if the system does not allow it in this way."""
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LINE_BYTES)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return None
        raise
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def ulid_time(id_: str) -> float | None:
    """Return the time in a ULID (https://github.com/ulid/spec), in seconds since the epoch; None if it is not one."""
    if len(id_) != 26 or any(char not in _CROCKFORD for char in id_.lower()):
        return None
    milliseconds = 0
    for char in id_.lower()[:10]:
        milliseconds = milliseconds << 5 | _CROCKFORD[char]
    return milliseconds / 1000 if milliseconds < 1 << 48 else None


def end_of(started: float | None, duration_ms: object) -> float | None:
    """Return when a response ended, by its start and its duration in milliseconds."""
    if started is None or isinstance(duration_ms, bool) or not isinstance(duration_ms, int):
        return started
    return started + min(max(0, duration_ms), 10**9) / 1000


def row_time(row: Row) -> float | None:
    """Return the time of a row, by its `datetime_utc`, else by the ULID that is its id."""
    at = time_of(row.get("datetime_utc"))
    return at if at is not None else ulid_time(str(row.get("id") or ""))

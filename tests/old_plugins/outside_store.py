"""A store in one SQLite database, written for afk 0.1."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from afkcli.core.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.ids import rfc3339, uuid7
from afkcli.core.protocols import (
    KEPT_KINDS,
    LEASE_SECONDS,
    NO_CONTENTS,
    Fork,
    Lease,
    OpenTurn,
    Owner,
    Record,
    RecordKind,
    ThreadInfo,
)
from afkcli.core.result import usage_from_json
from afkcli.owner import proven_dead
from afkcli.paths import data_dir, make_private_folder

from afkcli import hookimpl

AFK_HOOKS = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS threads (key TEXT PRIMARY KEY, name TEXT UNIQUE, used TEXT, info TEXT,
    token TEXT, owner TEXT, expires REAL);
CREATE TABLE IF NOT EXISTS records (key TEXT, idx INTEGER, kind TEXT, turn INTEGER, prev TEXT, body TEXT, hash TEXT,
    PRIMARY KEY (key, idx));
CREATE TABLE IF NOT EXISTS contents (key TEXT, sha256 TEXT, content BLOB, PRIMARY KEY (key, sha256));
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value REAL);
"""


@dataclass
class Settings:
    path: str = ""


def info_from_json(text: str) -> ThreadInfo:
    form = json.loads(text)
    form["usage"] = usage_from_json(form["usage"])
    form["tags"] = tuple(form["tags"])
    form["open_turn"] = OpenTurn(**form["open_turn"]) if form["open_turn"] else None
    form["parent"] = Fork(**form["parent"]) if form["parent"] else None
    return ThreadInfo(**form)


class SqliteStore:
    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    @contextmanager
    def _transaction(self):
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException as error:
                self._db.execute("ROLLBACK")
                if isinstance(error, UnicodeEncodeError):
                    raise StoreError(f"the text cannot be stored: {error}") from None
                raise
            self._db.execute("COMMIT")

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        with self._transaction() as db:
            row = db.execute("SELECT info, token, owner, expires FROM threads WHERE name = ?", (name,)).fetchone()
            if row is None:
                if not create:
                    raise UnknownNameError(f"there is no thread {name!r}")
                if db.execute("SELECT 1 FROM threads WHERE key = ?", (key,)).fetchone():
                    raise StoreError(f"another thread has the key of {name!r}")
                now = rfc3339(time.time())
                info = ThreadInfo(key=key or uuid7(), name=name, created=now, used=now)
                self._insert(info)
            else:
                info = info_from_json(row[0])
                if row[1] and row[3] > time.time() and not proven_dead(Owner(**json.loads(row[2]))):
                    return None
            token, expires = uuid.uuid4().hex, time.time() + LEASE_SECONDS
            db.execute(
                "UPDATE threads SET token = ?, owner = ?, expires = ? WHERE key = ?",
                (token, json.dumps(asdict(owner)), expires, info.key),
            )
            return Lease(token=token, thread=info, expires=expires)

    def _insert(self, info: ThreadInfo) -> None:
        self._db.execute(
            "INSERT INTO threads (key, name, used, info) VALUES (?, ?, ?, ?)",
            (info.key, info.name, info.used, json.dumps(asdict(info))),
        )

    def holder(self, name: str) -> Owner | None:
        row = self._db.execute(
            "SELECT owner FROM threads WHERE name = ? AND token <> '' AND expires > ?", (name, time.time())
        ).fetchone()
        return Owner(**json.loads(row[0])) if row else None

    def renew(self, lease: Lease) -> Lease:
        with self._transaction() as db:
            info, expires = self._held(lease), time.time() + LEASE_SECONDS
            db.execute("UPDATE threads SET expires = ? WHERE key = ?", (expires, info.key))
            return replace(lease, thread=info, expires=expires)

    def release(self, lease: Lease) -> None:
        with self._transaction() as db:
            key = lease.thread.key
            db.execute("UPDATE threads SET token = '', owner = NULL WHERE key = ? AND token = ?", (key, lease.token))
            db.execute("DELETE FROM threads WHERE key = ? AND token = '' AND info LIKE '%\"head\": \"\"%'", (key,))

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        with self._transaction() as db:
            before = self._held(lease)
            if before.head != expected_head:
                raise HeadMismatchError(f"thread {thread.name!r} has changed since it was read")
            for record in records:
                if record.kind is RecordKind.SEAL:
                    dropped = [kind.value for kind in RecordKind if kind not in KEPT_KINDS]
                    db.executemany(
                        "DELETE FROM records WHERE key = ? AND turn = ? AND kind = ?",
                        [(thread.key, record.turn, kind) for kind in dropped],
                    )
                row = (record.index, record.kind.value, record.turn, record.prev, record.body, record.hash)
                db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", (thread.key, *row))
            for sha256, content in contents.items():
                db.execute("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", (thread.key, sha256, content))
            try:
                db.execute(
                    "UPDATE threads SET name = ?, used = ?, info = ? WHERE key = ?",
                    (thread.name, thread.used, json.dumps(asdict(thread)), thread.key),
                )
            except sqlite3.IntegrityError:
                raise NameTakenError(f"there is a thread {thread.name!r} already") from None

    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> list[Record]:
        order = "DESC" if reverse else "ASC"
        rows = self._db.execute(
            f"SELECT idx, kind, turn, prev, body, hash FROM records WHERE key = ? AND idx > ? ORDER BY idx {order}"
            " LIMIT ?",
            (key, after, -1 if limit is None else limit),
        )
        names = ("index", "kind", "turn", "prev", "body", "hash")
        return [Record(**{**dict(zip(names, row, strict=True)), "kind": RecordKind(row[1])}) for row in rows]

    def content(self, key: str, sha256: str) -> bytes | None:
        row = self._db.execute("SELECT content FROM contents WHERE key = ? AND sha256 = ?", (key, sha256)).fetchone()
        return row[0] if row else None

    def find(self, name: str) -> ThreadInfo | None:
        row = self._db.execute("SELECT info FROM threads WHERE name = ?", (name,)).fetchone()
        return info_from_json(row[0]) if row else None

    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        found = []
        for key, text in self._db.execute("SELECT key, info FROM threads ORDER BY used DESC, key DESC").fetchall():
            info = info_from_json(text)
            if info.head and (folder is None or info.folder == folder) and self._matches(key, info, search):
                found.append(info)
        return found[:limit]

    def _matches(self, key: str, info: ThreadInfo, search: str | None) -> bool:
        if search is None:
            return True
        bodies = self._db.execute("SELECT body FROM records WHERE key = ? AND kind = 'seal'", (key,)).fetchall()
        text = " ".join([info.name, info.title or "", *(body for (body,) in bodies)]).lower()
        return all(word.lower() in text for word in search.split())

    def delete(self, lease: Lease) -> None:
        with self._transaction() as db:
            key = self._held(lease).key
            for table in ("threads", "records", "contents"):
                db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        with self._transaction() as db:
            row = db.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()
            value = (row[0] if row else 0.0) + amount
            if limit is not None and value > limit:
                raise CounterLimitError(f"the counter {counter!r} would pass its limit of {limit}")
            db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (counter, value))
            return value

    def close(self) -> None:
        self._db.close()

    def _held(self, lease: Lease) -> ThreadInfo:
        row = self._db.execute(
            "SELECT info FROM threads WHERE key = ? AND token = ?", (lease.thread.key, lease.token)
        ).fetchone()
        if row is None:
            raise LeaseLostError(f"another run took over the thread {lease.thread.name!r}")
        return info_from_json(row[0])


@hookimpl
def afk_store(settings: Settings) -> SqliteStore:
    folder = data_dir()
    make_private_folder(folder)
    return SqliteStore(settings.path or str(folder / "outside.db"))

"""One batch in one SQLite file: what each operation of the local engine reads and writes.

A write runs between `begin` and `commit`, with others that came at the same time. The totals of the batch (counts,
cost, what was sent in the last minute) are one row, which is read at the beginning and written once at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.engine import (
    SETTLED_STATES,
    BatchInfo,
    BatchLimits,
    ClaimedPrompt,
    Grant,
    News,
    Outcome,
    PromptInfo,
    PromptState,
    QueuedPrompt,
    Reservation,
    SettledPrompt,
    Submitted,
    TakenOver,
    Used,
)
from afkcli.core.contract.errors import EngineError
from afkcli.core.contract.jsonform import JsonObject, dumps, loads_object
from afkcli.core.contract.shared_limits import SharedLimits
from afkcli.core.contract.structs import Struct, field, msgspec
from afkcli.host.files import private_file

VERSION = 1
"""Of the tables below; a file of a greater version is refused."""

BUSY_SECONDS = 10
"""How long a read waits while another process opens the file after a crash, or is the last one to close it."""

_STATES = tuple(PromptState)
_NUMBER = {state: number for number, state in enumerate(_STATES)}
_QUEUED, _RUNNING, _PARKED, _CANCELLED, _SENT = 0, 1, 4, 5, 6
"""The places of states in `PromptState`, by which files have them. SQLite uses a partial index for literals only."""
_TABLES = """
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
CREATE TABLE batch (
  one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL, created TEXT NOT NULL,
  settings TEXT NOT NULL, limits TEXT NOT NULL, paused TEXT, totals BLOB NOT NULL
);
CREATE TABLE prompts (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, place INTEGER NOT NULL, digest TEXT NOT NULL,
  state INTEGER NOT NULL, worker TEXT, claim TEXT, sent INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  reserved_usd REAL NOT NULL DEFAULT 0, used_usd REAL NOT NULL DEFAULT 0,
  reserved_tokens INTEGER NOT NULL DEFAULT 0, reserved_at INTEGER NOT NULL DEFAULT 0,
  cost_usd REAL, sequence INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE requests (number INTEGER PRIMARY KEY, request TEXT NOT NULL);
CREATE TABLE results (number INTEGER PRIMARY KEY, result TEXT NOT NULL);
CREATE INDEX by_place ON prompts (place);
CREATE INDEX queued ON prompts (place) WHERE state = 0;
CREATE INDEX running ON prompts (worker) WHERE state = 1;
CREATE INDEX by_sequence ON prompts (sequence) WHERE sequence > 0;
PRAGMA user_version = 1;
"""


class Totals(Struct):
    """What is counted of a batch. `counts` has the number of prompts by the place of their state in `PromptState`.

    In US dollars: `cost_usd` is what settled prompts cost, `used_usd` what the ended requests of running prompts cost
    and what parked prompts may have cost, `reserved_usd` what requests may cost that are in progress.
    """

    counts: list[int] = field(default_factory=lambda: [0] * len(_STATES))
    cost_usd: float = 0.0
    used_usd: float = 0.0
    reserved_usd: float = 0.0
    tokens: int = 0
    requests: int = 0
    unknown_costs: int = 0
    sequence: int = 0
    claims: int = 0
    limits: SharedLimits = field(default_factory=SharedLimits)


_TOTALS = msgspec.json.Decoder(Totals)
_LIMITS = msgspec.json.Decoder(BatchLimits)
_encoded = msgspec.json.Encoder().encode


class BatchFile:
    """The file of one batch, open. Synchronous; every method but the readers is called within a transaction.

    Raises:
        EngineError: the file is of a later afk.
        sqlite3.Error: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._check_version()
            for pragma in ("synchronous = NORMAL", "wal_autocheckpoint = 0", "cache_size = -8000"):
                self._db.execute(f"PRAGMA {pragma}")
        except BaseException:
            self._db.close()
            raise
        self.totals = Totals()
        self.limits = BatchLimits()
        self.paused: str | None = None

    def _check_version(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            problem = "was made by a later afk; upgrade afkcli" if version > VERSION else "is damaged"
            raise EngineError(f"the batch in {self.path} {problem}")

    def close(self) -> None:
        self._db.close()

    # -- transactions ------------------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Begin a transaction that writes; return False if another process is writing."""
        self._db.execute("PRAGMA busy_timeout = 0")  # the event loop must not wait here
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            raise
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
        row = self._db.execute("SELECT limits, paused, totals FROM batch").fetchone()
        self.limits, self.paused, self.totals = _LIMITS.decode(row[0]), row[1], _TOTALS.decode(row[2])
        return True

    def commit(self) -> None:
        """Write the totals and end the transaction. It survives the death of the process, not power loss."""
        self._db.execute("UPDATE batch SET totals = ?", (_encoded(self.totals),))
        self._db.execute("COMMIT")

    def roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def has_changed(self) -> int:
        """Return a number that is another one once a process has written."""
        number: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return number

    # -- the batch ---------------------------------------------------------------------------------------------------

    def info(self) -> BatchInfo:
        name, created, settings, limits, paused, totals = self._db.execute(
            "SELECT name, created, settings, limits, paused, totals FROM batch"
        ).fetchone()
        counted = _TOTALS.decode(totals)
        return BatchInfo(
            name=name,
            created=created,
            settings=loads_object(settings),
            limits=_LIMITS.decode(limits),
            counts={state: count for state, count in zip(_STATES, counted.counts, strict=True) if count},
            cost_usd=counted.cost_usd,
            reserved_usd=counted.reserved_usd + counted.used_usd,
            tokens=counted.tokens,
            requests=counted.requests,
            paused=paused,
            unknown_costs=counted.unknown_costs,
        )

    def set(self, settings: JsonObject, limits: BatchLimits) -> None:
        row = (dumps(settings), _encoded(limits).decode())
        self._db.execute("UPDATE batch SET settings = ?, limits = ?, paused = NULL", row)
        self.limits, self.paused = limits, None

    def pause(self, reason: str) -> None:
        self._db.execute("UPDATE batch SET paused = ?", (reason,))
        self.paused = reason

    # -- the prompts -------------------------------------------------------------------------------------------------

    def submit(self, prompts: Sequence[QueuedPrompt], replaces: bool) -> Submitted:
        new, changed = 0, []
        for prompt in prompts:
            row = self._row(prompt.id)
            if row is None:
                self._insert(prompt)
                new += 1
                continue
            if row["digest"] == prompt.digest:
                if row["place"] != prompt.index:
                    self._db.execute("UPDATE prompts SET place = ? WHERE number = ?", (prompt.index, row["number"]))
            elif replaces and row["state"] not in (_RUNNING, _SENT):
                self._replace(row, prompt)
                new += 1
            else:
                changed.append(prompt.id)
        return Submitted(new=new, changed=changed)

    def _insert(self, prompt: QueuedPrompt) -> None:
        values = (prompt.id, prompt.index, prompt.digest, _QUEUED)
        cursor = self._db.execute("INSERT INTO prompts (id, place, digest, state) VALUES (?, ?, ?, ?)", values)
        self._db.execute("INSERT INTO requests VALUES (?, ?)", (cursor.lastrowid, dumps(prompt.request)))
        self.totals.counts[_QUEUED] += 1

    def _replace(self, row: sqlite3.Row, prompt: QueuedPrompt) -> None:
        self._queue(row, attempts=0)
        values = (prompt.index, prompt.digest, row["number"])
        self._db.execute("UPDATE prompts SET place = ?, digest = ? WHERE number = ?", values)
        self._db.execute("UPDATE requests SET request = ? WHERE number = ?", (dumps(prompt.request), row["number"]))

    def prompts(self, after: int, limit: int) -> list[PromptInfo]:
        rows = self._db.execute(
            "SELECT id, place, digest, state, attempts, sequence FROM prompts WHERE place > ? ORDER BY place, number"
            " LIMIT ?",
            (after, limit),
        )
        return [
            PromptInfo(id=id_, index=place, digest=digest, state=_STATES[state], attempts=attempts, sequence=sequence)
            for id_, place, digest, state, attempts, sequence in rows
        ]

    def outcomes(self, ids: Sequence[str]) -> list[SettledPrompt]:
        query = f"{_SETTLED} WHERE p.id = ? AND (p.sequence > 0 OR p.state = {_SENT})"
        rows = (self._db.execute(query, (id_,)).fetchone() for id_ in ids)
        return [_settled(row) for row in rows if row is not None]

    def watch(self, after: int, limit: int) -> News:
        """Return the outcomes after a sequence, and the batch, both of one moment."""
        self._db.execute("BEGIN")
        try:
            query = f"{_SETTLED} WHERE p.sequence > ? AND p.sequence > 0 ORDER BY p.sequence LIMIT ?"
            rows = self._db.execute(query, (after, limit)).fetchall()
            return News(batch=self.info(), outcomes=[_settled(row) for row in rows])
        finally:
            self._db.execute("COMMIT")

    def retry(self, states: Collection[PromptState], ids: Collection[str] | None) -> int:
        wanted = [_NUMBER[state] for state in states if state in SETTLED_STATES]
        rows = list(self._rows(wanted, ids))
        for row in rows:
            self._queue(row)
        return len(rows)

    def cancel(self, ids: Collection[str] | None) -> int:
        rows = list(self._rows([_QUEUED], ids))
        for row in rows:
            self._settle(row, _CANCELLED, "{}", 0.0)
        return len(rows)

    # -- the workers -------------------------------------------------------------------------------------------------

    def workers(self) -> list[str]:
        """Return the workers that have prompts."""
        rows = self._db.execute("SELECT DISTINCT worker FROM prompts WHERE state = 1")
        return [worker for (worker,) in rows]

    def claimable(self, limit: int) -> int:
        """Return how many prompts a worker may get now."""
        if self.paused is not None:
            return 0
        most = self.limits.concurrency
        room = limit if most is None else most - self.totals.counts[_RUNNING]
        return max(min(limit, room, self.totals.counts[_QUEUED]), 0)

    def is_over(self) -> bool:
        """Return whether nothing will be claimed any more, as far as is known in this transaction."""
        counts = self.totals.counts
        return self.paused is not None or counts[_QUEUED] + counts[_RUNNING] == 0

    def claim(self, worker: str, limit: int) -> list[ClaimedPrompt]:
        rows = self._db.execute(
            "SELECT p.number, p.id, p.attempts, r.request FROM prompts p JOIN requests r USING (number)"
            " WHERE p.state = 0 ORDER BY p.place LIMIT ?",
            (self.claimable(limit),),
        ).fetchall()
        claimed = []
        for number, id_, attempts, request in rows:
            self.totals.claims += 1
            claim = str(self.totals.claims)
            self._db.execute(
                "UPDATE prompts SET state = 1, worker = ?, claim = ?, sent = 0 WHERE number = ?",
                (worker, claim, number),
            )
            claimed.append(ClaimedPrompt(id=id_, claim=claim, attempt=attempts + 1, request=loads_object(request)))
        self._count(_QUEUED, _RUNNING, len(rows))
        return claimed

    def reserve(self, asked: Reservation, now: float) -> Grant:
        row = self._claimed(asked.id, asked.claim)
        if row is None:
            return Grant(refused="lost")
        if self.paused is not None and not row["sent"]:
            return Grant(refused="paused")
        totals = self.totals
        grant = self._within_cost(asked)
        if grant.allowed:
            grant = totals.limits.grant(self.limits, asked, now)
        if not grant.allowed:
            return grant
        second = int(now)
        if asked.more:
            usd, tokens = row["reserved_usd"] + asked.cost_usd, row["reserved_tokens"] + asked.tokens
            used, second = row["used_usd"], row["reserved_at"]
        else:
            usd, tokens, used = asked.cost_usd, asked.tokens, row["used_usd"] + row["reserved_usd"]
            totals.used_usd += row["reserved_usd"]
            totals.reserved_usd -= row["reserved_usd"]
            totals.requests += 1
        totals.reserved_usd += asked.cost_usd
        totals.tokens += asked.tokens
        self._db.execute(
            "UPDATE prompts SET sent = 1, attempts = ?, reserved_usd = ?, used_usd = ?, reserved_tokens = ?,"
            " reserved_at = ? WHERE number = ?",
            (row["attempts"] + (not row["sent"]), usd, used, tokens, second, row["number"]),
        )
        return grant

    def _within_cost(self, asked: Reservation) -> Grant:
        """Return whether a request fits below the most that the batch may cost.

        It waits where other requests may turn out to cost less than they reserved. What `more` is asked for does not
        wait, because such requests would wait for each other.
        """
        most, totals = self.limits.max_cost_usd, self.totals
        if most is None:
            return Grant(allowed=True)
        spent = totals.cost_usd + totals.used_usd + asked.cost_usd
        room = most * (1 + 1e-12)
        if spent + totals.reserved_usd <= room:
            return Grant(allowed=True)
        return Grant(wait_s=0.2) if spent <= room and not asked.more else Grant(refused="max_cost")

    def use(self, used: Used) -> None:
        row = self._claimed(used.id, used.claim, (_RUNNING, _SENT))
        if row is None:
            return
        tokens = row["reserved_tokens"]
        if used.tokens is not None:
            self.totals.limits.correct(row["reserved_at"], used.tokens - tokens)
            self.totals.tokens += used.tokens - tokens
            tokens = used.tokens
        usd = row["reserved_usd"] if used.cost_usd is None else used.cost_usd
        self.totals.reserved_usd = max(self.totals.reserved_usd - row["reserved_usd"], 0.0)
        self.totals.used_usd += usd
        self._db.execute(
            "UPDATE prompts SET reserved_usd = 0, used_usd = ?, reserved_tokens = ? WHERE number = ?",
            (row["used_usd"] + usd, tokens, row["number"]),
        )

    def hold(self, model: str, seconds: float, now: float) -> None:
        self.totals.limits.hold(model, seconds, now)

    def settle(self, outcome: Outcome) -> bool:
        """Keep an outcome; return False if its claim is not the present one."""
        row = self._claimed(outcome.id, outcome.claim, (_RUNNING, _SENT))
        if row is None:
            return False
        if outcome.state is PromptState.QUEUED:
            self._queue(row)
            return True
        if outcome.state is PromptState.SENT:
            self._send(row, dumps(outcome.result))
            return True
        held = self._take_held(row)
        if outcome.state is PromptState.PARKED:
            self.totals.used_usd += held
            self._settle(row, _PARKED, dumps(outcome.result), None, held)
            return True
        self.totals.cost_usd += held if outcome.cost_usd is None else outcome.cost_usd
        self.totals.unknown_costs += outcome.cost_usd is None
        if not row["reserved_tokens"]:
            self.totals.tokens += outcome.tokens or 0
        self._settle(row, _NUMBER[outcome.state], dumps(outcome.result), outcome.cost_usd)
        return True

    def take_over(self, workers: Iterable[str]) -> TakenOver:
        parked = queued = 0
        for worker in workers:
            query = "SELECT * FROM prompts WHERE state = 1 AND worker = ?"
            for row in self._dicts(query, (worker,)):
                if row["sent"]:
                    held = self._take_held(row)
                    self.totals.used_usd += held
                    self._settle(row, _PARKED, "{}", None, held)
                    parked += 1
                else:
                    self._queue(row)
                    queued += 1
        return TakenOver(parked=parked, queued=queued)

    # -- rows --------------------------------------------------------------------------------------------------------

    def _dicts(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        cursor = self._db.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(query, values).fetchall()

    def _row(self, id_: str) -> sqlite3.Row | None:
        rows = self._dicts("SELECT * FROM prompts WHERE id = ?", (id_,))
        return rows[0] if rows else None

    def _claimed(self, id_: str, claim: str, states: Sequence[int] = (_RUNNING,)) -> sqlite3.Row | None:
        row = self._row(id_)
        return row if row is not None and row["state"] in states and row["claim"] == claim else None

    def _rows(self, states: Sequence[int], ids: Collection[str] | None) -> Iterator[sqlite3.Row]:
        if ids is not None:
            found = (self._row(id_) for id_ in ids)
            yield from (row for row in found if row is not None and row["state"] in states)
            return
        marks = ", ".join("?" * len(states))
        yield from self._dicts(f"SELECT * FROM prompts WHERE state IN ({marks})", states)  # noqa: S608

    def _count(self, before: int, after: int, number: int = 1) -> None:
        self.totals.counts[before] -= number
        self.totals.counts[after] += number

    def _queue(self, row: sqlite3.Row, attempts: int | None = None) -> None:
        """Queue a prompt again. What it cost or may have cost stays counted, as spent."""
        self.totals.cost_usd += self._take_held(row)
        self._db.execute(
            "UPDATE prompts SET state = 0, worker = NULL, claim = NULL, sent = 0, attempts = ?, reserved_usd = 0,"
            " used_usd = 0, reserved_tokens = 0, cost_usd = NULL, sequence = 0 WHERE number = ?",
            (row["attempts"] if attempts is None else attempts, row["number"]),
        )
        self._db.execute("DELETE FROM results WHERE number = ?", (row["number"],))
        self._count(row["state"], _QUEUED)

    def _take_held(self, row: sqlite3.Row) -> float:
        """Return what a prompt used and reserved, and take it out of the totals."""
        self.totals.reserved_usd = max(self.totals.reserved_usd - row["reserved_usd"], 0.0)
        self.totals.used_usd = max(self.totals.used_usd - row["used_usd"], 0.0)
        held: float = row["reserved_usd"] + row["used_usd"]
        return held

    def _send(self, row: sqlite3.Row, result: str) -> None:
        """Take a prompt from its worker, and keep its claim and what was reserved for it."""
        self._db.execute("UPDATE prompts SET state = ?, worker = NULL WHERE number = ?", (_SENT, row["number"]))
        self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (row["number"], result))
        self._count(row["state"], _SENT)

    def _settle(self, row: sqlite3.Row, state: int, result: str, cost: float | None, used_usd: float = 0.0) -> None:
        self.totals.sequence += 1
        self._db.execute(
            "UPDATE prompts SET state = ?, worker = NULL, claim = NULL, cost_usd = ?, sequence = ?, reserved_usd = 0,"
            " used_usd = ? WHERE number = ?",
            (state, cost, self.totals.sequence, used_usd, row["number"]),
        )
        self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (row["number"], result))
        self._count(row["state"], state)


_SETTLED = (
    "SELECT p.sequence, p.id, p.place, p.digest, p.state, p.attempts, r.result, p.cost_usd"
    " FROM prompts p JOIN results r USING (number)"
)


def _settled(row: Sequence[Any]) -> SettledPrompt:
    sequence, id_, place, digest, state, attempts, result, cost = row
    return SettledPrompt(
        sequence=sequence,
        id=id_,
        index=place,
        digest=digest,
        state=_STATES[state],
        attempts=attempts,
        result=loads_object(result),
        cost_usd=cost,
    )


def create_file(path: Path, name: str, created: str, settings: JsonObject, limits: BatchLimits) -> None:
    """Make the file of a new batch, 0600, whole or not at all; nothing happens if there is one by now.

    Raises:
        sqlite3.Error, OSError: it cannot be written.
    """
    import os

    making = path.with_name(f".{path.name}.{os.getpid()}")
    os.close(private_file(making))
    try:
        db = sqlite3.connect(making, isolation_level=None)
        try:
            db.executescript(_TABLES)
            row = (name, created, dumps(settings), _encoded(limits).decode(), _encoded(Totals()))
            db.execute("INSERT INTO batch VALUES (1, ?, ?, ?, ?, NULL, ?)", row)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
        with open(making, "rb") as file:  # noqa: PTH123
            os.fsync(file.fileno())
        try:
            os.link(making, path)
        except FileExistsError:
            return
    finally:
        for suffix in ("", "-wal", "-shm"):
            making.with_name(making.name + suffix).unlink(missing_ok=True)

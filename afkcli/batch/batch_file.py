"""One batch in one SQLite file: what each operation of the local engine reads and writes.

A write runs between `begin` and `commit`, with others that came at the same time. The totals of the batch (counts,
cost, what was sent in the last minute) are one row, which is read at the beginning and written once at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from afkcli.batch.batch_tables import (
    CANCELLED,
    INFO,
    LIMITS,
    NUMBER,
    PARKED,
    QUEUED,
    RUNNING,
    SENT,
    SETTLED,
    STATES,
    TOTALS,
    VERSION,
    Totals,
    columns_of,
    encoded,
    info_of,
    settled_of,
    use_of,
)
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

BUSY_SECONDS = 10
"""How long a read waits while another process opens the file after a crash, or is the last one to close it."""


def _may_be_replaced(row: sqlite3.Row, replaces: bool) -> bool:
    """Return whether a changed prompt takes the place of an old one: always, if nothing of that was ever sent."""
    if row["state"] == QUEUED and not row["attempts"]:
        return True
    return replaces and row["state"] not in (RUNNING, SENT)


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
        self.limits, self.paused, self.totals = LIMITS.decode(row[0]), row[1], TOTALS.decode(row[2])
        return True

    def commit(self) -> None:
        """Write the totals and end the transaction. It survives the death of the process, not power loss."""
        self._db.execute("UPDATE batch SET totals = ?", (encoded(self.totals),))
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
        return info_of(self._db.execute(INFO).fetchone())

    def set(self, settings: JsonObject, limits: BatchLimits) -> None:
        row = (dumps(settings), encoded(limits).decode())
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
            elif _may_be_replaced(row, replaces):
                self._replace(row, prompt)
                new += 1
            else:
                changed.append(prompt.id)
        return Submitted(new=new, changed=changed)

    def _insert(self, prompt: QueuedPrompt) -> None:
        values = (prompt.id, prompt.index, prompt.digest, QUEUED)
        cursor = self._db.execute("INSERT INTO prompts (id, place, digest, state) VALUES (?, ?, ?, ?)", values)
        self._db.execute("INSERT INTO requests VALUES (?, ?)", (cursor.lastrowid, dumps(prompt.request)))
        self.totals.counts[QUEUED] += 1

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
            PromptInfo(id=id_, index=place, digest=digest, state=STATES[state], attempts=attempts, sequence=sequence)
            for id_, place, digest, state, attempts, sequence in rows
        ]

    def outcomes(self, ids: Sequence[str]) -> list[SettledPrompt]:
        query = f"{SETTLED} WHERE p.id = ? AND (p.sequence > 0 OR p.state = {SENT})"
        rows = (self._db.execute(query, (id_,)).fetchone() for id_ in ids)
        return [settled_of(row) for row in rows if row is not None]

    def watch(self, after: int, limit: int) -> News:
        """Return the outcomes after a sequence, and the batch, both of one moment."""
        self._db.execute("BEGIN")
        try:
            query = f"{SETTLED} WHERE p.sequence > ? AND p.sequence > 0 ORDER BY p.sequence LIMIT ?"
            rows = self._db.execute(query, (after, limit)).fetchall()
            return News(batch=self.info(), outcomes=[settled_of(row) for row in rows])
        finally:
            self._db.execute("COMMIT")

    def retry(self, states: Collection[PromptState], ids: Collection[str] | None) -> int:
        wanted = [NUMBER[state] for state in states if state in SETTLED_STATES]
        rows = list(self._rows(wanted, ids))
        for row in rows:
            self._queue(row)
        return len(rows)

    def cancel(self, ids: Collection[str] | None) -> int:
        rows = list(self._rows([QUEUED], ids))
        for row in rows:
            self._settle(row, CANCELLED, "{}", 0.0)
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
        return self.totals.claimable(self.limits, limit)

    def is_over(self) -> bool:
        """Return whether nothing will be claimed any more, as far as is known in this transaction."""
        counts = self.totals.counts
        return self.paused is not None or counts[QUEUED] + counts[RUNNING] == 0

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
        self.totals.move(QUEUED, RUNNING, len(rows))
        return claimed

    def reserve(self, asked: Reservation, now: float) -> Grant:
        row = self._claimed(asked.id, asked.claim)
        if row is None:
            return Grant(refused="lost")
        if self.paused is not None and not row["sent"]:
            return Grant(refused="paused")
        grant, use = self.totals.reserve(self.limits, asked, use_of(row), now)
        if grant.allowed:
            self._db.execute(
                "UPDATE prompts SET sent = 1, attempts = ?, reserved_usd = ?, used_usd = ?, reserved_tokens = ?,"
                " reserved_at = ? WHERE number = ?",
                (row["attempts"] + (not row["sent"]), *columns_of(use), row["number"]),
            )
        return grant

    def use(self, used: Used) -> None:
        row = self._claimed(used.id, used.claim, (RUNNING, SENT))
        if row is not None:
            use = self.totals.correct(used, use_of(row))
            self._db.execute(
                "UPDATE prompts SET reserved_usd = ?, used_usd = ?, reserved_tokens = ?, reserved_at = ?"
                " WHERE number = ?",
                (*columns_of(use), row["number"]),
            )

    def hold(self, model: str, seconds: float, now: float) -> None:
        self.totals.limits.hold(model, seconds, now)

    def settle(self, outcome: Outcome) -> bool:
        """Keep an outcome; return False if its claim is not the present one."""
        row = self._claimed(outcome.id, outcome.claim, (RUNNING, SENT))
        if row is None:
            return False
        if outcome.state is PromptState.QUEUED:
            self._queue(row)
            return True
        if outcome.state is PromptState.SENT:
            self._send(row, dumps(outcome.result))
            return True
        if outcome.state is PromptState.PARKED:
            self._settle(row, PARKED, dumps(outcome.result), None, self.totals.park(use_of(row)))
            return True
        self.totals.end(outcome, use_of(row))
        self._settle(row, NUMBER[outcome.state], dumps(outcome.result), outcome.cost_usd)
        return True

    def take_over(self, workers: Iterable[str]) -> TakenOver:
        parked = queued = 0
        for worker in workers:
            query = "SELECT * FROM prompts WHERE state = 1 AND worker = ?"
            for row in self._dicts(query, (worker,)):
                if row["sent"]:
                    self._settle(row, PARKED, "{}", None, self.totals.park(use_of(row)))
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

    def _claimed(self, id_: str, claim: str, states: Sequence[int] = (RUNNING,)) -> sqlite3.Row | None:
        row = self._row(id_)
        return row if row is not None and row["state"] in states and row["claim"] == claim else None

    def _rows(self, states: Sequence[int], ids: Collection[str] | None) -> Iterator[sqlite3.Row]:
        if ids is not None:
            found = (self._row(id_) for id_ in ids)
            yield from (row for row in found if row is not None and row["state"] in states)
            return
        marks = ", ".join("?" * len(states))
        yield from self._dicts(f"SELECT * FROM prompts WHERE state IN ({marks})", states)  # noqa: S608

    def _queue(self, row: sqlite3.Row, attempts: int | None = None) -> None:
        """Queue a prompt again. What it cost or may have cost stays counted, as spent."""
        self.totals.queue_again(use_of(row))
        self._db.execute(
            "UPDATE prompts SET state = 0, worker = NULL, claim = NULL, sent = 0, attempts = ?, reserved_usd = 0,"
            " used_usd = 0, reserved_tokens = 0, cost_usd = NULL, sequence = 0 WHERE number = ?",
            (row["attempts"] if attempts is None else attempts, row["number"]),
        )
        self._db.execute("DELETE FROM results WHERE number = ?", (row["number"],))
        self.totals.move(row["state"], QUEUED)

    def _send(self, row: sqlite3.Row, result: str) -> None:
        """Take a prompt from its worker, and keep its claim and what was reserved for it."""
        self._db.execute("UPDATE prompts SET state = ?, worker = NULL WHERE number = ?", (SENT, row["number"]))
        self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (row["number"], result))
        self.totals.move(row["state"], SENT)

    def _settle(self, row: sqlite3.Row, state: int, result: str, cost: float | None, used_usd: float = 0.0) -> None:
        self.totals.sequence += 1
        self._db.execute(
            "UPDATE prompts SET state = ?, worker = NULL, claim = NULL, cost_usd = ?, sequence = ?, reserved_usd = 0,"
            " used_usd = ? WHERE number = ?",
            (state, cost, self.totals.sequence, used_usd, row["number"]),
        )
        self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (row["number"], result))
        self.totals.move(row["state"], state)

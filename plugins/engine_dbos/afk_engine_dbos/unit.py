"""One transaction on one batch: operations change rows in memory, and `flush` writes them with few statements.

The row of the batch is locked first, so that operations of all processes on a batch follow one another. Each prompt's
workflow follows its state at the same time: `queued` is ENQUEUED, `running` and `sent` are PENDING, `done` and `failed`
are SUCCESS, `parked` is MAX_RECOVERY_ATTEMPTS_EXCEEDED (DBOS's word for what is never run again by itself).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from afk_engine_dbos.layout import Layout
from afk_engine_dbos.rows import (
    CANCELLED,
    DONE,
    FAILED,
    LIMITS,
    NUMBER,
    PARKED,
    QUEUED,
    RUNNING,
    SENT,
    STATES,
    TOTALS,
    USE,
    Row,
    encoded,
    paused_of,
    row_of,
    to_bytes,
)
from afk_engine_dbos.workflows import Workflows
from afkcli.plugin import (
    SETTLED_STATES,
    BatchLimits,
    BatchTotals,
    ClaimedPrompt,
    EngineError,
    Grant,
    JsonObject,
    Outcome,
    PromptState,
    PromptUse,
    QueuedPrompt,
    Reservation,
    Submitted,
    TakenOver,
    UnknownNameError,
    Used,
    dumps,
    replace,
)

_ENDED: Final = (DONE, FAILED)
_UPDATE: Final = (
    "UPDATE {s}.prompt p SET place = v.place, digest = v.digest, state = v.state, round = v.round, worker = v.worker,"
    " claim = v.claim, sent = v.sent, attempts = v.attempts, reserved_usd = v.reserved_usd, used_usd = v.used_usd,"
    " reserved_tokens = v.reserved_tokens, reserved_at = v.reserved_at, cost_usd = v.cost_usd, sequence = v.sequence"
    " FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[], %s::smallint[], %s::integer[], %s::text[], %s::text[],"
    " %s::boolean[], %s::integer[], %s::float8[], %s::float8[], %s::bigint[], %s::bigint[], %s::float8[], %s::bigint[])"
    " AS v(number, place, digest, state, round, worker, claim, sent, attempts, reserved_usd, used_usd, reserved_tokens,"
    " reserved_at, cost_usd, sequence)"
    " WHERE p.batch = %s AND p.number = v.number"
)


class BatchUnit:
    """The transaction; the batch is locked when this returns.

    Args:
        workflows: DBOS's queue, in the open transaction.
        layout: our tables.
        name: the name of the batch.
        again: whether an earlier try of the same operations may have been carried out.

    Raises:
        UnknownNameError: there is no such batch.
    """

    def __init__(self, workflows: Workflows, layout: Layout, name: str, again: bool = False) -> None:
        self._workflows = workflows
        self._layout = layout
        self._again = again
        self._rows: dict[int, Row] = {}
        self._by_id: dict[str, Row] = {}
        found = self._execute(
            "SELECT {info}, extract(epoch FROM clock_timestamp())::float8 FROM {s}.batch WHERE key = %s FOR UPDATE",
            key_of(name),
        )
        if not found:
            raise unknown(name)
        *row, self.now = found[0]
        self.number: int = row[0]
        self.name = name
        self.afk: str = row[3]
        self.limits = LIMITS.decode(row[5])
        self.paused = paused_of(row[6])
        self.totals = TOTALS.decode(row[7])
        self.queue = queue_of(layout, self.number)

    def _execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._workflows.connection.execute(self._layout.query(query), values)
        return cursor.fetchall() if cursor.description else []

    # -- rows --------------------------------------------------------------------------------------------------------

    def load(self, ids: Iterable[str]) -> None:
        """Read the rows of these prompts together."""
        missing = [to_bytes(id_) for id_ in dict.fromkeys(ids) if id_ not in self._by_id]
        if missing:
            self._select("id = ANY(%s)", missing)

    def _select(self, condition: str, *values: object, order: str = "") -> list[Row]:
        query = "SELECT {columns} FROM {s}.prompt WHERE batch = %s AND " + f"{condition} {order}"  # noqa: S608
        return [self._kept(values) for values in self._execute(query, self.number, *values)]

    def _kept(self, values: Sequence[Any]) -> Row:
        row = self._rows.get(values[0])
        if row is None:
            row = self._rows[values[0]] = row_of(values)
            self._by_id[row.id] = row
        return row

    def _row(self, id_: str) -> Row | None:
        if id_ not in self._by_id:
            self.load([id_])
        return self._by_id.get(id_)

    def _claimed(self, id_: str, claim: str, states: Sequence[int] = (RUNNING,)) -> Row | None:
        row = self._row(id_)
        return row if row is not None and row.state in states and row.claim == claim else None

    def _in_states(self, states: Sequence[int], ids: Collection[str] | None) -> list[Row]:
        self.flush()
        if ids is None:
            return self._select("state = ANY(%s)", list(states), order="ORDER BY place, number")
        self.load(ids)
        found = (self._by_id.get(id_) for id_ in dict.fromkeys(ids))
        return [row for row in found if row is not None and row.state in states]

    def workflow_of(self, row: Row) -> str:
        return f"{self.queue}/{row.number}/{row.round}"

    # -- the end -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what has changed, and have the workflows follow."""
        changed = [row for row in self._rows.values() if row.changed]
        if changed:
            self._begin_new_rounds([row for row in changed if row.was in _ENDED and row.state == QUEUED])
            self._write(changed)
            self._have_follow(changed)
            for row in changed:
                row.changed, row.was, row.result = False, row.state, None

    def finish(self) -> None:
        """Write all, and the totals."""
        self.flush()
        self._execute("UPDATE {s}.batch SET totals = %s WHERE number = %s", encoded(self.totals).decode(), self.number)

    def _write(self, rows: Sequence[Row]) -> None:
        columns = [
            [row.number for row in rows],
            [row.place for row in rows],
            [to_bytes(row.digest) for row in rows],
            [row.state for row in rows],
            [row.round for row in rows],
            [row.worker for row in rows],
            [row.claim for row in rows],
            [row.sent for row in rows],
            [row.attempts for row in rows],
            *([getattr(row.use, name) for row in rows] for name in USE),
            [row.cost_usd for row in rows],
            [row.sequence for row in rows],
        ]
        self._execute(_UPDATE, *columns, self.number)

    def _have_follow(self, rows: Sequence[Row]) -> None:
        moved = [row for row in rows if row.was != row.state]

        def ids(*states: int) -> list[str]:
            return [self.workflow_of(row) for row in moved if row.state in states]

        flows = self._workflows
        follow: list[tuple[Callable[[Sequence[str]], None], list[str]]] = [
            (flows.succeed, ids(DONE, FAILED)),
            (flows.dead_letter, ids(PARKED)),
            (flows.cancel, ids(CANCELLED)),
        ]
        for tell, workflows in follow:
            if workflows:
                tell(workflows)
        queued = ids(QUEUED)
        if queued:
            flows.resume(self.queue, queued)
            flows.drop_outputs(queued)
        outputs = {self.workflow_of(row): row.result for row in rows if row.result is not None}
        if outputs:
            flows.put_outputs(outputs)

    def _begin_new_rounds(self, rows: Sequence[Row], requests: dict[int, JsonObject] | None = None) -> None:
        """Give prompts new workflows, because one that has succeeded is never run again."""
        if not rows:
            return
        old = {row.number: self.workflow_of(row) for row in rows}
        if requests is None:
            inputs = self._workflows.inputs(list(old.values()))
            requests = {row.number: inputs[old[row.number]] for row in rows}
        self._workflows.delete(list(old.values()))
        for row in rows:
            row.round += 1
            row.changed = True
            row.was = QUEUED
        self._workflows.enqueue(self.queue, [(self.workflow_of(row), row.place, requests[row.number]) for row in rows])

    # -- the batch ---------------------------------------------------------------------------------------------------

    def set(self, settings: JsonObject, limits: BatchLimits, afk: str) -> None:
        self._execute(
            "UPDATE {s}.batch SET settings = %s, limits = %s, afk = %s, paused = NULL WHERE number = %s",
            dumps(settings),
            encoded(limits).decode(),
            afk,
            self.number,
        )

    def pause(self, reason: str) -> None:
        self.paused = reason
        self._execute("UPDATE {s}.batch SET paused = %s WHERE number = %s", dumps(reason), self.number)

    def delete(self) -> None:
        numbers = self._execute("SELECT number, round FROM {s}.prompt WHERE batch = %s", self.number)
        self._workflows.delete([f"{self.queue}/{number}/{round_}" for number, round_ in numbers])
        self._workflows.delete_queue(self.queue)
        self._execute("DELETE FROM {s}.batch WHERE number = %s", self.number)

    # -- the prompts -------------------------------------------------------------------------------------------------

    def submit(self, prompts: Sequence[QueuedPrompt], replaces: bool) -> Submitted:
        self.flush()
        self.load(prompt.id for prompt in prompts)
        new: dict[str, QueuedPrompt] = {}
        replaced: list[tuple[Row, QueuedPrompt]] = []
        changed = []
        for prompt in prompts:
            row = self._by_id.get(prompt.id)
            if row is None:
                new.setdefault(prompt.id, prompt)
            elif row.digest == prompt.digest:
                row.changed = row.changed or row.place != prompt.index
                row.place = prompt.index
            elif (row.state == QUEUED and not row.attempts) or (replaces and row.state not in (RUNNING, SENT)):
                replaced.append((row, prompt))
            else:
                changed.append(prompt.id)
        self._insert(list(new.values()))
        self._replace(replaced)
        return Submitted(new=len(new) + len(replaced), changed=changed)

    def _insert(self, prompts: Sequence[QueuedPrompt]) -> None:
        if not prompts:
            return
        rows = self._execute(
            "INSERT INTO {s}.prompt (batch, id, place, digest, state)"
            " SELECT %s, v.id, v.place, v.digest, 0 FROM unnest(%s::bytea[], %s::bigint[], %s::bytea[])"
            " WITH ORDINALITY AS v(id, place, digest, n) ORDER BY v.n"
            " RETURNING {columns}",
            self.number,
            [to_bytes(prompt.id) for prompt in prompts],
            [prompt.index for prompt in prompts],
            [to_bytes(prompt.digest) for prompt in prompts],
        )
        requests = {prompt.id: prompt.request for prompt in prompts}
        kept = [self._kept(values) for values in rows]
        self._workflows.enqueue(self.queue, [(self.workflow_of(row), row.place, requests[row.id]) for row in kept])
        self.totals.counts[QUEUED] += len(kept)

    def _replace(self, pairs: Sequence[tuple[Row, QueuedPrompt]]) -> None:
        for row, prompt in pairs:
            self._queue(row, attempts=0)
            row.place, row.digest = prompt.index, prompt.digest
        self._begin_new_rounds([row for row, _ in pairs], {row.number: prompt.request for row, prompt in pairs})

    def retry(self, states: Collection[PromptState], ids: Collection[str] | None) -> int:
        rows = self._in_states([NUMBER[state] for state in states if state in SETTLED_STATES], ids)
        for row in rows:
            self._queue(row)
        self.flush()
        return len(rows)

    def cancel(self, ids: Collection[str] | None) -> int:
        rows = self._in_states([QUEUED], ids)
        for row in rows:
            self._settle(row, CANCELLED, {}, 0.0)
        self.flush()
        return len(rows)

    # -- the workers -------------------------------------------------------------------------------------------------

    def claimable(self, limit: int) -> int:
        """Return how many prompts a worker may get now."""
        if self.paused is not None:
            return 0
        return self.totals.claimable(self.limits, limit)

    def is_over(self) -> bool:
        counts = self.totals.counts
        return self.paused is not None or counts[QUEUED] + counts[RUNNING] == 0

    def claim(self, worker: str, limit: int, tag: str, afk: str) -> list[ClaimedPrompt]:
        """Give prompts to a worker; `tag` is different for every claim, and the same when it is made again."""
        if self.afk != afk:
            raise EngineError(
                f"the batch {self.name} was submitted by afk {self.afk}, and this worker is of afk {afk}; "
                f"run workers of afk {self.afk}, or submit it again with afk {afk}"
            )
        if self._again:
            rows = self._select("state = 1 AND worker = %s AND starts_with(claim, %s)", worker, tag)
            if rows:
                return self._given(rows)
        number = self.claimable(limit)
        if not number:
            return []
        self.flush()
        claimed = self._workflows.claim(self.queue, worker, number)
        numbers = [int(workflow.rsplit("/", 2)[1]) for workflow in claimed]
        found = {row.number: row for row in self._select("number = ANY(%s)", numbers)}
        rows = [found[number] for number in numbers]
        for count, row in enumerate(rows):
            row.state = row.was = RUNNING
            row.worker, row.claim, row.sent, row.changed = worker, f"{tag}.{count}", False, True
            self.totals.move(QUEUED, RUNNING)
        return self._given(rows)

    def _given(self, rows: Sequence[Row]) -> list[ClaimedPrompt]:
        inputs = self._workflows.inputs([self.workflow_of(row) for row in rows])
        return [
            ClaimedPrompt(
                id=row.id,
                claim=row.claim or "",
                attempt=row.attempts + 1,
                request=inputs[self.workflow_of(row)],
            )
            for row in rows
        ]

    def reserve(self, asked: Reservation) -> Grant:
        row = self._claimed(asked.id, asked.claim)
        if row is None:
            return Grant(refused="lost")
        if self.paused is not None and not row.sent:
            return Grant(refused="paused")
        grant, use = self.totals.reserve(self.limits, asked, row.use, self.now)
        if grant.allowed:
            row.use = use
            row.attempts += not row.sent
            row.sent = row.changed = True
        return grant

    def use(self, used: Used) -> None:
        row = self._claimed(used.id, used.claim, (RUNNING, SENT))
        if row is not None:
            row.use = self.totals.correct(used, row.use)
            row.changed = True

    def slow_down(self, model: str, seconds: float) -> None:
        self.totals.limits.hold(model, seconds, self.now)

    def settle(self, outcome: Outcome) -> bool:
        """Keep an outcome; return False if its claim is not the present one."""
        row = self._claimed(outcome.id, outcome.claim, (RUNNING, SENT))
        if row is None:
            return self._again and self._was_settled(outcome)
        if outcome.state is PromptState.QUEUED:
            self._queue(row)
            return True
        if outcome.state is PromptState.SENT:
            self._send(row, outcome.result)
            return True
        if outcome.state is PromptState.PARKED:
            self._settle(row, PARKED, outcome.result, None, self.totals.park(row.use))
            return True
        self.totals.end(outcome, row.use)
        self._settle(row, NUMBER[outcome.state], outcome.result, outcome.cost_usd)
        return True

    def _was_settled(self, outcome: Outcome) -> bool:
        """Return whether a call that was cut off has kept this outcome."""
        row = self._row(outcome.id)
        return row is not None and row.claim == outcome.claim and STATES[row.state] is outcome.state

    def workers(self) -> list[str]:
        """Return the workers that have prompts."""
        rows = self._execute("SELECT DISTINCT worker FROM {s}.prompt WHERE batch = %s AND state = 1", self.number)
        return [worker for (worker,) in rows]

    def dead(self, workers: Sequence[str], lock_of: Callable[[str], int], grace: float) -> list[str]:
        """Return the workers whose session is over: their locks can be taken.

        A server that was started a moment ago has no sessions yet, so no worker counts as dead then.
        """
        rows = self._execute("SELECT clock_timestamp() - pg_postmaster_start_time() < make_interval(secs => %s)", grace)
        if not workers or rows[0][0]:
            return []
        found = []
        for worker in workers:
            rows = self._execute("SELECT pg_try_advisory_xact_lock(%s)", lock_of(worker))
            if rows[0][0]:
                found.append(worker)
        return found

    def take_over(self, workers: Sequence[str]) -> TakenOver:
        """Park what dead workers may have sent, and queue the rest."""
        parked = queued = 0
        for row in self._select("state = 1 AND worker = ANY(%s)", list(workers)):
            if row.state != RUNNING:  # it was settled in this transaction
                continue
            if row.sent:
                self._settle(row, PARKED, {}, None, self.totals.park(row.use))
                parked += 1
            else:
                self._queue(row)
                queued += 1
        self.flush()
        return TakenOver(parked=parked, queued=queued)

    # -- changes of a row --------------------------------------------------------------------------------------------

    def _queue(self, row: Row, attempts: int | None = None) -> None:
        """Queue a prompt again. What it cost or may have cost stays counted, as spent."""
        self.totals.queue_again(row.use)
        self.totals.move(row.state, QUEUED)
        row.state, row.worker, row.claim, row.sent = QUEUED, None, None, False
        row.attempts = row.attempts if attempts is None else attempts
        row.use, row.cost_usd, row.sequence, row.result = PromptUse(), None, 0, None
        row.changed = True

    def _send(self, row: Row, result: JsonObject) -> None:
        """Take a prompt from its worker, and keep its claim and what was reserved for it."""
        self.totals.move(row.state, SENT)
        row.state, row.worker, row.result, row.changed = SENT, None, dumps(result), True

    def _settle(self, row: Row, state: int, result: JsonObject, cost: float | None, used_usd: float = 0.0) -> None:
        self.totals.sequence += 1
        self.totals.move(row.state, state)
        row.state, row.worker, row.cost_usd, row.sequence = state, None, cost, self.totals.sequence
        row.use, row.result, row.changed = replace(row.use, reserved_usd=0.0, used_usd=used_usd), dumps(result), True


def key_of(name: str) -> bytes:
    """Return what a batch is found by: a name may be longer than an index takes."""
    import hashlib

    return hashlib.sha256(to_bytes(name)).digest()


def queue_of(layout: Layout, number: int) -> str:
    """Return the name of DBOS's queue of a batch, with which the ids of its workflows begin."""
    return f"{layout.name}/{number}"


def unknown(name: str) -> UnknownNameError:
    return UnknownNameError(f"there is no batch {name!r}; `afk batch list --engine dbos` shows them")


def create(
    workflows: Workflows, layout: Layout, name: str, created: str, afk: str, settings: JsonObject, limits: BatchLimits
) -> None:
    """Make a batch and its queue; nothing happens if it is there."""
    query = (
        "INSERT INTO {s}.batch (key, name, created, afk, settings, limits, totals) VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (key) DO NOTHING RETURNING number"
    )
    values = (
        key_of(name),
        to_bytes(name),
        created,
        afk,
        dumps(settings),
        encoded(limits).decode(),
        encoded(BatchTotals()).decode(),
    )
    rows = workflows.connection.execute(layout.query(query), values).fetchall()
    if rows:
        workflows.register(queue_of(layout, rows[0][0]))

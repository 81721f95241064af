"""The engine: batches in PostgreSQL, shared by processes on many machines.

What comes while one transaction is in progress joins the next. The statements run on an operating-system thread,
because the server may take long; another one looks after the locks of the workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final, TypeVar

from afk_engine_dbos.reading import Reading
from afk_engine_dbos.rows import RUNNING, prompt_info_of
from afk_engine_dbos.server import NoTablesError, Server, Session, WorkerLocks
from afk_engine_dbos.unit import BatchUnit, create, unknown
from afk_engine_dbos.workflows import Workflows
from afkcli.plugin import (
    AfkError,
    BatchInfo,
    BatchLimits,
    Claimed,
    EngineError,
    Grant,
    JsonObject,
    News,
    Outcome,
    PromptInfo,
    PromptState,
    QueuedPrompt,
    Reservation,
    SettledPrompt,
    Struct,
    Submitted,
    TakenOver,
    Used,
    rfc3339,
    uuid7,
)

T = TypeVar("T")

POLL_SECONDS: Final = 0.1
"""How often a waiting call looks whether another process has written."""
LOCK_SECONDS: Final = 1.0
"""How often the locks of the workers are looked after."""
GRACE_SECONDS: Final = 15.0
"""For so long after the start of the server no worker counts as dead: they need a moment to take their locks again."""
MAX_ID_CHARS: Final = 200


class _Write(Struct):
    operation: Callable[[BatchUnit], Any]
    ids: Sequence[str]
    done: asyncio.Future[Any]


class DbosEngine:
    """Keeps batches in a database.

    Args:
        url: a connection string of libpq, or "".
        schema: the schema of our tables.
        dbos_schema: the schema of DBOS's tables; "" is `<schema>_dbos`.
        wait_timeout: seconds that a call waits for a server that is away.
        grace: for so many seconds after the start of the server no worker counts as dead.

    Raises:
        EngineError: the connection string cannot be used.
    """

    name = "dbos"

    def __init__(
        self,
        url: str = "",
        *,
        schema: str = "afk_batches",
        dbos_schema: str = "",
        wait_timeout: float = 60.0,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._server = Server(url, schema, dbos_schema or f"{schema}_dbos", wait_timeout)
        self._grace = grace
        self._afk = version("afkcli")
        self._session = Session(self._server)
        self._locks = WorkerLocks(self._server)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="afk-dbos")
        self._lock_thread = ThreadPoolExecutor(1, thread_name_prefix="afk-dbos-locks")
        self._looking_after: asyncio.Task[None] | None = None
        self._is_closed = False
        self._pending: dict[str, list[_Write]] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    # -- the batch ---------------------------------------------------------------------------------------------------

    async def create(self, name: str, settings: JsonObject, limits: BatchLimits) -> BatchInfo:
        created = rfc3339(time.time())

        def make(workflows: Workflows, again: bool) -> BatchInfo:
            create(workflows, self._server.layout, name, created, self._afk, settings, limits)
            unit = BatchUnit(workflows, self._server.layout, name)
            unit.set(settings, limits, self._afk)
            info = Reading(workflows, self._server.layout).batch(name)
            assert info is not None
            return info

        return await self._call(lambda: self._session.run(make, makes_tables=True))

    async def batch(self, name: str) -> BatchInfo | None:
        try:
            return await self._read(lambda reading: reading.batch(name))
        except NoTablesError:
            return None

    async def batches(self) -> Sequence[BatchInfo]:
        try:
            return await self._read(lambda reading: reading.batches())
        except NoTablesError:
            return []

    async def pause(self, name: str, reason: str) -> None:
        await self._write(name, lambda unit: unit.pause(reason))

    async def remove(self, name: str) -> None:
        def delete(workflows: Workflows, again: bool) -> None:
            if Reading(workflows, self._server.layout).batch(name) is None:
                return
            unit = BatchUnit(workflows, self._server.layout, name)
            workers = unit.workers()
            if set(workers) != set(unit.dead(workers, self._server.key_of, self._grace)):
                raise EngineError(f"the batch {name} is running; stop it first, with afk batch cancel")
            unit.delete()

        with suppress(NoTablesError):
            await self._call(lambda: self._session.run(delete))

    # -- the prompts -------------------------------------------------------------------------------------------------

    async def submit(self, name: str, prompts: Sequence[QueuedPrompt], *, replace: bool = False) -> Submitted:
        odd = next((prompt.id for prompt in prompts if not 0 < len(prompt.id) <= MAX_ID_CHARS), None)
        if odd is not None:
            raise EngineError(f"an id has 1 to {MAX_ID_CHARS} characters (got {odd[:80]!r})")
        return await self._write(name, lambda unit: unit.submit(prompts, replace))

    async def prompts(self, name: str, *, after: int = -1, limit: int = 1000) -> Sequence[PromptInfo]:
        rows = await self._read_of(name, lambda reading: reading.prompts(name, after, limit))
        return [prompt_info_of(row) for row in rows]

    async def outcomes(self, name: str, ids: Sequence[str]) -> Sequence[SettledPrompt]:
        return await self._read_of(name, lambda reading: reading.outcomes(name, ids))

    async def watch(self, name: str, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> News:
        deadline = time.monotonic() + wait_s
        while True:
            news = await self._read_of(name, lambda reading: reading.watch(name, after, limit))
            if news.outcomes or time.monotonic() >= deadline:
                return news
            await asyncio.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0.001)))

    async def retry(self, name: str, states: Collection[PromptState], ids: Collection[str] | None = None) -> int:
        return await self._write(name, lambda unit: unit.retry(states, ids))

    async def cancel(self, name: str, ids: Collection[str] | None = None) -> int:
        return await self._write(name, lambda unit: unit.cancel(ids))

    # -- the workers -------------------------------------------------------------------------------------------------

    async def join(self, worker: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._lock_thread, self._locks.hold, worker)
        if self._looking_after is None:
            self._looking_after = asyncio.ensure_future(self._look_after_locks())

    async def _look_after_locks(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOCK_SECONDS)
            await loop.run_in_executor(self._lock_thread, self._locks.check)

    async def claim(self, name: str, worker: str, limit: int, *, wait_s: float = 0.0) -> Claimed:
        deadline = time.monotonic() + wait_s
        while True:
            claimed = await self._claim(name, worker, limit)
            if claimed.prompts or claimed.is_over or time.monotonic() >= deadline:
                return claimed
            while not await self._is_worth_a_claim(name):
                if time.monotonic() >= deadline:
                    return claimed
                await asyncio.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0.001)))

    async def _claim(self, name: str, worker: str, limit: int) -> Claimed:
        tag = str(uuid7())

        def claim(unit: BatchUnit) -> Claimed:
            prompts = unit.claim(worker, limit, tag, self._afk)
            return Claimed(prompts=prompts, is_over=not prompts and unit.is_over())

        return await self._write(name, claim)

    async def _is_worth_a_claim(self, name: str) -> bool:
        """Return whether a claim would say something new; it is read without the lock of the batch."""
        info = await self._read(lambda reading: reading.batch(name))
        if info is None or info.paused is not None:
            return True
        queued, running = info.counts.get(PromptState.QUEUED, 0), info.counts.get(PromptState.RUNNING, 0)
        most = info.limits.concurrency
        return not queued + running or bool(queued and (most is None or running < most))

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        ids = [asked.id for asked in reservations]
        return await self._write(name, lambda unit: [unit.reserve(asked) for asked in reservations], ids)

    async def use(self, name: str, used: Sequence[Used]) -> None:
        def use(unit: BatchUnit) -> None:
            for item in used:
                unit.use(item)

        await self._write(name, use, [item.id for item in used])

    async def slow_down(self, name: str, model: str, seconds: float) -> None:
        await self._write(name, lambda unit: unit.slow_down(model, seconds))

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> Sequence[str]:
        ids = [item.id for item in outcomes]
        return await self._write(name, lambda unit: [item.id for item in outcomes if not unit.settle(item)], ids)

    async def take_over(self, name: str) -> TakenOver:
        info = await self._read_of(name, lambda reading: reading.batch(name))
        if info is not None and not info.counts.get(PromptState.RUNNING):
            return TakenOver()

        def take_over(unit: BatchUnit) -> TakenOver:
            if not unit.totals.counts[RUNNING]:
                return TakenOver()
            dead = unit.dead(unit.workers(), self._server.key_of, self._grace)
            return unit.take_over(dead) if dead else TakenOver()

        return await self._write(name, take_over)

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        while self._working:
            await asyncio.wait(list(self._working.values()))
        if self._looking_after is not None:
            self._looking_after.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking_after
            self._looking_after = None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._lock_thread, self._locks.release)
        await loop.run_in_executor(self._thread, self._session.close)
        self._lock_thread.shutdown()
        self._thread.shutdown()

    # -- calls of the server -----------------------------------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _read(self, read: Callable[[Reading], T]) -> T:
        layout = self._server.layout
        return await self._call(lambda: self._session.run(lambda workflows, again: read(Reading(workflows, layout))))

    async def _read_of(self, name: str, read: Callable[[Reading], T]) -> T:
        """As `_read`, where a batch must be there."""
        try:
            return await self._read(read)
        except NoTablesError:
            raise unknown(name) from None

    async def _write(self, name: str, operation: Callable[[BatchUnit], T], ids: Sequence[str] = ()) -> T:
        """Run `operation` in a transaction, and return what it returns once it is durable.

        If the task is cancelled the operation may be carried out all the same.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.setdefault(name, []).append(_Write(operation, ids, done))
        if name not in self._working:
            self._working[name] = asyncio.ensure_future(self._work(name))
        return await done

    async def _work(self, name: str) -> None:
        try:
            while self._pending.get(name):
                await asyncio.sleep(0)  # what comes in the same turn of the loop joins
                writes = self._pending.pop(name)
                await self._carry_out(name, writes)
        finally:
            del self._working[name]
            for write in self._pending.pop(name, []):  # the loop is closing
                write.done.cancel()

    async def _carry_out(self, name: str, writes: list[_Write]) -> None:
        def transaction(workflows: Workflows, again: bool) -> list[Any]:
            unit = BatchUnit(workflows, self._server.layout, name, again)
            unit.load(id_ for write in writes for id_ in write.ids)
            results = [_result(write, unit) for write in writes]
            unit.finish()
            return results

        try:
            results = await self._call(lambda: self._session.run(transaction))
        except NoTablesError:
            results = [unknown(name)] * len(writes)
        except AfkError as error:
            results = [error] * len(writes)
        for write, result in zip(writes, results, strict=True):
            if write.done.done():  # its task was cancelled
                continue
            if isinstance(result, AfkError):
                write.done.set_exception(result)
            else:
                write.done.set_result(result)


def _result(write: _Write, unit: BatchUnit) -> Any:
    try:
        return write.operation(unit)
    except AfkError as error:  # raised before anything was written
        return error

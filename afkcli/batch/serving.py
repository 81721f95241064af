"""A worker that serves all batches of an engine until it is stopped: `afk batch worker`.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from afkcli.batch.engines import MakeEngine
from afkcli.batch.prompt import defaults_from_json
from afkcli.batch.running import worker_name
from afkcli.batch.worker import Worker, WorkerPlan
from afkcli.core.contract.engine import BatchInfo, Engine, PromptState
from afkcli.core.contract.errors import AfkError
from afkcli.core.contract.structs import FrozenStruct, Struct

if TYPE_CHECKING:
    from afkcli.wiring.setup import Setup

_LOOK_S: Final = 0.5
"""How often the worker looks for batches."""
_TAKE_OVER_S: Final = 5.0
_TRY_AGAIN_S: Final = 10.0
"""How long a batch is left alone that this worker could not run."""


class ServicePlan(FrozenStruct, kw_only=True):
    """What a worker serves.

    Args:
        batches: the names of the batches; all of the engine if there are none.
        at_once: how many prompts of each batch it has in flight at most.
        ends: whether it ends when nothing of them is queued or running.
    """

    batches: tuple[str, ...] = ()
    at_once: int
    ends: bool = False


class _Served(Struct):
    worker: Worker
    task: asyncio.Task[None]


class Service:
    """Runs prompts of batches. The first stop signal has it finish what is in flight, the second one ends it at once.

    Args:
        setup: the setup of the process.
        make: makes the engine.
        plan: what is served.
        say: takes a line for a person.
    """

    def __init__(self, setup: Setup, make: MakeEngine, plan: ServicePlan, say: Callable[[str], None]) -> None:
        self._setup = setup
        self._make = make
        self._plan = plan
        self._say = say
        self._served: dict[str, _Served] = {}
        self._not_before: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._signals = 0
        self._started = 0
        self._wake = asyncio.Event()

    async def run(self, stop_signals: Sequence[int]) -> None:
        """Serve until a stop signal, or until nothing is left if the plan says so.

        Raises:
            AfkError: the engine cannot be used at all.
        """
        loop = asyncio.get_running_loop()
        for number in stop_signals:
            loop.add_signal_handler(number, self._stop, number)
        engine = self._make()
        try:
            await engine.batches()  # what cannot be reached at the start is not waited for
            await self._serve(engine)
        finally:
            for served in self._served.values():
                served.worker.drain()
            if self._served:
                await asyncio.wait([served.task for served in self._served.values()])
            await engine.aclose()

    async def _serve(self, engine: Engine) -> None:
        looked = 0.0
        while not self._signals:
            found: Sequence[BatchInfo] | None = None
            try:
                found = self._of_plan(await engine.batches())
                if time.monotonic() - looked > _TAKE_OVER_S:
                    await self._take_over(engine, found)
                    looked = time.monotonic()
            except AfkError as error:  # the database is away: what is in flight waits for it too
                self._say_once("", str(error))
            if found is not None:
                self._said.pop("", None)
                self._start(found)
                if self._plan.ends and not self._served and not any(_is_open(batch) for batch in found):
                    return
            self._wake.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_S)

    def _of_plan(self, found: Sequence[BatchInfo]) -> list[BatchInfo]:
        names = self._plan.batches
        return [batch for batch in found if not names or batch.name in names]

    async def _take_over(self, engine: Engine, found: Sequence[BatchInfo]) -> None:
        for batch in found:
            if batch.counts.get(PromptState.RUNNING):
                taken = await engine.take_over(batch.name)
                if taken.parked or taken.queued:
                    self._say(
                        f"{batch.name}: a worker died; {taken.parked} prompts parked, {taken.queued} queued again"
                    )

    def _start(self, found: Sequence[BatchInfo]) -> None:
        for batch in found:
            has_work = batch.paused is None and batch.counts.get(PromptState.QUEUED)
            if batch.settings.get("via"):  # its prompts are for the batches of a provider
                continue
            if has_work and batch.name not in self._served and self._may_start(batch.name):
                self._serve_one(batch)

    def _may_start(self, name: str) -> bool:
        return time.monotonic() >= self._not_before.get(name, 0.0)

    def _serve_one(self, batch: BatchInfo) -> None:
        self._started += 1
        try:
            plan = WorkerPlan(
                batch=batch.name,
                worker=worker_name(self._started),
                at_once=self._plan.at_once,
                keeps_threads=bool(batch.settings.get("threads")),
                defaults=defaults_from_json(batch.settings.get("defaults", {})),
            )
        except AfkError as error:
            self._leave(batch.name, str(error))
            return
        engine = self._make()
        worker = Worker(self._setup, engine, plan)
        task = asyncio.ensure_future(self._work(batch.name, engine, worker))
        self._served[batch.name] = _Served(worker, task)
        self._say_once(batch.name, f"{batch.name}: running")

    async def _work(self, name: str, engine: Engine, worker: Worker) -> None:
        problem: str | None = None
        try:
            await worker.run()
            problem = worker.problem
        except AfkError as error:
            problem = str(error)
        finally:
            with suppress(AfkError):
                await engine.aclose()
            del self._served[name]
            self._wake.set()
        if problem is not None:
            self._leave(name, problem)

    def _leave(self, name: str, problem: str) -> None:
        self._not_before[name] = time.monotonic() + _TRY_AGAIN_S
        self._say_once(name, f"{name}: {problem}")

    def _say_once(self, name: str, line: str) -> None:
        if self._said.get(name) != line:
            self._said[name] = line
            self._say(line)

    def _stop(self, number: int) -> None:
        self._signals += 1
        self._wake.set()
        if self._signals == 1:
            self._say("stopping: waiting for what was sent; press Ctrl-C again to end now")
            for served in self._served.values():
                served.worker.drain()
        else:
            self._say("stopped: what was sent is parked")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _is_open(batch: BatchInfo) -> bool:
    waiting = batch.counts.get(PromptState.QUEUED, 0) + batch.counts.get(PromptState.RUNNING, 0)
    return batch.paused is None and bool(waiting)

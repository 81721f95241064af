"""A worker of a batch: one event loop with many prompts in flight over one runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from afkcli.batch.gate import Gate
from afkcli.batch.gated_provider import GatedProvider
from afkcli.batch.passing_store import PassingStore
from afkcli.batch.prompt_run import PromptRunner
from afkcli.core.contract.engine import BatchInfo, ClaimedPrompt, Engine, Outcome, PromptState
from afkcli.core.contract.errors import EngineError
from afkcli.core.contract.protocols import Price, Provider
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.wiring.prices import PriceList
from afkcli.wiring.runner import Runner
from afkcli.wiring.surroundings import runner_config

if TYPE_CHECKING:
    from afkcli.batch.prompt import Defaults
    from afkcli.wiring.setup import Setup

_WAIT_S: Final = 1.0
"""How long a claim waits before it looks whether the worker is to stop."""
_TRY_AGAIN_S: Final = 0.5
_THREAD_WAIT_S: Final = 86_400.0
"""How long a prompt waits for its thread, which other prompts of the batch have before it."""


class WorkerPlan(FrozenStruct, kw_only=True):
    """What a worker does.

    Args:
        batch: the name of the batch.
        worker: its own name, which no other worker ever has.
        at_once: how many prompts it has in flight at most.
        keeps_threads: whether each prompt has a thread in the user's store.
        defaults: what the command line says for all prompts.
    """

    batch: str
    worker: str
    at_once: int
    keeps_threads: bool
    defaults: Defaults


class Worker:
    """Claims prompts, runs them and settles their outcomes until the batch is over or `drain` was called.

    `problem` is why it stopped early, in words for a person; None if it did not.
    """

    def __init__(self, setup: Setup, engine: Engine, plan: WorkerPlan) -> None:
        self.problem: str | None = None
        self._setup = setup
        self._engine = engine
        self._plan = plan
        self._gate = Gate(engine, plan.batch)
        self._draining = False
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._claiming: asyncio.Task[object] | None = None

    def drain(self) -> None:
        """Claim no more, and begin nothing that waits for its first request; what was sent is waited for."""
        self._draining = True
        self._gate.stop()
        self._freed.set()
        if self._claiming is not None:
            self._claiming.cancel()

    async def run(self) -> None:
        """Work until nothing is left.

        Raises:
            AfkError: the worker cannot begin.
        """
        info = await self._engine.batch(self._plan.batch)
        if info is None:  # it was removed
            return
        await self._engine.join(self._plan.worker)
        plan = self._plan
        prompts = PromptRunner(self._setup, self._maker(info), plan.defaults, keeps_threads=plan.keeps_threads)
        try:
            await self._work(prompts)
        finally:
            await prompts.aclose()

    def _maker(self, info: BatchInfo) -> Callable[[PassingStore | None], Runner]:
        """Return what makes a runner, in whose place requests wait for the engine; see `PromptRunner`."""
        setup, batch = replace(self._setup, notify=_once(self._setup.notify)), self._plan.batch
        prices = PriceList(setup.config.prices())

        def wrap(provider: Provider) -> Provider:
            def price(full_name: str) -> Price | None:
                return prices(full_name, provider.capabilities(full_name.partition("/")[2]))

            return GatedProvider(provider, self._engine, batch, self._gate, info.limits, price, setup.notify)

        def make(store: PassingStore | None) -> Runner:
            sinks, config = None if store is None else (), runner_config(setup, "wait", _THREAD_WAIT_S)
            return Runner(config, store=store, sinks=sinks, setup=setup, wrap=wrap)

        return make

    async def _work(self, prompts: PromptRunner) -> None:
        while not self._draining:
            free = self._plan.at_once - len(self._running)
            if free <= 0:
                self._freed.clear()
                await self._freed.wait()
                continue
            claimed = await self._claim(free)
            if claimed is None:
                continue
            for prompt in claimed:
                self._start(prompts, prompt)
            if not claimed:
                if not self._running:
                    return
                self._freed.clear()
                await self._freed.wait()
        if self._running:
            await asyncio.wait(self._running)

    async def _claim(self, free: int) -> list[ClaimedPrompt] | None:
        """Return what was claimed, nothing if the batch is over, None where it is to be asked again."""
        claiming = asyncio.ensure_future(self._engine.claim(self._plan.batch, self._plan.worker, free, wait_s=_WAIT_S))
        self._claiming = claiming
        try:
            claimed = await claiming
        except asyncio.CancelledError:
            if not self._draining:
                raise
            return None
        except EngineError as error:
            self._stop(str(error))
            return None
        finally:
            self._claiming = None
        return list(claimed.prompts) if claimed.prompts or claimed.is_over else None

    def _start(self, prompts: PromptRunner, prompt: ClaimedPrompt) -> None:
        task = asyncio.ensure_future(self._one(prompts, prompt))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._freed.set()

    async def _one(self, prompts: PromptRunner, prompt: ClaimedPrompt) -> None:
        ran = await prompts.run(prompt)
        if ran.stops is not None:
            await self._pause(ran.stops)
        await self._settle(ran.outcome)

    async def _pause(self, why: str) -> None:
        self._stop(why)
        with suppress(EngineError):  # it is said by the parent, which sees that this worker has ended early
            await self._engine.pause(self._plan.batch, why)

    def _stop(self, why: str) -> None:
        self.problem = self.problem or why
        self.drain()

    async def _settle(self, outcome: Outcome) -> None:
        """Keep an outcome; an answer that was paid is held until it can be."""
        while True:
            try:
                await self._engine.settle(self._plan.batch, [outcome])
                return
            except EngineError as error:
                self._stop(str(error))
                if outcome.state is PromptState.QUEUED:  # nothing was sent: it is taken over
                    return
                await asyncio.sleep(_TRY_AGAIN_S)


def _once(notify: Callable[[str], None]) -> Callable[[str], None]:
    """Return what passes on each line once: a thousand prompts have the same to say."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            notify(line)

    return say

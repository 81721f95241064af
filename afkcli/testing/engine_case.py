"""What the parts of the engine contract share: how an engine is made, how its time passes, how a worker dies."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from afkcli.core.contract.engine import (
    BatchLimits,
    ClaimedPrompt,
    Engine,
    Outcome,
    PromptState,
    QueuedPrompt,
    Reservation,
    SettledPrompt,
)
from afkcli.testing.store_steps import ShiftedTime

DONE, FAILED, QUEUED = PromptState.DONE, PromptState.FAILED, PromptState.QUEUED
PARKED, CANCELLED, RUNNING = PromptState.PARKED, PromptState.CANCELLED, PromptState.RUNNING
SENT = PromptState.SENT
WAIT_S = 30.0


def prompts_of(number: int, text: str = "hello", first: int = 0) -> list[QueuedPrompt]:
    return [
        QueuedPrompt(id=f"p{index}", index=index, digest=f"digest of {text}", request={"message": text, "n": index})
        for index in range(first, first + number)
    ]


def asked_for(prompt: ClaimedPrompt, **fields: Any) -> Reservation:
    return Reservation(id=prompt.id, claim=prompt.claim, model=fields.pop("model", "one/model"), **fields)


def outcome_of(prompt: ClaimedPrompt, state: PromptState = DONE, cost: float | None = 0.0, **result: Any) -> Outcome:
    return Outcome(id=prompt.id, claim=prompt.claim, state=state, result=result, cost_usd=cost)


def allowed(grants: Any) -> list[bool]:
    return [grant.allowed for grant in grants]


async def claimed_by(engine: Engine, limit: int = 100, worker: str = "w1", name: str = "b") -> list[ClaimedPrompt]:
    await engine.join(worker)
    return list((await engine.claim(name, worker, limit, wait_s=WAIT_S)).prompts)


async def request_sent(engine: Engine, prompt: ClaimedPrompt, **fields: Any) -> None:
    """Reserve a request until it is allowed, which takes no longer than some tries."""
    for _ in range(100):
        (grant,) = await engine.reserve("b", [asked_for(prompt, **fields)])
        if grant.allowed:
            return
        assert grant.refused is None, grant
        await asyncio.sleep(min(grant.wait_s, 0.2))
    raise AssertionError(f"a request is never allowed: {grant}")


async def batch_of(engine: Engine, number: int, **limits: Any) -> None:
    await engine.create("b", {}, BatchLimits(**limits))
    await engine.submit("b", prompts_of(number))


async def all_settled(engine: Engine, name: str = "b") -> list[SettledPrompt]:
    """Return all outcomes, two at a time, as a reader that goes on where it was."""
    found: list[SettledPrompt] = []
    while True:
        news = await engine.watch(name, after=found[-1].sequence if found else 0, limit=2)
        if not news.outcomes:
            return found
        found += news.outcomes


async def counts_of(engine: Engine, name: str = "b") -> dict[PromptState, int]:
    info = await engine.batch(name)
    assert info is not None
    return dict(info.counts)


_Test = Callable[[Any, Engine, Path], Awaitable[None]]


def with_engine(test: _Test) -> Callable[[Any, Path], None]:
    """Run a test with an engine of its own in an event loop."""

    def run(self: EngineCase, tmp_path: Path) -> None:
        path = tmp_path / "engine"

        async def body() -> None:
            engine = self.make_engine(path)
            try:
                await test(self, engine, path)
            finally:
                await engine.aclose()

        asyncio.run(body())

    run.__doc__ = test.__doc__
    return run


class EngineCase:
    """How the tests of `EngineContract` use an engine; see the head of `afkcli.testing.engine_contract`."""

    sent_by_claim: ClassVar[bool] = False

    def make_engine(self, path: Path) -> Engine:
        """Return a new engine for the batches in the folder `path`."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass by the clock that the engine counts by."""
        self._time.advance(seconds)

    def dead_worker(self, path: Path, work: Callable[[Engine], Awaitable[None]]) -> None:
        """Do `work` in another process, which then dies by SIGKILL, and wait for its end."""
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_work_and_die(self.make_engine(path), work))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the worker failed before it was killed"
        assert os.WTERMSIG(status) == signal.SIGKILL

    @pytest.fixture(autouse=True)
    def _shifted_time(self) -> Iterator[None]:
        self._time = ShiftedTime()
        self._time.start()
        yield
        self._time.stop()


async def _work_and_die(engine: Engine, work: Callable[[Engine], Awaitable[None]]) -> None:
    await work(engine)
    os.kill(os.getpid(), signal.SIGKILL)

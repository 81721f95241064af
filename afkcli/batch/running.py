"""Runs a batch on this machine: prompts go to the engine, workers run them, the results go to a file.

`submit_batch` and `attend` are called before and after the workers were forked, each in an event loop of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from afkcli.batch.awake_clock import count_awake_time
from afkcli.batch.prompt import Prompt, request_size
from afkcli.batch.provider_chunks import kept_settings
from afkcli.batch.results_file import ResultsFile
from afkcli.batch.worker import Worker, WorkerPlan
from afkcli.batch.worker_processes import BatchWorker, Orders, allow_descriptors, drain_all, kill_all, release_signals
from afkcli.core.contract.engine import (
    BatchInfo,
    BatchLimits,
    Engine,
    News,
    PromptState,
    QueuedPrompt,
)
from afkcli.core.contract.errors import AfkError, EngineError, UsageError
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.structs import FrozenStruct, Struct
from afkcli.host.ending import EndedError

if TYPE_CHECKING:
    from afkcli.wiring.setup import Setup

_SUBMITTED_AT_ONCE: Final = 1000
_SUBMITTED_BYTES: Final = 16 << 20
_WATCHED_AT_ONCE: Final = 1000
_WATCH_S: Final = 0.2
_LOOK_S: Final = 5.0
"""How often it is looked whether workers of other machines have died."""
_LEAVING: Final = "left: the batch goes on where it has workers; the same command watches it again"
_SUBMITTING: Final = "its prompts are being read"
_NAMED: Final = 3
_REOPENED: Final = 5
"""How often a file of results is written again that is deleted while its batch runs."""
_FILES, _FILES_A_PROMPT = 256, 2
"""How many files and connections a worker has open at most, and how many more for each prompt in flight."""
STOPPING: Final = "stopping: waiting for what was sent; press Ctrl-C again to end now"

MakeEngine = Callable[[], Engine]


class BatchPlan(FrozenStruct, kw_only=True):
    """What a batch is run with.

    Args:
        name: the name of the batch, by default the real path of its results.
        results: the file of the results.
        settings: what the engine keeps of it beside the prompts: plain JSON without secrets.
        limits: what all workers together may do.
        ordered: whether the results are in the order of the input.
        replaces: whether changed prompts are asked anew; else they are refused.
        retries_parked: whether parked prompts are asked again.
        max_errors: after so many failed prompts no more are asked; None for any number.
        is_sample: whether the prompts are a sample of those in the file.
    """

    name: str
    results: Path
    settings: JsonObject
    limits: BatchLimits
    ordered: bool = False
    replaces: bool = False
    retries_parked: bool = False
    max_errors: int | None = None
    is_sample: bool = False


class Submission(Struct):
    """A batch whose prompts the engine has, before any of them is asked.

    Args:
        batch: the batch.
        file: its file of results, open.
        removed: how many prompts were cancelled because the input does not have them any more.
        shares_threads: whether two prompts name the same thread.
        before: the batch as it was before the command; None if it is new.
        has_new_file: whether there was no file of results before.
    """

    batch: BatchInfo
    file: ResultsFile
    removed: int = 0
    shares_threads: bool = False
    before: BatchInfo | None = None
    has_new_file: bool = False


async def check_place(engine: Engine, plan: BatchPlan) -> None:
    """Refuse a file that is not the file of results of this batch.

    Raises:
        UsageError: it has contents, and this batch has not written them; or another batch writes to it.
    """
    before = await engine.batch(plan.name)
    place = str(plan.results)
    if before is None or before.settings.get("results") != place:
        if plan.results.exists() and plan.results.stat().st_size:
            raise UsageError(
                f"{plan.results} has contents that are not of this batch; write to another file with -o, or remove it"
            )
        for other in await engine.batches():
            if other.settings.get("results") == place and other.name != plan.name:
                raise UsageError(
                    f"{plan.results} is the file of results of the batch {other.name}; use another with -o"
                )


async def submit_batch(engine: Engine, plan: BatchPlan, prompts: Iterable[Prompt]) -> Submission:
    """Create the batch or continue it: give the engine all prompts, and take over what dead workers had.

    Prompts that are not asked yet and are no longer in the input are cancelled.

    Raises:
        UsageError: the file of results is another batch's, a prompt cannot be used, one has changed, or more prompts
            than a sample would be asked.
        AfkError: the file of results cannot be written.
    """
    await check_place(engine, plan)
    before = await engine.batch(plan.name)
    settings = kept_settings(plan.settings, before)
    has_new_file = not plan.results.exists()
    await engine.create(plan.name, settings, plan.limits)
    try:
        await engine.pause(plan.name, _SUBMITTING)
        await engine.take_over(plan.name)
        read = _Read(keeps_ids=before is not None)
        await _submit(engine, plan, read.each(prompts))
        removed = await _cancel_removed(engine, plan, read.ids)
        if plan.retries_parked:
            await engine.retry(plan.name, [PromptState.PARKED])
        file = await open_results(engine, plan)
    except AfkError:
        await _put_back(engine, plan.name, before)
        raise
    batch = await engine.create(plan.name, settings, plan.limits)
    return Submission(batch, file, removed, read.shares_threads, before, has_new_file)


async def take_back(engine: Engine, plan: BatchPlan, submission: Submission) -> None:
    """Leave nothing of a command that was refused after its prompts were submitted, if no request of it was allowed."""
    before, now = submission.before, await engine.batch(plan.name)
    if now is None or now.requests > (0 if before is None else before.requests):
        return
    if before is None and not set(now.counts) <= {PromptState.QUEUED, PromptState.RUNNING}:
        return
    await engine.take_over(plan.name)
    await _put_back(engine, plan.name, before)
    if before is None and submission.has_new_file:
        with suppress(OSError):
            if not plan.results.stat().st_size:
                plan.results.unlink()


class _Read:
    """What is to be known of the prompts that were read: their ids, and whether some have the same thread."""

    def __init__(self, *, keeps_ids: bool) -> None:
        self.ids: set[str] | None = set() if keeps_ids else None
        self.shares_threads = False
        self._threads: set[str] = set()

    def each(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        for prompt in prompts:
            if self.ids is not None:
                self.ids.add(prompt.id)
            thread = prompt.request.get("thread")
            if thread is not None:
                self.shares_threads = self.shares_threads or thread in self._threads
                self._threads.add(thread)
            yield prompt


async def _cancel_removed(engine: Engine, plan: BatchPlan, ids: set[str] | None) -> int:
    """Cancel prompts that are not asked yet and not among `ids`; return how many there were.

    Raises:
        UsageError: a sample is to be asked, and there are such prompts.
    """
    if ids is None:
        return 0
    removed, after = [], -1
    while page := await engine.prompts(plan.name, after=after, limit=_SUBMITTED_AT_ONCE):
        removed += [info.id for info in page if info.state is PromptState.QUEUED and info.id not in ids]
        after = page[-1].index
    if removed and plan.is_sample:
        raise UsageError(
            f"{len(removed):,} more prompts of this batch wait to be asked, not only a sample of them; leave out "
            "--sample, or write the results of the sample to another file with -o"
        )
    for start in range(0, len(removed), _SUBMITTED_AT_ONCE):
        await engine.cancel(plan.name, removed[start : start + _SUBMITTED_AT_ONCE])
    return len(removed)


async def _put_back(engine: Engine, name: str, before: BatchInfo | None) -> None:
    """Leave a batch as it was before a command that is refused, or remove it if it is new."""
    with suppress(EngineError):  # the reason of the refusal is said
        if before is None:
            await engine.remove(name)
            return
        await engine.create(name, before.settings, before.limits)
        if before.paused is not None:
            await engine.pause(name, before.paused)


async def open_results(engine: Engine, plan: BatchPlan) -> ResultsFile:
    """Open the file of results of a batch, before anything is asked.

    Raises:
        UsageError: it is another batch's.
        AfkError: it cannot be written.
    """
    file = ResultsFile(plan.results, plan.name, ordered=plan.ordered)
    try:
        await file.open(engine)
    except OSError as error:
        raise AfkError(cannot_be_written(plan, error)) from None
    return file


def cannot_be_written(plan: BatchPlan, error: OSError) -> str:
    return f"{plan.results} cannot be written: {error.strerror}"


async def _submit(engine: Engine, plan: BatchPlan, prompts: Iterable[Prompt]) -> None:
    changed: list[str] = []
    number = 0
    for chunk in _chunks(prompts):
        queued = [
            QueuedPrompt(id=item.id, index=item.index, digest=item.digest, request=item.request) for item in chunk
        ]
        submitted = await engine.submit(plan.name, queued, replace=plan.replaces)
        number += len(submitted.changed)
        changed += submitted.changed[: max(_NAMED - len(changed), 0)]
    if changed:
        more = f" and {number - len(changed)} more" if number > len(changed) else ""
        step = "give them new ids or another file, or ask them anew with --rerun-changed"
        if plan.replaces:  # which replaces all that no one works on
            step = "they are in progress, or at their provider; wait for their results, or give them new ids"
        raise UsageError(
            f"{number} prompt{'s have' if number > 1 else ' has'} changed under the id of an earlier one: "
            f"{', '.join(changed)}{more}; {step}"
        )


def _chunks(prompts: Iterable[Prompt]) -> Iterable[Sequence[Prompt]]:
    chunk: list[Prompt] = []
    size = 0
    for prompt in prompts:
        chunk.append(prompt)
        size += request_size(prompt.request)
        if len(chunk) == _SUBMITTED_AT_ONCE or size > _SUBMITTED_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


async def work(make: MakeEngine, setup: Setup, plan: WorkerPlan, orders: Orders) -> str | None:
    """Do the work of one worker process; return why it stopped early, or None."""
    allow_descriptors(_FILES + _FILES_A_PROMPT * plan.at_once)
    count_awake_time(asyncio.get_running_loop())
    engine = make()
    try:
        worker = Worker(setup, engine, plan)
        orders.listen(worker.drain)
        await worker.run()
        return worker.problem
    finally:
        await engine.aclose()


def worker_name(index: int) -> str:
    """Return a name for a worker that no other one has or had."""
    return f"{uuid7()}.{index}"


class Attended(Struct):
    """How a batch stands when its workers have ended. `problem` is why it stopped early, `signal` by which signal."""

    batch: BatchInfo
    problem: str | None = None
    signal: int | None = None


class Attendant:
    """Watches the workers of a batch and writes its results until the workers have ended.

    The first stop signal has the workers finish what they have in flight, the second one kills them: what they may have
    sent is parked then. A third one ends this process at once.

    Args:
        engine: the engine.
        plan: the batch.
        workers: the workers.
        file: the file of results, opened before the workers were started.
        observe: is called with what happened, several times a second.
        say: takes a line for a person.
        stopping: the line that is said at the first stop signal.
        stays: whether there may be workers on other machines, so that it watches until the batch is over; the first
            stop signal leaves the batch to them.
    """

    def __init__(
        self,
        engine: Engine,
        plan: BatchPlan,
        workers: Sequence[BatchWorker],
        *,
        file: ResultsFile,
        observe: Callable[[News], object] = lambda news: None,
        say: Callable[[str], None] = lambda line: None,
        stopping: str = STOPPING,
        stays: bool = False,
    ) -> None:
        self._stays = stays
        self._looked = 0.0
        self._engine = engine
        self._plan = plan
        self._workers = workers
        self._observe = observe
        self._say = say
        self._stopping = stopping
        self._problem: str | None = None
        self._signals: list[int] = []
        self._died = False
        self._reopened = 0
        self._file = file

    async def run(self, stop_signals: Sequence[int]) -> Attended:
        """Return how the batch stands once no worker works any more.

        Raises:
            UsageError: the file of results is another batch's.
        """
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            worker.watch(self._worker_ended)
        for number in stop_signals:
            loop.add_signal_handler(number, self._stop, number)
        release_signals(stop_signals)
        try:
            batch = await self._follow()
        except BaseException:
            kill_all(self._workers)
            raise
        finally:
            self._file.close()
        return Attended(batch, self._problem, self._signals[0] if self._signals else None)

    async def _follow(self) -> BatchInfo:
        after, failed_before = self._file.after, self._file.failed
        batch: BatchInfo | None = None
        while True:
            ending = self._is_ending(batch)
            if self._died or ending or self._is_time_to_look():
                self._died = False
                await self._engine.take_over(self._plan.name)
            wait = 0.0 if ending else _WATCH_S
            news = await self._engine.watch(self._plan.name, after=after, limit=_WATCHED_AT_ONCE, wait_s=wait)
            if news.outcomes:
                await self._write(news)
                after = news.outcomes[-1].sequence
            await self._show(news)
            batch = news.batch
            await self._count_errors(batch, failed_before)
            if ending and not news.outcomes:
                if not await self._written_again():
                    return batch
                after = self._file.after

    async def _written_again(self) -> bool:
        """Return whether the file had not the rows that it should have, and was opened once more for them."""
        if self._file.is_broken or not self._file.is_wrong:
            return False
        self._reopened += 1
        if self._reopened > _REOPENED:
            await self._pause(f"{self._plan.results} is deleted again and again")
            return False
        try:
            await self._file.open(self._engine)
        except UsageError as error:
            await self._pause(str(error))
        except OSError as error:
            await self._pause(cannot_be_written(self._plan, error))
        else:
            return True
        return False

    async def _show(self, news: News) -> None:
        """Have it shown; where that fails, as on a closed pipe, what was sent is waited for, and no more is asked."""
        try:
            self._observe(news)
        except (EndedError, AfkError) as error:
            self._observe = lambda news: None
            if isinstance(error, EndedError) and error.ending.signal is not None:
                self._signals.append(error.ending.signal)
                drain_all(self._workers)
            else:
                await self._pause(str(error))

    def _is_ending(self, batch: BatchInfo | None) -> bool:
        """Return whether nothing more is to come: no worker is left, or the batch is over or left to others."""
        if any(worker.is_alive for worker in self._workers):
            return False
        return not self._stays or bool(self._signals) or (batch is not None and _is_over(batch))

    def _is_time_to_look(self) -> bool:
        """Return whether workers of other machines may have died, which the engine has to be asked for."""
        now = time.monotonic()
        if not self._stays or now - self._looked < _LOOK_S:
            return False
        self._looked = now
        return True

    async def _write(self, news: News) -> None:
        """Write rows; where that fails the engine keeps the results, and the batch stops."""
        if self._problem is not None and self._file.is_broken:
            return
        try:
            await self._file.write(self._engine, news.outcomes)
        except OSError as error:
            await self._pause(cannot_be_written(self._plan, error))

    async def _count_errors(self, batch: BatchInfo, before: int) -> None:
        failed = batch.counts.get(PromptState.FAILED, 0) - before
        most = self._plan.max_errors
        if most is not None and failed >= most and batch.paused is None:
            await self._pause(f"{failed} prompts failed (--max-errors {most})")

    async def _pause(self, why: str) -> None:
        self._problem = self._problem or why
        with suppress(EngineError):  # the workers are stopped in any case
            await self._engine.pause(self._plan.name, why)
        drain_all(self._workers)

    def _worker_ended(self, worker: BatchWorker) -> None:
        if worker.problem is not None:
            self._problem = self._problem or worker.problem
        self._died = True

    def _stop(self, number: int) -> None:
        self._signals.append(number)
        if len(self._signals) == 1:
            leaves = not self._workers and self._stays
            self._say(_LEAVING if leaves else self._stopping)
            drain_all(self._workers)
        elif len(self._signals) == 2:
            self._say("stopped: what was sent is parked")
            kill_all(self._workers)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _is_over(batch: BatchInfo) -> bool:
    counts = batch.counts
    if batch.paused is not None:
        return not counts.get(PromptState.RUNNING)
    return not counts.get(PromptState.QUEUED) and not counts.get(PromptState.RUNNING)

"""`--via provider`: the prompts of a batch are answered by batches of their providers, later and at a lower price.

The prompts are cut into chunks, and each chunk is sent at once. A prompt is `sent` in the engine before its chunk can
be paid, and stays so, whatever becomes of this process, until the provider has said what became of it. If it is not
known whether a chunk arrived, it is looked for at the provider, and where it is not found its prompts are parked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from afkcli.batch.batching_providers import Providers
from afkcli.batch.chunk_results import ChunkResults
from afkcli.batch.prompt import Defaults
from afkcli.batch.provider_chunks import ChunkBook, ChunkRecord, chunks_in
from afkcli.batch.provider_collect import Collector, ReadyChunk, give_back, settle_all
from afkcli.batch.provider_requests import Requests, failed, lost, unanswered
from afkcli.batch.sent_prompts import (
    PAGE,
    OpenChunk,
    Place,
    claimed_of,
    places_in,
    places_of,
    sent_outcome,
    sent_prompts,
)
from afkcli.core.contract.engine import BatchInfo, ClaimedPrompt, Engine, Outcome, Reservation, SettledPrompt
from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.provider_batches import ChunkRefusedError, ChunkState, ChunkStatus, ProviderBatches
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import seen_through
from afkcli.wiring.setup import Setup

FIRST_POLL_S: Final = 5.0
MOST_POLL_S: Final = 60.0
GROWTH: Final = 1.5
"""By how much the time between two questions about a batch grows."""
LOOKS: Final = 4
"""How often a chunk is looked for whose answer was lost."""
MOST_MISSING: Final = 30
"""How often in a row a batch, or its results, may not be there; then the prompts that are left are parked."""
MOST_UNREACHED: Final = 5
"""How often in a row a chunk is sent to a server that cannot be reached."""
_LATER: Final = (ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED, ErrorKind.NETWORK, ErrorKind.TIMEOUT)
_TOO_LARGE: Final = 413

LOST_CHUNK: Final = (
    "the answer of the provider was lost, and the batch is not in its list, so it may have been paid; "
    "ask it again with --retry-parked"
)
LOST_RESULT: Final = "the provider has no result for it, so it may have been paid; ask it again with --retry-parked"


class Via(FrozenStruct, kw_only=True):
    """What is run, and how.

    Args:
        batch: the name of the batch.
        worker: a name for this worker, which no other ever has.
        defaults: what the command line says for all prompts.
        folder: where files of requests are kept until they are sent.
        poll_s: the longest time between two questions about a batch, in seconds.
        waits: whether it works until all is answered; else it ends once it has looked at what was sent before, and has
            sent what it could.
    """

    batch: str
    worker: str
    defaults: Defaults
    folder: Path
    poll_s: float = MOST_POLL_S
    waits: bool = True


class ProviderDriver:
    """Sends the prompts of a batch to the batches of their providers, and settles what comes back.

    `problem` is why it stopped early, in words for a person; None if it did not.

    Args:
        setup, engine: the config and the plugins, and where the batch is kept.
        via: what is run.
        say: takes a line for a person.
    """

    def __init__(self, setup: Setup, engine: Engine, via: Via, say: Callable[[str], None]) -> None:
        self.problem: str | None = None
        self._setup = setup
        self._engine = engine
        self._via = via
        self._say = say
        self._providers = Providers(setup)
        self._requests = Requests(setup, via.defaults, self._providers.price_factor)
        self._collector = Collector(
            setup, engine, via.batch, via.worker, self._requests, self._providers.both, via.folder
        )
        mask = setup.invocation.secrets.mask
        self._results = ChunkResults(engine, via.batch, self._requests, mask)
        self._draining = asyncio.Event()
        self._book = ChunkBook(engine, via.batch, {})
        self._ready: list[ReadyChunk] = []
        self._open: dict[str, OpenChunk] = {}
        self._collect_at: float | None = 0.0
        self._is_short = False
        self._is_held_up = False

    def drain(self) -> None:
        """Send nothing more and ask nothing more; what was sent stays at the provider."""
        self._draining.set()

    async def run(self) -> None:
        """Work until nothing is left, or `drain` was called.

        Raises:
            AfkError: a prompt cannot be answered in this way, or the engine failed.
        """
        info = await self._engine.batch(self._via.batch)
        if info is None:  # it was removed
            return
        await self._engine.join(self._via.worker)
        self._book = ChunkBook(self._engine, self._via.batch, chunks_in(info.settings))
        try:
            await self._recover()
            await self._work()
        finally:
            await self._leave()

    async def _leave(self) -> None:
        for chunk in list(self._ready):
            record = self._book.chunks.get(chunk.key)
            if record is None or record.refused:
                await self._drop_ready(chunk)
        await self._requests.aclose()
        await self._providers.aclose()

    async def _work(self) -> None:
        while not self._draining.is_set():
            now = time.monotonic()
            if self._collect_at is not None and now >= self._collect_at and not self._ready:
                await self._collect()
            for ready in [chunk for chunk in self._ready if now >= chunk.due]:
                if not self._draining.is_set():
                    await self._send(ready)
            for chunk in [chunk for chunk in self._open.values() if now >= chunk.due]:
                if not self._draining.is_set():
                    await self._look(chunk)
            if self._is_over():
                return
            await self._rest()

    def _is_over(self) -> bool:
        """Return whether nothing is left to do, or nothing that can be done without a wait."""
        if self._ready or self._collect_at is not None:
            return not self._via.waits and self._is_held_up
        now = time.monotonic()
        return all(chunk.due > now for chunk in self._open.values()) if not self._via.waits else not self._open

    async def _rest(self) -> None:
        """Wait until something is due, or `drain` is called."""
        times = [chunk.due for chunk in self._ready] + [chunk.due for chunk in self._open.values()]
        if self._collect_at is not None and not self._ready:
            times.append(self._collect_at)
        seconds = max(min(times, default=0.0) - time.monotonic(), 0.0)
        try:
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        except TimeoutError:
            pass

    # -- sending -------------------------------------------------------------------------------------------------------

    async def _collect(self) -> None:
        """Make chunks of what is queued; nothing is sent before all prompts were looked at."""
        self._collect_at = None
        info = await self._info()
        collected = await self._collector.collect(info.limits, info.cost_usd + info.reserved_usd, self._draining.is_set)
        self._ready += collected.chunks
        self._is_short = collected.is_short
        if collected.is_short and not self._ready and not self._open:
            await self._stop("--max-cost is reached")

    async def _send(self, ready: ReadyChunk) -> None:
        """Send a chunk: its prompts are durably `sent` before the request leaves that is paid."""
        provider, batches = self._providers.both(ready.provider)
        chunk = ready.chunk()
        await (
            provider.prepare()
        )  # an SDK is imported now, so that the moment is short in which a chunk may be on its way
        try:
            uploaded = await self._unless_draining(batches.upload(chunk))
        except ProviderError as error:
            await self._refused(ready, error)
            return
        if uploaded is None:
            return
        record = ChunkRecord(
            provider=ready.provider, group=ready.group, count=chunk.count, made=ready.made, uploaded=uploaded
        )
        await self._book.put(ready.key, record)
        if not await self._mark_sent(ready):  # nothing was sent, so nothing is paid
            await self._book.change(ready.key, refused=True)
            await self._drop_ready(ready)
            self._draining.set()
            return
        try:
            # Seen through, although this task is cancelled meanwhile: whether it arrived has to be known.
            batch = await seen_through(asyncio.ensure_future(batches.submit(chunk, uploaded)))
        except ChunkRefusedError as error:
            await self._book.change(ready.key, refused=True)
            await self._remove_upload(batches, uploaded)
            await self._refused(ready, error)
            return
        except ProviderError as error:
            self._say(f"it is not known whether {ready.provider} has taken a batch of {chunk.count:,} prompts: {error}")
            self._ready.remove(ready)
            await self._find(ready.key, places_in(ready))
            return
        self._ready.remove(ready)
        await self._book.change(ready.key, batch=batch)
        ready.path.unlink(missing_ok=True)
        self._say(f"{ready.provider} has taken {chunk.count:,} prompts as the batch {batch}")
        self._follow(ready.key, places_in(ready))

    async def _mark_sent(self, ready: ReadyChunk) -> bool:
        """Make the prompts of a chunk `sent`; return False if the batch was stopped, or has no money left."""
        if ready.is_sent:  # since the last time
            return True
        reservations = [
            Reservation(
                id=member.prompt.id,
                claim=member.prompt.claim,
                model=f"{ready.provider}/{member.model}",
                cost_usd=member.usd,
            )
            for member in ready.members
        ]
        for start in range(0, len(reservations), PAGE):
            grants = await self._engine.reserve(self._via.batch, reservations[start : start + PAGE])
            if not all(grant.allowed for grant in grants):
                return False
        outcomes = [sent_outcome(ready, number, member) for number, member in enumerate(ready.members)]
        await settle_all(self._settle, outcomes)
        ready.is_sent = True
        return True

    async def _refused(self, ready: ReadyChunk, error: ProviderError) -> None:
        """Send a chunk again later, or in two parts, or not at all."""
        ready.failures += 1
        unreached = error.kind in (ErrorKind.NETWORK, ErrorKind.TIMEOUT) and not self._open
        if error.status == _TOO_LARGE and len(ready.members) > 1:
            self._collector.most[ready.provider] = len(ready.members) // 2
            await self._drop_ready(ready)
            self._collect_at = time.monotonic()
        elif error.kind not in _LATER or (unreached and ready.failures >= MOST_UNREACHED):
            await self._drop_ready(ready)
            await self._stop(str(error))
        else:
            seconds = self._pause_after(ready.failures, error.retry_after)
            ready.due = time.monotonic() + seconds
            self._is_held_up = True
            later = f"sending it again in {seconds:.0f} s" if self._via.waits else "the same command sends it again"
            self._say(f"{error}; {later}")

    async def _drop_ready(self, ready: ReadyChunk) -> None:
        """Give the prompts of a chunk back that was not taken."""
        self._ready.remove(ready)
        ready.path.unlink(missing_ok=True)
        await give_back(self._engine, self._via.batch, [member.prompt for member in ready.members])
        if ready.key in self._book.chunks:
            await self._forget(ready.key)

    def _pause_after(self, failures: int, retry_after: float | None) -> float:
        grown: float = min(FIRST_POLL_S, self._via.poll_s) * GROWTH ** (failures - 1)
        return max(min(grown, self._via.poll_s), retry_after or 0.0)

    # -- what was sent before ------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Go on with the chunks that another process has sent."""
        sent = await sent_prompts(self._engine, self._via.batch) if self._book.chunks else {}
        for key, record in list(self._book.chunks.items()):
            prompts = sent.get(key, [])
            if record.refused:
                await self._forget_refused(key, prompts)
            elif not prompts:  # nothing was sent yet, or all is settled
                await self._forget(key)
            elif record.batch:
                self._follow(key, places_of(prompts))
                self._open[key].due = time.monotonic()  # what is ready is taken at once
            else:
                await self._find(key, places_of(prompts))

    async def _find(self, key: str, places: dict[str, Place]) -> None:
        """Look for the batch of a chunk whose answer was lost; where it is not found, its prompts are parked."""
        record = self._book.chunks[key]
        batches = self._providers.batches(record.provider)
        chunk = record.chunk(key, self._via.folder / f"{key}.jsonl")
        for look in range(LOOKS):
            try:
                found = await batches.find(chunk, record.uploaded, self._book.taken())
            except ProviderError as error:
                if look == LOOKS - 1:
                    self.problem = f"{error}; the batch is looked for when the same command runs again"
                    return
                found = None
            if found is not None:
                await self._book.change(key, batch=found.id, certain=found.is_certain)
                self._say(f"{record.provider} has taken {record.count:,} prompts as the batch {found.id}")
                self._follow(key, places)
                return
            if look < LOOKS - 1 and await self._waited(self._pause_after(look + 1, None)):
                return
        self._say(f"{record.count:,} prompts are parked: {LOST_CHUNK}")
        await self._end(OpenChunk(key, places), lambda prompt: lost(prompt, LOST_CHUNK))

    async def _forget_refused(self, key: str, prompts: Sequence[SettledPrompt]) -> None:
        """Queue the prompts of a chunk again that its provider has refused."""
        await give_back(self._engine, self._via.batch, [claimed_of(prompt) for prompt in prompts])
        await self._forget(key)

    async def _forget(self, key: str) -> None:
        """Forget a chunk of which nothing is open, and what was uploaded for it."""
        record = self._book.chunks[key]
        await self._remove_upload(self._providers.batches(record.provider), record.uploaded)
        (self._via.folder / f"{key}.jsonl").unlink(missing_ok=True)
        await self._book.drop(key)

    async def _remove_upload(self, batches: ProviderBatches, uploaded: str) -> None:
        if uploaded:
            try:
                await batches.remove(uploaded)
            except ProviderError as error:
                self._say(f"the file {uploaded} is left at the provider: {error}")

    # -- what comes back -----------------------------------------------------------------------------------------------

    def _follow(self, key: str, places: dict[str, Place]) -> None:
        interval = min(FIRST_POLL_S, self._via.poll_s)
        self._open[key] = OpenChunk(key, places, due=time.monotonic() + interval, interval=interval)

    async def _look(self, chunk: OpenChunk) -> None:
        """Ask how far a chunk is, and take its results if it has ended."""
        record = self._book.chunks[chunk.key]
        batches = self._providers.batches(record.provider)
        try:
            status = await self._unless_draining(batches.status(record.batch))
            if status is None:
                return
            if status.state is ChunkState.ENDED:
                await self._take_results(chunk, record, status, batches)
            elif status.state is ChunkState.REFUSED:
                await self._take_refusal(chunk, record, status)
            else:
                chunk.missing = 0
                self._later(chunk, None)
        except ProviderError as error:
            await self._missing(chunk, error)

    async def _missing(self, chunk: OpenChunk, error: ProviderError) -> None:
        """Ask again later about a batch that the provider did not tell of."""
        if error.kind is ErrorKind.NOT_FOUND:
            chunk.missing += 1
            if chunk.missing >= MOST_MISSING:
                self._say(f"{error}; its prompts are parked")
                await self._end(chunk, lambda prompt: lost(prompt, LOST_RESULT))
                return
        elif error.kind not in (*_LATER, ErrorKind.TRUNCATED):
            await self._stop(str(error))
            return
        self._later(chunk, error.retry_after)

    def _later(self, chunk: OpenChunk, retry_after: float | None) -> None:
        chunk.interval = min(chunk.interval * GROWTH, self._via.poll_s)
        chunk.due = time.monotonic() + max(chunk.interval, retry_after or 0.0)

    async def _take_refusal(self, chunk: OpenChunk, record: ChunkRecord, status: ChunkStatus) -> None:
        """Take note that a provider has refused a chunk after it had taken it; nothing of it is paid."""
        error = status.error or ProviderError("the provider refused the batch", kind=ErrorKind.BAD_REQUEST)
        self._open.pop(chunk.key)
        if error.kind in _LATER:
            await self._book.change(chunk.key, refused=True)
            if not self._open:  # it does not fit, even alone
                self._collector.most[record.provider] = max(record.count // 2, 1)
            await self._forget_refused(
                chunk.key, (await sent_prompts(self._engine, self._via.batch)).get(chunk.key, [])
            )
            seconds = self._pause_after(6, error.retry_after)
            later = f"in {seconds:.0f} s" if self._via.waits else "by the same command"
            self._say(f"{error}; {record.count:,} prompts are sent again {later}")
            self._collect_at = time.monotonic() + seconds
            self._is_held_up = True
            return
        await self._end(chunk, lambda prompt: failed(prompt, error, record.made, time.time()))
        if error.kind is ErrorKind.AUTH:
            await self._stop(str(error))

    async def _take_results(
        self, chunk: OpenChunk, record: ChunkRecord, status: ChunkStatus, batches: ProviderBatches
    ) -> None:
        """Settle what a provider says of the requests of a chunk; those without a result may have been paid."""
        if status.unanswered:
            what = status.unanswered
            await self._end(chunk, lambda prompt: unanswered(prompt, what, record.made, time.time()))
            return
        await self._results.take(chunk, record, batches)
        if chunk.places:
            count = len(chunk.places)
            self._say(f"{record.provider} has no result for {count:,} of {record.count:,} prompts; they are parked")
        await self._end(chunk, lambda prompt: lost(prompt, LOST_RESULT))

    async def _end(self, chunk: OpenChunk, outcome_of: Callable[[ClaimedPrompt], Outcome]) -> None:
        """Settle what is left of a chunk, and forget it. Once money comes back, what was too dear is tried again."""
        await self._results.settle_rest(chunk, outcome_of)
        self._open.pop(chunk.key, None)
        await self._forget(chunk.key)
        if self._is_short and self._collect_at is None:
            self._collect_at = time.monotonic()

    # -- small things --------------------------------------------------------------------------------------------------

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        await self._engine.settle(self._via.batch, outcomes)

    async def _info(self) -> BatchInfo:
        info = await self._engine.batch(self._via.batch)
        if info is None:
            raise UsageError(f"the batch {self._via.batch} was removed while it ran")
        return info

    async def _stop(self, why: str) -> None:
        self.problem = self.problem or self._setup.invocation.secrets.mask(why)
        self._draining.set()
        await self._engine.pause(self._via.batch, self.problem)

    async def _waited(self, seconds: float) -> bool:
        """Wait, and return whether `drain` was called meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        except TimeoutError:
            return False
        return True

    async def _unless_draining(self, call: Any) -> Any:
        """Return what a call returns that may be given up; None if `drain` was called before."""
        asking, stopping = asyncio.ensure_future(call), asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return await asking if asking.done() else None
        finally:
            for task in (asking, stopping):
                task.cancel()
            await asyncio.gather(asking, stopping, return_exceptions=True)

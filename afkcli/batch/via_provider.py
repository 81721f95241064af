"""`--via provider`: the prompts of a batch are answered by batches of their providers, later and at a lower price.

The prompts are cut into chunks, and each chunk is sent at once. A prompt is `sent` in the engine before its chunk can
be paid, and stays so, whatever becomes of this process, until the provider has said what became of it. If it is not
known whether a chunk arrived, it is looked for at the provider, and where it is not found its prompts are parked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, cast

from afkcli.batch.prompt import Defaults
from afkcli.batch.provider_chunks import ChunkBook, ChunkRecord, chunks_in
from afkcli.batch.provider_collect import Collector, Member, ReadyChunk, give_back, settle_all
from afkcli.batch.provider_requests import Requests, failed, lost, unanswered
from afkcli.core.contract.engine import (
    BatchInfo,
    ClaimedPrompt,
    Engine,
    Outcome,
    PromptState,
    Reservation,
    SettledPrompt,
)
from afkcli.core.contract.errors import AfkError, ErrorKind, ProviderError, UsageError
from afkcli.core.contract.messages import ModelRequest
from afkcli.core.contract.protocols import Provider
from afkcli.core.contract.provider_batches import (
    BatchingProvider,
    ChunkRefusedError,
    ChunkResult,
    ChunkState,
    ChunkStatus,
    ProviderBatches,
)
from afkcli.core.contract.structs import FrozenStruct, Struct, field
from afkcli.wiring.plugin_objects import make_provider
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
_AT_ONCE: Final = 100
_PAGE: Final = 1000
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
    """

    batch: str
    worker: str
    defaults: Defaults
    folder: Path
    poll_s: float = MOST_POLL_S


class _Place(FrozenStruct):
    """A prompt of a chunk that was sent: its id, and what its answer is read with."""

    prompt: str
    model: str
    has_schema: bool


class _Open(Struct):
    """A chunk that is at its provider. `places` has its prompts by the ids of their requests."""

    key: str
    places: dict[str, _Place] = field(default_factory=dict)
    due: float = 0.0
    interval: float = 0.0
    missing: int = 0


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
        self._draining = asyncio.Event()
        self._book = ChunkBook(engine, via.batch, {})
        self._ready: list[ReadyChunk] = []
        self._open: dict[str, _Open] = {}
        self._collect_at: float | None = 0.0
        self._is_short = False

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
            if not self._ready and not self._open and self._collect_at is None:
                return
            await self._rest()

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
        batches = self._providers.batches(ready.provider)
        chunk = ready.chunk()
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
        if not await self._mark_sent(ready):
            await self._book.change(ready.key, refused=True)
            await self._drop_ready(ready)
            self._draining.set()
            return
        try:
            batch = await _see_through(batches.submit(chunk, uploaded))
        except ChunkRefusedError as error:
            await self._book.change(ready.key, refused=True)
            await self._remove_upload(batches, uploaded)
            await self._refused(ready, error)
            return
        except ProviderError as error:
            self._say(f"it is not known whether {ready.provider} has taken a batch of {chunk.count:,} prompts: {error}")
            self._ready.remove(ready)
            await self._find(ready.key, self._places(ready))
            return
        self._ready.remove(ready)
        await self._book.change(ready.key, batch=batch)
        ready.path.unlink(missing_ok=True)
        self._say(f"{ready.provider} has taken {chunk.count:,} prompts as the batch {batch}")
        self._follow(ready.key, self._places(ready))

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
        for start in range(0, len(reservations), _PAGE):
            grants = await self._engine.reserve(self._via.batch, reservations[start : start + _PAGE])
            if not all(grant.allowed for grant in grants):
                return False
        outcomes = [_sent(ready, number, member) for number, member in enumerate(ready.members)]
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
            self._say(f"{error}; sending it again in {seconds:.0f} s")

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
        sent = await self._sent() if self._book.chunks else {}
        for key, record in list(self._book.chunks.items()):
            prompts = sent.get(key, [])
            if record.refused:
                await self._forget_refused(key, prompts)
            elif not prompts:  # nothing was sent yet, or all is settled
                await self._forget(key)
            elif record.batch:
                self._follow(key, _places_of(prompts))
            else:
                await self._find(key, _places_of(prompts))

    async def _sent(self) -> dict[str, list[SettledPrompt]]:
        """Return all prompts that are `sent`, by their chunks."""
        found: dict[str, list[SettledPrompt]] = {}
        after = -1
        while page := await self._engine.prompts(self._via.batch, after=after, limit=_PAGE):
            ids = [info.id for info in page if info.state is PromptState.SENT]
            for prompt in await self._engine.outcomes(self._via.batch, ids) if ids else ():
                found.setdefault(str(prompt.result.get("chunk")), []).append(prompt)
            after = page[-1].index
        return found

    async def _sent_in(self, key: str) -> list[SettledPrompt]:
        return (await self._sent()).get(key, [])

    async def _find(self, key: str, places: dict[str, _Place]) -> None:
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
        await self._end(_Open(key, places), lambda prompt: lost(prompt, LOST_CHUNK))

    async def _forget_refused(self, key: str, prompts: Sequence[SettledPrompt]) -> None:
        """Queue the prompts of a chunk again that its provider has refused."""
        await give_back(self._engine, self._via.batch, [_claimed_of(prompt) for prompt in prompts])
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

    def _follow(self, key: str, places: dict[str, _Place]) -> None:
        interval = min(FIRST_POLL_S, self._via.poll_s)
        self._open[key] = _Open(key, places, due=time.monotonic() + interval, interval=interval)

    async def _look(self, chunk: _Open) -> None:
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

    async def _missing(self, chunk: _Open, error: ProviderError) -> None:
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

    def _later(self, chunk: _Open, retry_after: float | None) -> None:
        chunk.interval = min(chunk.interval * GROWTH, self._via.poll_s)
        chunk.due = time.monotonic() + max(chunk.interval, retry_after or 0.0)

    async def _take_refusal(self, chunk: _Open, record: ChunkRecord, status: ChunkStatus) -> None:
        """Take note that a provider has refused a chunk after it had taken it; nothing of it is paid."""
        error = status.error or ProviderError("the provider refused the batch", kind=ErrorKind.BAD_REQUEST)
        self._open.pop(chunk.key)
        if error.kind in _LATER:
            await self._book.change(chunk.key, refused=True)
            if not self._open:  # it does not fit, even alone
                self._collector.most[record.provider] = max(record.count // 2, 1)
            await self._forget_refused(chunk.key, await self._sent_in(chunk.key))
            seconds = self._pause_after(6, error.retry_after)
            self._say(f"{error}; {record.count:,} prompts are sent again in {seconds:.0f} s")
            self._collect_at = time.monotonic() + seconds
            return
        await self._end(chunk, lambda prompt: failed(prompt, error, record.made, time.time()))
        if error.kind is ErrorKind.AUTH:
            await self._stop(str(error))

    async def _take_results(
        self, chunk: _Open, record: ChunkRecord, status: ChunkStatus, batches: ProviderBatches
    ) -> None:
        """Settle what a provider says of the requests of a chunk; those without a result may have been paid."""

        def request_of(name: str) -> ModelRequest | None:
            place = chunk.places.get(name)
            schema: dict[str, Any] | None = {} if place is not None and place.has_schema else None
            return None if place is None else ModelRequest(model=place.model, messages=(), output_schema=schema)

        if not status.unanswered:
            results: list[ChunkResult] = []
            async for result in batches.results(record.batch, request_of):
                results.append(result)
                if len(results) >= _AT_ONCE:
                    await self._answered(chunk, record, results)
                    results = []
            await self._answered(chunk, record, results)
        if chunk.places:
            count = len(chunk.places)
            if status.unanswered:
                what = status.unanswered
                await self._end(chunk, lambda prompt: unanswered(prompt, what, record.made, time.time()))
                return
            self._say(f"{record.provider} has no result for {count:,} of {record.count:,} prompts; they are parked")
        await self._end(chunk, lambda prompt: lost(prompt, LOST_RESULT))

    async def _answered(self, chunk: _Open, record: ChunkRecord, results: Sequence[ChunkResult]) -> None:
        """Settle prompts by their results; the first result of a prompt counts."""
        first: dict[str, ChunkResult] = {}
        for result in results:
            if result.id in chunk.places:
                first.setdefault(result.id, result)
        by_prompt = {chunk.places[name].prompt: result for name, result in first.items()}
        there = await self._prompts_of(chunk, by_prompt)
        outcomes = await asyncio.gather(
            *(self._outcome(_claimed_of(item), by_prompt[item.id], record) for item in there)
        )
        await settle_all(self._settle, outcomes)
        for name in first:
            chunk.places.pop(name)

    async def _outcome(self, prompt: ClaimedPrompt, result: ChunkResult, record: ChunkRecord) -> Outcome:
        if result.response is not None:
            outcome = await self._requests.answer(prompt, result.response, result.warnings)
            return _with_times(outcome, record.made)
        if result.unanswered:
            return unanswered(prompt, result.unanswered, record.made, time.time())
        error = result.error or ProviderError("the provider gave no answer", kind=ErrorKind.INTERNAL)
        return failed(prompt, self._masked(error), record.made, time.time())

    def _masked(self, error: ProviderError) -> ProviderError:
        mask = self._setup.invocation.secrets.mask
        return ProviderError(mask(str(error)), kind=error.kind, status=error.status)

    async def _end(self, chunk: _Open, outcome_of: Callable[[ClaimedPrompt], Outcome]) -> None:
        """Settle what is left of a chunk, and forget it. Once money comes back, what was too dear is tried again."""
        left = [place.prompt for place in chunk.places.values()]
        for start in range(0, len(left), _PAGE):
            there = await self._prompts_of(chunk, left[start : start + _PAGE])
            await settle_all(self._settle, [outcome_of(_claimed_of(item)) for item in there])
        self._open.pop(chunk.key, None)
        await self._forget(chunk.key)
        if self._is_short and self._collect_at is None:
            self._collect_at = time.monotonic()

    async def _prompts_of(self, chunk: _Open, ids: Collection[str]) -> list[SettledPrompt]:
        """Return those of the prompts that are still `sent` in this chunk."""
        there = await self._engine.outcomes(self._via.batch, list(ids)) if ids else ()
        return [item for item in there if item.state is PromptState.SENT and item.result.get("chunk") == chunk.key]

    # -- small things --------------------------------------------------------------------------------------------------

    def _places(self, ready: ReadyChunk) -> dict[str, _Place]:
        return {
            request_id(ready.key, number): _Place(member.prompt.id, member.model, member.has_schema)
            for number, member in enumerate(ready.members)
        }

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


class Providers:
    """The providers of a batch, and their batches, each made when it is first needed."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._made: dict[str, tuple[Provider, ProviderBatches]] = {}

    def both(self, name: str) -> tuple[Provider, ProviderBatches]:
        """Return a provider and its batches.

        Raises:
            UsageError: it has none.
        """
        if name not in self._made:
            provider = make_provider(self._setup, name)
            if not hasattr(provider, "batches"):
                raise UsageError(
                    f"the provider {name!r} has no batches; leave out --via provider, or use another model"
                )
            self._made[name] = provider, cast("BatchingProvider", provider).batches()
        return self._made[name]

    def batches(self, name: str) -> ProviderBatches:
        """Return the batches of a provider; raises as `both`."""
        return self.both(name)[1]

    def price_factor(self, name: str) -> float:
        """Return the part of its usual price that a provider takes; all of it if its batches are not used yet."""
        return self._made[name][1].limits.price_factor if name in self._made else 1.0

    async def aclose(self) -> None:
        for provider, _ in self._made.values():
            await provider.aclose()
        self._made.clear()


class Cancelled(Struct):
    """What became of the chunks of a batch that was cancelled: the ids at the provider, and what could not be done."""

    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def cancel_chunks(setup: Setup, batch: BatchInfo) -> Cancelled:
    """Ask the providers to end the batches that are open for a batch, and return what became of it.

    The prompts stay `sent` until their results are taken: some of them may have been answered.
    """
    done, providers = Cancelled(), Providers(setup)
    try:
        for record in chunks_in(batch.settings).values():
            if not record.batch or record.refused:
                continue
            if not record.certain:
                done.problems.append(
                    f"it is not certain that the batch {record.batch} at {record.provider} is this one; cancel it there"
                )
                continue
            try:
                await providers.batches(record.provider).cancel(record.batch)
                done.asked.append(record.batch)
            except AfkError as error:
                done.problems.append(f"the batch {record.batch} was not cancelled: {error}")
    finally:
        await providers.aclose()
    return done


def request_id(key: str, number: int) -> str:
    """Return the id of a request in a chunk."""
    return f"{key}-{number:06d}"


def _sent(ready: ReadyChunk, number: int, member: Member) -> Outcome:
    """Return the outcome that makes a prompt `sent`: with it another process can go on."""
    prompt = member.prompt
    result = {
        "chunk": ready.key,
        "number": number,
        "claim": prompt.claim,
        "attempt": prompt.attempt,
        "model": member.model,
        "schema": member.has_schema,
        "request": prompt.request,
    }
    return Outcome(id=prompt.id, claim=prompt.claim, state=PromptState.SENT, result=result)


def _claimed_of(prompt: SettledPrompt) -> ClaimedPrompt:
    """Return a prompt that is `sent` as it was when it was claimed."""
    kept = prompt.result
    return ClaimedPrompt(id=prompt.id, claim=kept["claim"], attempt=kept["attempt"], request=kept["request"])


def _places_of(prompts: Sequence[SettledPrompt]) -> dict[str, _Place]:
    return {
        request_id(str(prompt.result["chunk"]), int(prompt.result["number"])): _Place(
            prompt.id, str(prompt.result["model"]), bool(prompt.result["schema"])
        )
        for prompt in prompts
    }


def _with_times(outcome: Outcome, made: float) -> Outcome:
    """Return an outcome whose result says when its chunk was made, and not when the answer was read."""
    from afkcli.core.contract.ids import rfc3339
    from afkcli.core.contract.structs import replace

    return replace(outcome, result={**outcome.result, "started": rfc3339(made)})


async def _see_through(call: Any) -> Any:
    """Return what a call returns, although this task is cancelled meanwhile: whether it arrived has to be known."""
    from afkcli.core.contract.tasks import seen_through

    return await seen_through(asyncio.ensure_future(call))

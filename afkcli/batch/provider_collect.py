"""Cuts the prompts of a batch into chunks: their requests become lines of files, until a file has as many as it may."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from afkcli.batch.batching_providers import discounted
from afkcli.batch.gated_provider import INPUT_MARGIN, OUTPUT_TOKENS, unknown_price
from afkcli.batch.output_limit import limited, output_limit, said_limit, usd_of
from afkcli.batch.provider_chunks import new_key
from afkcli.batch.provider_requests import ONE_STEP, Requests, Taken, failed
from afkcli.core.contract.engine import BatchLimits, ClaimedPrompt, Engine, Outcome, PromptState, Used
from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.messages import ModelRequest
from afkcli.core.contract.protocols import Price, Provider
from afkcli.core.contract.provider_batches import Chunk, ProviderBatches
from afkcli.core.contract.structs import Struct, field
from afkcli.core.thread.trimming import tokens_of
from afkcli.host.files import make_private_folder, private_file
from afkcli.wiring.prices import PriceList
from afkcli.wiring.setup import Setup

CLAIMED_AT_ONCE: Final = 200
_SETTLED_AT_ONCE: Final = 500
_MESSAGE_TOKENS: Final = 4


class Member(Struct):
    """A prompt of a chunk: its claim, its request at the provider in brief, and what it may cost at most."""

    prompt: ClaimedPrompt
    model: str
    has_schema: bool
    usd: float


class ReadyChunk(Struct):
    """A chunk whose file is written and that is not sent yet. `due` is when it may be, by the monotonic clock."""

    key: str
    provider: str
    group: str
    path: Path
    members: list[Member] = field(default_factory=list)
    size: int = 0
    made: float = 0.0
    due: float = 0.0
    failures: int = 0
    is_sent: bool = False

    def chunk(self) -> Chunk:
        return Chunk(key=self.key, group=self.group, path=self.path, count=len(self.members), made=self.made)


class Collector:
    """Claims the queued prompts of a batch, and writes the files of chunks.

    Args:
        setup, engine, batch, worker: what is worked on.
        requests: makes the request of a prompt.
        provider_of: returns a provider by its name, and its batches.
        folder: where the files go.

    `most` has the number of requests that a chunk of a provider may have, where that is less than the provider says.
    """

    def __init__(
        self,
        setup: Setup,
        engine: Engine,
        batch: str,
        worker: str,
        requests: Requests,
        provider_of: Callable[[str], tuple[Provider, ProviderBatches]],
        folder: Path,
    ) -> None:
        self.most: dict[str, int] = {}
        self._prices = PriceList(setup.config.prices())
        self._engine = engine
        self._batch = batch
        self._worker = worker
        self._requests = requests
        self._provider_of = provider_of
        self._folder = folder
        self._found_prices: dict[str, Price | None] = {}

    async def collect(self, limits: BatchLimits, spent_usd: float, is_draining: Callable[[], bool]) -> Collected:
        """Return the chunks of all prompts that are queued, and what they may cost.

        Args:
            limits: of the batch.
            spent_usd: what was spent and reserved until now.
            is_draining: whether to stop; then nothing is kept of it.

        Raises:
            UsageError: a prompt cannot be answered by a batch of the provider. All are given back.
        """
        gathered = _Gathered(limits.max_cost_usd, spent_usd)
        try:
            while not is_draining():
                claimed = await self._engine.claim(self._batch, self._worker, CLAIMED_AT_ONCE)
                if not claimed.prompts:
                    return Collected(list(gathered.ready), gathered.has_no_money)
                gathered.claimed += claimed.prompts
                ones = (self._one(prompt, gathered) for prompt in claimed.prompts)
                for ended in await asyncio.gather(*ones, return_exceptions=True):
                    if isinstance(ended, BaseException):
                        raise ended
                if gathered.outcomes:
                    await self._settle(gathered)
                if gathered.has_no_money:
                    await give_back(self._engine, self._batch, gathered.short)
                    return Collected(list(gathered.ready), is_short=True)
            await self._undo(gathered)
            return Collected([], is_short=False)
        except BaseException:
            await self._undo(gathered)
            raise
        finally:
            gathered.close()

    async def _settle(self, gathered: _Gathered) -> None:
        await self._engine.settle(self._batch, gathered.outcomes)
        gathered.outcomes.clear()

    async def _undo(self, gathered: _Gathered) -> None:
        """Give all prompts back, and delete the files."""
        gathered.close()
        for chunk in gathered.ready:
            chunk.path.unlink(missing_ok=True)
        await give_back(self._engine, self._batch, gathered.claimed)

    async def _one(self, prompt: ClaimedPrompt, gathered: _Gathered) -> None:
        began = time.time()
        if "thread" in prompt.request:
            raise UsageError(f"{ONE_STEP}, without a thread (prompt {prompt.id}); leave out --via provider")
        collected = await self._requests.collect(prompt)
        if collected.taken is None:
            gathered.outcomes.append(collected.outcome)
            return
        taken = collected.taken
        if taken.request.tools:
            names = ", ".join(tool.name for tool in taken.request.tools[:3])
            raise UsageError(f"{ONE_STEP}, so its agent has no tools (it has {names}); leave out --via provider")
        provider, batches = self._provider_of(taken.provider)
        usd = 0.0
        if gathered.limit is not None:
            usd, taken = await self._limited(provider, batches, taken, gathered.limit)
        if not gathered.takes(usd):
            gathered.short.append(prompt)
            return
        try:
            self._add(prompt, taken, batches, usd, gathered)
        except ProviderError as error:
            gathered.outcomes.append(failed(prompt, error, began, time.time()))

    def _add(
        self, prompt: ClaimedPrompt, taken: Taken, batches: ProviderBatches, usd: float, gathered: _Gathered
    ) -> None:
        # All ids have the same length, so the length of the line is known before its chunk is.
        probe = batches.line(request_id(new_key(), 0), taken.request)
        size = len(probe.data) + 1
        limits = batches.limits
        if size > limits.max_bytes:
            raise ProviderError(
                f"the request has {size:,} bytes, and a batch of the provider takes {limits.max_bytes:,}; shorten it",
                kind=ErrorKind.BAD_REQUEST,
            )
        chunk = gathered.open.get((taken.provider, probe.group))
        most = min(limits.max_requests, self.most.get(taken.provider, limits.max_requests))
        if chunk is None or len(chunk.members) >= most or chunk.size + size > limits.max_bytes:
            chunk = gathered.begin(taken.provider, probe.group, self._folder)
        line = batches.line(request_id(chunk.key, len(chunk.members)), taken.request)
        gathered.write(chunk, line.data + b"\n")
        has_schema = taken.request.output_schema is not None
        chunk.members.append(Member(prompt, taken.request.model, has_schema, usd))

    async def _limited(
        self, provider: Provider, batches: ProviderBatches, taken: Taken, limit: float
    ) -> tuple[float, Taken]:
        """Return the most that a request may cost, and the request with the limit of its answer.

        Its input is estimated.
        """
        request = taken.request
        capabilities = provider.capabilities(request.model)
        name = f"{taken.provider}/{request.model}"
        if name not in self._found_prices:
            price = await asyncio.to_thread(self._prices, name, capabilities)
            self._found_prices[name] = None if price is None else discounted(price, batches.limits.price_factor)
        price = self._found_prices[name]
        if price is None:
            raise UsageError(f"{unknown_price(name)}, so --max-cost cannot hold")
        sent = int(_input_tokens(request) * INPUT_MARGIN) + 1
        most = said_limit(request)
        if most is None:
            most = output_limit(capabilities, price, sent, limit)
            if most is None:
                most = capabilities.max_output_tokens or OUTPUT_TOKENS
            else:
                taken = Taken(taken.provider, limited(request, most))
        return usd_of(price, sent, most), taken


class Collected(Struct):
    """Chunks that are ready, and whether the money of the batch was too short for all prompts."""

    chunks: list[ReadyChunk]
    is_short: bool


class _Gathered:
    """What one round of collecting has until now."""

    def __init__(self, limit: float | None, spent_usd: float) -> None:
        self.limit = limit
        self.ready: list[ReadyChunk] = []
        self.open: dict[tuple[str, str], ReadyChunk] = {}
        self.claimed: list[ClaimedPrompt] = []
        self.short: list[ClaimedPrompt] = []
        self.outcomes: list[Outcome] = []
        self._usd = spent_usd
        self._files: dict[str, int] = {}

    @property
    def has_no_money(self) -> bool:
        return bool(self.short)

    def takes(self, usd: float) -> bool:
        """Return whether a prompt still fits below the limit, and count it if it does."""
        if self.limit is not None and self._usd + usd > self.limit * (1 + 1e-12):
            return False
        self._usd += usd
        return True

    def begin(self, provider: str, group: str, folder: Path) -> ReadyChunk:
        """Begin a chunk, in the place of the one that is open for the same group."""
        before = self.open.get((provider, group))
        if before is not None:
            self._close(before)
        make_private_folder(folder)
        key = new_key()
        chunk = ReadyChunk(key=key, provider=provider, group=group, path=folder / f"{key}.jsonl", made=time.time())
        self._files[key] = private_file(chunk.path, new=True)
        self.open[provider, group] = chunk
        self.ready.append(chunk)
        return chunk

    def write(self, chunk: ReadyChunk, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._files[chunk.key], view) :]
        chunk.size += len(data)

    def _close(self, chunk: ReadyChunk) -> None:
        descriptor = self._files.pop(chunk.key, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        for chunk in self.ready:
            self._close(chunk)


def request_id(key: str, number: int) -> str:
    """Return the id of a request in a chunk."""
    return f"{key}-{number:06d}"


async def give_back(engine: Engine, batch: str, prompts: Sequence[ClaimedPrompt]) -> None:
    """Queue prompts again of which nothing is paid."""
    free = [Used(id=prompt.id, claim=prompt.claim, tokens=0, cost_usd=0.0) for prompt in prompts]
    await engine.use(batch, free)
    await settle_all(
        lambda outcomes: engine.settle(batch, outcomes),
        [Outcome(id=prompt.id, claim=prompt.claim, state=PromptState.QUEUED) for prompt in prompts],
    )


async def settle_all(settle: Callable[[Sequence[Outcome]], Awaitable[object]], outcomes: Sequence[Outcome]) -> None:
    """Settle outcomes, some hundreds at a time, so that no write is long."""
    for start in range(0, len(outcomes), _SETTLED_AT_ONCE):
        await settle(outcomes[start : start + _SETTLED_AT_ONCE])


def _input_tokens(request: ModelRequest) -> int:
    return sum(_MESSAGE_TOKENS + sum(map(tokens_of, message.parts)) for message in request.messages)

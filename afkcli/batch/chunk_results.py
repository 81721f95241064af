"""What a provider says of the requests of a chunk, as outcomes of their prompts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from afkcli.batch.provider_chunks import ChunkRecord
from afkcli.batch.provider_collect import settle_all
from afkcli.batch.provider_requests import Requests, failed, unanswered
from afkcli.batch.sent_prompts import PAGE, OpenChunk, claimed_of
from afkcli.core.contract.engine import ClaimedPrompt, Engine, Outcome, PromptState, SettledPrompt
from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.messages import ModelRequest
from afkcli.core.contract.provider_batches import ChunkResult, ProviderBatches
from afkcli.core.contract.structs import replace

_AT_ONCE: Final = 100


class ChunkResults:
    """Settles prompts by what their provider says of them.

    Args:
        engine, batch: where the prompts are.
        requests: makes an outcome of an answer.
        mask: hides secrets in a text.
    """

    def __init__(self, engine: Engine, batch: str, requests: Requests, mask: Callable[[str], str]) -> None:
        self._engine = engine
        self._batch = batch
        self._requests = requests
        self._mask = mask

    async def take(self, chunk: OpenChunk, record: ChunkRecord, batches: ProviderBatches) -> None:
        """Settle the prompts of a chunk that have results, and take them out of its places.

        Raises:
            ProviderError: the results are not there, or break off; what came before is settled.
        """

        def request_of(name: str) -> ModelRequest | None:
            place = chunk.places.get(name)
            schema: dict[str, Any] | None = {} if place is not None and place.has_schema else None
            return None if place is None else ModelRequest(model=place.model, messages=(), output_schema=schema)

        results: list[ChunkResult] = []
        async for result in batches.results(record.batch, request_of):
            results.append(result)
            if len(results) >= _AT_ONCE:
                await self._answered(chunk, record, results)
                results = []
        await self._answered(chunk, record, results)

    async def settle_rest(self, chunk: OpenChunk, outcome_of: Callable[[ClaimedPrompt], Outcome]) -> None:
        """Settle the prompts of a chunk that have no result."""
        left = [place.prompt for place in chunk.places.values()]
        for start in range(0, len(left), PAGE):
            there = await self._prompts_of(chunk, left[start : start + PAGE])
            await settle_all(self._settle, [outcome_of(claimed_of(item)) for item in there])

    async def _answered(self, chunk: OpenChunk, record: ChunkRecord, results: Sequence[ChunkResult]) -> None:
        """Settle prompts by their results; the first result of a prompt counts."""
        first: dict[str, ChunkResult] = {}
        for result in results:
            if result.id in chunk.places:
                first.setdefault(result.id, result)
        by_prompt = {chunk.places[name].prompt: result for name, result in first.items()}
        there = await self._prompts_of(chunk, by_prompt)
        outcomes = await asyncio.gather(
            *(self._outcome(claimed_of(item), by_prompt[item.id], record) for item in there)
        )
        await settle_all(self._settle, outcomes)
        for name in first:
            chunk.places.pop(name)

    async def _outcome(self, prompt: ClaimedPrompt, result: ChunkResult, record: ChunkRecord) -> Outcome:
        if result.response is not None:
            outcome = await self._requests.answer(prompt, result.response, result.warnings)
            # It was asked when its chunk was made, and not when the answer is read.
            return replace(outcome, result={**outcome.result, "started": rfc3339(record.made)})
        if result.unanswered:
            return unanswered(prompt, result.unanswered, record.made, time.time())
        error = result.error or ProviderError("the provider gave no answer", kind=ErrorKind.INTERNAL)
        return failed(prompt, self._masked(error), record.made, time.time())

    def _masked(self, error: ProviderError) -> ProviderError:
        return ProviderError(self._mask(str(error)), kind=error.kind, status=error.status)

    async def _prompts_of(self, chunk: OpenChunk, ids: Collection[str]) -> list[SettledPrompt]:
        """Return those of the prompts that are still `sent` in this chunk."""
        there = await self._engine.outcomes(self._batch, list(ids)) if ids else ()
        return [item for item in there if item.state is PromptState.SENT and item.result.get("chunk") == chunk.key]

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        await self._engine.settle(self._batch, outcomes)

"""Message Batches: the contract of every provider with batches, and what is Anthropic's own."""

from __future__ import annotations

import json
import time

from afk_provider_anthropic import Settings, afk_provider
from afk_provider_anthropic.batches import LIMITS

from afkcli.plugin import Chunk, Provider, ProviderBatches
from afkcli.testing.batches_contract import BatchingProviderContract


class TestMessageBatches(BatchingProviderContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url))

    def test_a_batch_has_as_many_requests_and_bytes_as_the_api_takes(self) -> None:
        assert (LIMITS.max_requests, LIMITS.hours, LIMITS.price_factor) == (100_000, 24, 0.5)
        assert 255_000_000 < LIMITS.max_bytes < 256_000_000

    def test_requests_that_need_other_versions_of_the_api_go_into_other_batches(self) -> None:
        async def use(batches: ProviderBatches) -> tuple[str, str]:
            cool = self.request(options={"temperature": 0.5})
            return batches.line("k-1", self.request()).group, batches.line("k-2", cool).group

        newest, sampled = self.use(use)
        assert newest != sampled

    def test_the_versions_that_the_requests_need_are_headers_of_the_batch(self) -> None:
        async def use(batches: ProviderBatches) -> str:
            chunk = self.chunk(batches, {"k-1": self.request(options={"temperature": 0.5})})
            await batches.submit(chunk, "")
            return chunk.group

        group = json.loads(self.use(use))
        assert self.server.batches.headers[-1]["anthropic-version"] == group["anthropic-version"] == "2023-06-01"

    def test_a_lost_batch_is_not_taken_for_one_that_was_made_before_or_has_another_size(self) -> None:
        async def use(batches: ProviderBatches) -> list[object]:
            chunk = self.chunk(batches, self.requests())
            await batches.submit(chunk, "")
            later = Chunk(key="b", group="", path=chunk.path, count=chunk.count, made=time.time() + 3600)
            larger = Chunk(key="c", group="", path=chunk.path, count=chunk.count + 1, made=chunk.made)
            return [await batches.find(later, "", ()), await batches.find(larger, "", ())]

        assert self.use(use) == [None, None]

    def test_a_lost_batch_that_may_be_one_of_two_is_not_found(self) -> None:
        async def use(batches: ProviderBatches) -> object:
            chunk = self.chunk(batches, self.requests())
            await batches.submit(chunk, "")
            await batches.submit(chunk, "")
            return await batches.find(chunk, "", ())

        assert self.use(use) is None

    def test_a_batch_that_is_found_by_its_size_is_not_certain(self) -> None:
        async def use(batches: ProviderBatches) -> bool:
            chunk = self.chunk(batches, self.requests())
            await batches.submit(chunk, "")
            found = await batches.find(chunk, "", ())
            assert found is not None
            return found.is_certain

        assert self.use(use) is False

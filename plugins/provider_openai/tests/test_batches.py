"""The Batch API: the contract of every provider with batches, and what is OpenAI's own."""

from __future__ import annotations

import pytest
from afk_provider_openai import Settings, afk_provider
from afk_provider_openai.batches import KEY, LIMITS

from afkcli.plugin import ChunkState, ChunkStatus, ErrorKind, Provider, ProviderBatches, ProviderError, UsageError
from afkcli.testing.batches_contract import BatchingProviderContract
from afkcli.testing.model_server import Step


class TestChat(BatchingProviderContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url))

    def status_of(self, **script: object) -> ChunkStatus:
        """Return the status of a batch in the end."""
        self.server.batches.script(polls=0, **script)

        async def use(batches: ProviderBatches) -> ChunkStatus:
            chunk = self.chunk(batches, self.requests())
            return await batches.status(await batches.submit(chunk, await batches.upload(chunk)))

        return self.use(use)

    def test_a_batch_has_as_many_requests_and_bytes_as_the_api_takes(self) -> None:
        assert (LIMITS.max_requests, LIMITS.max_bytes) == (50_000, 200_000_000)
        assert (LIMITS.hours, LIMITS.price_factor) == (24, 0.5)

    def test_requests_of_two_models_go_into_two_batches(self) -> None:
        async def use(batches: ProviderBatches) -> tuple[str, str]:
            other = self.request(extra={"model": "scripted-large"})
            return batches.line("k-1", self.request()).group, batches.line("k-2", other).group

        first, second = self.use(use)
        assert first != second

    @pytest.mark.parametrize("code", ["token_limit_exceeded", "rate_limit_exceeded"])
    def test_a_batch_that_was_refused_for_the_queue_may_be_taken_later(self, code: str) -> None:
        status = self.status_of(refusals=[code])
        assert status.state is ChunkState.REFUSED
        assert status.error is not None
        assert status.error.kind is ErrorKind.RATE_LIMIT
        assert f"mark-{code}" in str(status.error)

    @pytest.mark.parametrize(
        "code", ["invalid_json_line", "mismatched_model", "model_not_found", "billing_hard_limit_reached"]
    )
    def test_a_batch_that_was_refused_for_what_it_is_says_why(self, code: str) -> None:
        status = self.status_of(refusals=[code])
        assert status.state is ChunkState.REFUSED
        assert status.error is not None
        assert status.error.kind not in (ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED)
        assert f"mark-{code}" in str(status.error)

    @pytest.mark.parametrize("ends", ["completed", "expired", "cancelled", "failed"])
    def test_a_batch_that_has_results_has_ended_whatever_its_word(self, ends: str) -> None:
        assert self.status_of(ends=ends).state is ChunkState.ENDED

    @pytest.mark.parametrize("ends", ["expired", "cancelled"])
    def test_a_batch_that_ended_before_it_began_says_that_nothing_was_worked_on(self, ends: str) -> None:
        assert self.status_of(ends=ends, outcome=("untold",)).unanswered == ends
        assert self.status_of(ends=ends, outcome=("missing",)).unanswered == ""

    def test_the_batch_names_its_chunk(self) -> None:
        self.results()
        [batch] = self.server.batches.made.values()
        assert batch.metadata == {KEY: "key-1"}

    def test_a_server_without_batches_is_said_to_have_none(self) -> None:
        self.server.batches.script(upload=[Step(status=404, body="<html>nothing here</html>")])

        async def use(batches: ProviderBatches) -> str:
            with pytest.raises(ProviderError) as caught:
                await batches.upload(self.chunk(batches, self.requests()))
            return str(caught.value)

        said = self.use(use)
        assert "has nothing at this URL (404)" in said
        assert "base_url" in said

    def test_a_deployment_of_azure_has_no_batches(self) -> None:
        url = "https://x.openai.azure.com/openai/deployments/mine"
        provider = afk_provider(Settings(api_key=self.api_key, base_url=url))
        with pytest.raises(UsageError, match="no batches"):
            provider.batches()


class TestResponses(BatchingProviderContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url, api="responses"))

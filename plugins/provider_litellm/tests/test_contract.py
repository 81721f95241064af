"""The contract of every provider, by the three ways that LiteLLM's requests take."""

from __future__ import annotations

from typing import ClassVar

from afk_provider_litellm import Settings, afk_provider

from afkcli.plugin import Provider
from afkcli.testing.provider_contract import ScriptedProviderContract


class TestThroughTheOpenAISDK(ScriptedProviderContract):
    model: ClassVar[str] = "openai/scripted-small"

    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url))


class TestChatCompletionsThroughLiteLLM(TestThroughTheOpenAISDK):
    model = "deepseek/scripted-small"


class TestMessagesThroughLiteLLM(ScriptedProviderContract):
    model: ClassVar[str] = "anthropic/scripted-small"

    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url.removesuffix("/v1")))

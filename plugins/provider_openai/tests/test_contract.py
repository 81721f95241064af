"""The contract of every provider, for both APIs."""

from __future__ import annotations

from afk_provider_openai import Settings, afk_provider

from afkcli.plugin import Provider
from afkcli.testing.provider_contract import ScriptedProviderContract


class TestChat(ScriptedProviderContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url))


class TestResponses(ScriptedProviderContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url, api="responses"))

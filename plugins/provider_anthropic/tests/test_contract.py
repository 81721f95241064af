"""The contract of every provider."""

from __future__ import annotations

from typing import Any, ClassVar

from afk_provider_anthropic import Settings, afk_provider

from afkcli.plugin import Provider
from afkcli.testing.provider_contract import ScriptedProviderContract


class TestMessages(ScriptedProviderContract):
    def make_provider(self) -> Provider:
        return afk_provider(Settings(api_key=self.api_key, base_url=self.server.base_url))


class TestAnthropicsOwnWords(TestMessages):
    context_length_error: ClassVar[dict[str, Any]] = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"},
    }

"""The contract of every provider, by the embedded model."""

from __future__ import annotations

from typing import ClassVar

from afk_provider_local import Settings, afk_provider
from afk_provider_local.weights import DEMO_MODEL

from afkcli.plugin import Provider
from afkcli.testing.provider_contract import ProviderContract


class TestTheEmbeddedModel(ProviderContract):
    model: ClassVar[str] = DEMO_MODEL

    def make_provider(self) -> Provider:
        return afk_provider(Settings(threads=1))

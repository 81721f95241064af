"""A plugin file: the openai provider under another name, whose models are sold by OpenAI, whatever the server is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from afk_provider_openai.provider import OpenAIProvider
from afk_provider_openai.settings import Settings as OpenAISettings

from afkcli import hookimpl
from afkcli.core.contract.protocols import Capabilities

AFK_HOOKS = 1


@dataclass(kw_only=True)
class Settings(OpenAISettings):
    """Those of `[providers.openai]`."""


class Billed(OpenAIProvider):
    name = "billed"

    def capabilities(self, model: str) -> Capabilities:
        return replace(super().capabilities(model), sold_by="openai")


@hookimpl
def afk_provider(settings: Settings) -> Billed:
    return Billed(settings)

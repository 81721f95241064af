"""Model provider for afk: OpenAI's Responses API and every server that speaks Chat Completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afk_provider_openai.settings import Settings
from afkcli.hookspecs import hookimpl

if TYPE_CHECKING:
    from afk_provider_openai.provider import OpenAIProvider

__all__ = ["AFK_HOOKS", "Settings", "afk_provider"]

AFK_HOOKS = 1


@hookimpl
def afk_provider(settings: Settings) -> OpenAIProvider:
    """Return the provider; the SDK is imported by its `prepare`, or by the first call.

    Raises:
        MissingKeyError: the server is OpenAI's own and there is no key.
        ConfigError: a setting is not usable.
    """
    from afk_provider_openai.provider import OpenAIProvider

    return OpenAIProvider(settings)

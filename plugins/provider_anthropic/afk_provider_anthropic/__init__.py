"""Model provider for afk: Anthropic's Messages API and every server that speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afk_provider_anthropic.settings import Settings
from afkcli.hookspecs import hookimpl

if TYPE_CHECKING:
    from afk_provider_anthropic.provider import AnthropicProvider

__all__ = ["AFK_HOOKS", "Settings", "afk_provider"]

AFK_HOOKS = 1


@hookimpl
def afk_provider(settings: Settings) -> AnthropicProvider:
    """Return the provider; the SDK is imported by its `prepare`, or by the first call.

    Raises:
        MissingKeyError: the server is Anthropic's own and there is no key.
        ConfigError: a setting is not usable.
    """
    from afk_provider_anthropic.provider import AnthropicProvider

    return AnthropicProvider(settings)

"""Model provider for afk: every model that LiteLLM knows, named `litellm/<LiteLLM's own name>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afk_provider_litellm.settings import Settings
from afkcli.hookspecs import hookimpl

if TYPE_CHECKING:
    from afk_provider_litellm.provider import LiteLLMProvider

__all__ = ["AFK_HOOKS", "Settings", "afk_provider"]

AFK_HOOKS = 1


@hookimpl
def afk_provider(settings: Settings) -> LiteLLMProvider:
    """Return the provider; LiteLLM is imported by its `prepare`, or by the first call.

    Raises:
        ConfigError: a setting is not usable.
    """
    from afk_provider_litellm.provider import LiteLLMProvider

    return LiteLLMProvider(settings)

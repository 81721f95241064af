"""Model provider for afk: runs llama.cpp in this process, and brings a small model to try afk without a key."""

from __future__ import annotations

from afk_provider_local.settings import Settings
from afkcli.hookspecs import Provider, hookimpl

__all__ = ["AFK_HOOKS", "Settings", "afk_provider"]

AFK_HOOKS = 1


@hookimpl
def afk_provider(settings: Settings) -> Provider:
    """Return the provider `local`.

    Raises:
        ConfigError: llama.cpp or the weights are missing, or `model_path` is not a usable GGUF file.
    """
    from afk_provider_local.provider import LocalProvider

    return LocalProvider(settings)

"""The settings of `[providers.litellm]`."""

from __future__ import annotations

from dataclasses import dataclass, field

from afkcli.plugin import setting_source
from afkcli.providers.base_url import checked_host
from afkcli.providers.checked_settings import check_above_zero, checked_key
from afkcli.providers.network import check_network

TABLE = "[providers.litellm]"


@dataclass(kw_only=True)
class Settings:
    """`[providers.litellm]`; times are in seconds.

    `api_key` and `base_url` go to every model of this provider; where they are empty LiteLLM looks for those of the
    model's own provider in the environment. `first_byte_timeout` is the longest silence before the answer begins,
    `idle_timeout` the longest within it. `think_tags` is whether `<think>` at the start of an answer is reasoning.
    """

    api_key: str = field(default="", repr=False, metadata={"secret": True})
    base_url: str = ""
    default_model: str = ""
    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 300.0
    headers: dict[str, str] = field(default_factory=dict, repr=False, metadata={"secret": True})
    think_tags: bool = True


def checked(settings: Settings) -> Settings:
    """Return `settings`.

    Raises:
        ConfigError: one is not usable.
    """
    check_above_zero(settings, ("connect_timeout", "first_byte_timeout", "idle_timeout"), TABLE)
    url = settings.base_url.strip()
    if url:
        checked_host(url, str(setting_source(settings, "base_url", TABLE)), "http://127.0.0.1:8080/v1")
        check_network(url)
    checked_key(settings, TABLE)
    return settings

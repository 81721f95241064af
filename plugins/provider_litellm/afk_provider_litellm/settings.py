"""The settings of `[providers.litellm]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from afkcli.plugin import ConfigError


@dataclass(kw_only=True)
class Settings:
    """`[providers.litellm]`; times are in seconds.

    `api_key` and `base_url` go to every model of this provider; where they are empty LiteLLM looks for those of the
    model's own provider in the environment. `first_byte_timeout` is the longest silence before the answer begins,
    `idle_timeout` the longest within it.
    """

    api_key: str = field(default="", repr=False, metadata={"secret": True})
    base_url: str = ""
    default_model: str = ""
    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 300.0
    headers: dict[str, str] = field(default_factory=dict, repr=False, metadata={"secret": True})


def checked(settings: Settings) -> Settings:
    """Return `settings`.

    Raises:
        ConfigError: one is not usable.
    """
    for name in ("connect_timeout", "first_byte_timeout", "idle_timeout"):
        if not getattr(settings, name) > 0:
            raise ConfigError(f"[providers.litellm] {name} is {getattr(settings, name)!r}; it is a number above 0")
    if settings.base_url and not _is_url(settings.base_url):
        raise ConfigError(
            f"[providers.litellm] base_url is {settings.base_url!r}; it is a URL such as http://127.0.0.1:8080/v1"
        )
    key = settings.api_key.strip()
    if not (key.isascii() and (key.isprintable() or not key)):
        raise ConfigError("[providers.litellm] api_key holds a character that no key has")
    return settings


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and parts.scheme in ("http", "https")

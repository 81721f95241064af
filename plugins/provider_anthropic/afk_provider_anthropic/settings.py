"""The settings of `[providers.anthropic]`, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode, urlsplit

from afkcli.plugin import FrozenStruct, MissingKeyError, address_secrets, setting_source
from afkcli.providers.base_url import checked_host, split_base_url
from afkcli.providers.checked_settings import check_above_zero, check_choice, checked_key
from afkcli.providers.network import check_network
from afkcli.providers.provider_errors import ProviderErrors

ANTHROPIC_URL = "https://api.anthropic.com"
ANTHROPIC_HOST = "api.anthropic.com"

TABLE = "[providers.anthropic]"

_HOW_TO_SET = f"run `afk keys set anthropic`, or set ANTHROPIC_API_KEY, or api_key under {TABLE}"

PLACEHOLDER_KEY = "none"
"""What is sent to a server that is not Anthropic's where no key is set: local servers need none, the SDK does."""

_ABOVE_ZERO = ("max_output_tokens", "connect_timeout", "first_byte_timeout", "idle_timeout")


@dataclass(kw_only=True)
class Settings:
    """`[providers.anthropic]`; times are in seconds.

    `max_output_tokens` is what a run without that option asks for, as far as the model allows it: the API demands a
    number. `cache` marks the prompt for prompt caching; `cache_ttl` is how long a cache lasts after it was last used:
    five minutes, or an hour, which costs more to write. `thinking_display` asks for thinking and says how it is shown.
    `first_byte_timeout` is the longest silence before the answer begins, `idle_timeout` the longest within it.
    """

    api_key: str = field(default="", repr=False, metadata={"secret": True, "env": "ANTHROPIC_API_KEY"})
    base_url: str = field(default="", metadata={"env": "ANTHROPIC_BASE_URL"})
    default_model: str = "claude-sonnet-5-5"
    max_output_tokens: int = 32_000
    cache: bool = True
    cache_ttl: Literal["5m", "1h"] = "5m"
    thinking_display: Literal["", "summarized", "omitted"] = ""
    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 300.0
    headers: dict[str, str] = field(default_factory=dict, repr=False, metadata={"secret": True})


class Server(FrozenStruct, kw_only=True):
    """Where requests go: the usable form of the settings.

    `name` is how messages call the server, `errors` makes the errors of its calls.
    """

    url: str
    key: str
    name: str
    is_anthropic: bool
    settings: Settings
    errors: ProviderErrors

    def __repr__(self) -> str:
        return f"Server(url={self.url!r}, name={self.name!r})"  # without the key


def server_from(settings: Settings) -> Server:
    """Return the server that the settings name. A `/v1` at the end of its URL is left out: the paths have it.

    Raises:
        MissingKeyError: it is Anthropic's own and there is no key.
        ConfigError: a setting is not usable.
    """
    url = settings.base_url.strip() or ANTHROPIC_URL
    url_source = setting_source(settings, "base_url", TABLE)
    host = checked_host(url, str(url_source), "http://127.0.0.1:8080")
    url, query = split_base_url(url)
    url = url.removesuffix("/v1") + (f"?{urlencode(query)}" if query else "")
    is_anthropic = host == ANTHROPIC_HOST or host.endswith(f".{ANTHROPIC_HOST}")
    check_choice(settings, "thinking_display", ("", "summarized", "omitted"), TABLE)
    check_choice(settings, "cache_ttl", ("5m", "1h"), TABLE)
    check_above_zero(settings, _ABOVE_ZERO, TABLE)
    key = _key(settings, is_anthropic=is_anthropic)
    name = "Anthropic" if is_anthropic else f"the server at {urlsplit(url).netloc.rpartition('@')[2]}"
    errors = ProviderErrors(
        server=name,
        table=TABLE,
        key=_where_to_look(settings),
        secrets=(key, *settings.headers.values(), *address_secrets(url)),
        proxy=check_network(url),
        base_url=url_source,
    )
    return Server(url=url, key=key, name=name, is_anthropic=is_anthropic, settings=settings, errors=errors)


def _where_to_look(settings: Settings) -> str:
    """Return what to do where the server does not take the key: to look at where the key came from, if there is one."""
    source = setting_source(settings, "api_key", TABLE)
    if not settings.api_key.strip():
        return f"{_HOW_TO_SET}, and check the account"
    return f"check {source.to_change}, and the account"


def _key(settings: Settings, *, is_anthropic: bool) -> str:
    key = checked_key(settings, TABLE)
    if not key and is_anthropic:
        raise MissingKeyError(f"no key for Anthropic: {_HOW_TO_SET} in the config")
    return key or PLACEHOLDER_KEY

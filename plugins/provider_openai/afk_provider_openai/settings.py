"""The settings of `[providers.openai]`, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from afkcli.plugin import FrozenStruct, MissingKeyError, address_secrets, setting_source
from afkcli.providers.base_url import checked_host
from afkcli.providers.checked_settings import check_above_zero, check_choice, checked_key
from afkcli.providers.network import check_network
from afkcli.providers.provider_errors import ProviderErrors

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
AZURE_HOSTS = ("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com")
AZURE_PATH = "/openai/deployments/"
"""Azure's path behind a gateway of one's own."""

TABLE = "[providers.openai]"

_HOW_TO_SET = f"run `afk keys set openai`, or set OPENAI_API_KEY, or api_key under {TABLE}"

PLACEHOLDER_KEY = "none"
"""What is sent to a server that is not OpenAI's where no key is set: local servers need none, the SDK does."""

ApiName = Literal["chat", "responses"]


@dataclass(kw_only=True)
class Settings:
    """`[providers.openai]`; times are in seconds.

    `first_byte_timeout` is the longest silence before the answer begins (a reasoning model may be silent for minutes),
    `idle_timeout` the longest silence within it. `structured_output` is whether the server takes the JSON Schema of an
    answer. `think_tags` is whether `<think>` at the start of an answer is taken as reasoning.
    """

    api_key: str = field(default="", repr=False, metadata={"secret": True, "env": "OPENAI_API_KEY"})
    base_url: str = field(default="", metadata={"env": "OPENAI_BASE_URL"})
    organization: str = field(default="", metadata={"env": "OPENAI_ORG_ID"})
    project: str = field(default="", metadata={"env": "OPENAI_PROJECT_ID"})
    api: Literal["auto", "chat", "responses"] = "auto"
    default_model: str = "gpt-5.2-mini"
    connect_timeout: float = 10.0
    first_byte_timeout: float = 600.0
    idle_timeout: float = 300.0
    headers: dict[str, str] = field(default_factory=dict, repr=False, metadata={"secret": True})
    reasoning_summary: str = ""
    stream_usage: bool = True
    structured_output: bool = True
    think_tags: bool = True


class Server(FrozenStruct, kw_only=True):
    """Where requests go: the usable form of the settings. `name` is how messages call the server.

    `has_openai_models` is true of OpenAI's own server and of Azure's. `errors` makes the errors of its calls.
    """

    url: str
    key: str
    name: str
    api: ApiName
    is_openai: bool
    has_openai_models: bool
    settings: Settings
    errors: ProviderErrors

    def __repr__(self) -> str:
        return f"Server(url={self.url!r}, name={self.name!r})"  # without the key

    @property
    def is_azure(self) -> bool:
        return self.has_openai_models and not self.is_openai


def server_from(settings: Settings) -> Server:
    """Return the server that the settings name.

    Raises:
        MissingKeyError: it is OpenAI's own and there is no key.
        ConfigError: a setting is not usable.
    """
    url = settings.base_url.strip() or OPENAI_URL
    source = setting_source(settings, "base_url", TABLE)
    host = checked_host(url, str(source), "http://127.0.0.1:8080/v1")
    # api.openai.com and its regional forms, such as eu.api.openai.com; anything else speaks Chat Completions.
    is_openai = _is_or_is_below(host, OPENAI_HOST)
    check_choice(settings, "api", ("auto", "chat", "responses"), TABLE)
    check_above_zero(settings, ("connect_timeout", "first_byte_timeout", "idle_timeout"), TABLE)
    api: ApiName = settings.api if settings.api != "auto" else "responses" if is_openai else "chat"
    key = _key(settings, is_openai=is_openai)
    name = "OpenAI" if is_openai else f"the server at {urlsplit(url).netloc.rpartition('@')[2]}"
    errors = ProviderErrors(
        server=name,
        table=TABLE,
        key=_where_to_look(settings),
        secrets=(key, *settings.headers.values(), *address_secrets(url)),
        proxy=check_network(url),
        base_url=source,
    )
    return Server(
        url=url,
        key=key,
        name=name,
        api=api,
        is_openai=is_openai,
        has_openai_models=is_openai or _is_azure(url, host),
        settings=settings,
        errors=errors,
    )


def _is_azure(url: str, host: str) -> bool:
    return any(_is_or_is_below(host, domain) for domain in AZURE_HOSTS) or AZURE_PATH in urlsplit(url).path


def _is_or_is_below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _where_to_look(settings: Settings) -> str:
    """Return what to do where the server does not take the key: to look at where the key came from, if there is one."""
    source = setting_source(settings, "api_key", TABLE)
    if not settings.api_key.strip():
        return (
            f"set a key with `afk keys set openai`, or OPENAI_API_KEY, or api_key under {TABLE}, and check the account"
        )
    return f"check {source.to_change}, and the account"


def _key(settings: Settings, *, is_openai: bool) -> str:
    key = checked_key(settings, TABLE)
    if not key and is_openai:
        raise MissingKeyError(f"no key for OpenAI: {_HOW_TO_SET} in the config")
    return key or PLACEHOLDER_KEY

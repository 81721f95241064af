"""Where a model's requests go."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from afk_provider_litellm.settings import TABLE, Settings
from afkcli.plugin import address_secrets
from afkcli.providers.base_url import split_base_url
from afkcli.providers.origin import Origin
from afkcli.providers.provider_errors import ProviderErrors
from afkcli.providers.proxies import Proxy


@dataclass(frozen=True, slots=True)
class Route:
    """Where a model's requests go: `provider` and `model` are LiteLLM's, `prefix` is the part before `model`.

    `missing_keys` are the variables that LiteLLM looks for and that are not set.
    """

    provider: str
    model: str
    prefix: str
    missing_keys: tuple[str, ...]
    settings: Settings = field(repr=False)

    @property
    def name(self) -> str:
        """How messages call the server."""
        host = urlsplit(self.settings.base_url.strip()).netloc.rpartition("@")[2]
        return f"the server at {host}" if host else self.provider

    @property
    def origin(self) -> Origin:
        """What tells where opaque data of an answer came from."""
        url = self.settings.base_url.strip()
        server = split_base_url(url)[0] if url else self.provider
        return Origin(provider="litellm", api=self.provider, model=self.model, server=server)

    def errors(self, secrets: tuple[str, ...] = (), proxy: Proxy | None = None) -> ProviderErrors:
        """Return what makes the errors of its calls.

        Args:
            secrets: what was sent beside what the settings name.
            proxy: through which the server was asked.
        """
        settings = self.settings
        key = f"check its key in the environment, `afk keys set litellm`, or api_key under {TABLE}, and the account"
        if self.missing_keys:
            key = f"set {' and '.join(self.missing_keys)}, or run `afk keys set litellm`, or set api_key under {TABLE}"
        hidden = (settings.api_key, *settings.headers.values(), *address_secrets(settings.base_url), *secrets)
        return ProviderErrors(server=self.name, table=TABLE, key=key, secrets=hidden, proxy=proxy)

"""Where the requests of a model go."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from afk_provider_litellm.settings import Settings


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

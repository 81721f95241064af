"""The APIs whose providers are put to the test. A further one is one line in `APIS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from afkcli.loading.discovery import discover

KEY = "sk-canary-0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One API as a provider speaks it.

    Attributes:
        settings: those of the provider's table in the config, beside address and key.
        connects_as: the API whose connections these are too, so that the test suite need not break both.
        library_megabytes: what the imported library takes beside what other APIs' SDKs take.
    """

    name: str
    provider: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    connects_as: str | None = None
    library_megabytes: int = 0

    @property
    def full_model(self) -> str:
        return f"{self.provider}/{self.model}"

    @property
    def speaks_messages(self) -> bool:
        """Whether its server is Anthropic's Messages API, whose errors have another form."""
        return self.provider == "anthropic"

    def error(self, words: str, kind: str = "", code: str | None = None) -> dict[str, Any]:
        """Return the body of an error as the servers of this API write it."""
        error = {"type": kind or "invalid_request_error", "message": words}
        if self.speaks_messages:
            return {"type": "error", "error": error, "request_id": "req_1"}
        return {"error": {**error, "code": code, "param": None}}


APIS = (
    Api(name="chat", provider="openai", model="gpt-x", settings={"api": "chat"}),
    Api(name="responses", provider="openai", model="gpt-x", settings={"api": "responses"}, connects_as="chat"),
    Api(name="anthropic", provider="anthropic", model="claude-x"),
    Api(name="litellm", provider="litellm", model="openai/gpt-x", library_megabytes=200),
)


def installed() -> tuple[Api, ...]:
    """Return the APIs whose plugin is in this environment; LiteLLM's needs one of its own."""
    found = discover().found
    return tuple(api for api in APIS if f"provider.{api.provider}" in found)

"""A base class for providers: a provider is then its name and its `stream`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.messages import ModelEvent, ModelRequest
from afkcli.core.contract.protocols import Capabilities, ModelInfo
from afkcli.providers.attached import estimated

BYTES_PER_TOKEN = 4
"""About what English text has."""


class BaseProvider(ABC):
    """Implements everything of `Provider` but its name and `stream`.

    A subclass sets `name`, which is also its name in `provider/model`, and writes `stream` as an asynchronous
    generator. It overrides what it knows better: a default model, what its models can do and cost, its list of models,
    an exact token count, what has to be imported or closed.

    Since: 0.2.
    """

    name: str
    default_model: str | None = None

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Make one model call and yield its events, `ModelResponse` last; see `Provider.stream`."""

    def capabilities(self, model: str) -> Capabilities:
        """Return that nothing is known of the model."""
        return Capabilities()

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the default model, if there is one."""
        return [ModelInfo(id=self.default_model)] if self.default_model else []

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return an estimate: four bytes of the JSON of messages and tools to a token, and a flat count for files."""
        request, attached = estimated(request)
        sent = [*map(message_to_json, request.messages), *request.tools]
        return -(-len(dumps(sent).encode()) // BYTES_PER_TOKEN) + attached

    async def prepare(self) -> None:
        """Prepare nothing."""
        return

    async def aclose(self) -> None:
        """Close nothing."""
        return

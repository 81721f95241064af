"""Providers with another one around each, such as one that records or one that sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from afkcli.core.contract.protocols import Capabilities, ModelInfo, Provider


class WrappedProviders(Mapping[str, Provider]):
    """The names of `providers`, each with what `wrap` makes when it is asked for."""

    def __init__(self, providers: Mapping[str, Provider], wrap: Callable[[str], Provider]) -> None:
        self._providers = providers
        self._wrap = wrap

    def __getitem__(self, name: str) -> Provider:
        return self._wrap(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._providers)

    def __len__(self) -> int:
        return len(self._providers)


class ProviderWrapper:
    """All of a provider but what a class below it does in another way; its optional methods too."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def default_model(self) -> str | None:
        return self._provider.default_model

    def capabilities(self, model: str) -> Capabilities:
        return self._provider.capabilities(model)

    async def list_models(self) -> Sequence[ModelInfo]:
        return await self._provider.list_models()

    async def prepare(self) -> None:
        await self._provider.prepare()

    async def aclose(self) -> None:
        """Leave the provider open: it belongs to the runner."""

    def __getattr__(self, name: str) -> Any:
        """Return an optional method of the provider; `AttributeError` if it has none of that name."""
        return getattr(self._provider, name)

"""A provider whose key a command prints: the command runs when the first request needs the key.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from afkcli.core.contract.errors import AfkError, ErrorKind, ProviderError
from afkcli.core.contract.messages import ModelEvent, ModelRequest
from afkcli.core.contract.protocols import ModelInfo, Provider
from afkcli.loading.secret_sources import PendingCommand, SecretSources
from afkcli.wiring.wrapped_providers import ProviderWrapper


class ProviderWithoutKey(ProviderWrapper):
    """A provider with the mask of a secret in the place of its key, until a request needs the key.

    Args:
        provider: the provider with the mask. It says what is known of models, and imports what a request needs.
        commands: what has to run before the provider can be made.
        sources: what runs them.
        make: makes the provider with its key, once they have run.
    """

    def __init__(
        self,
        provider: Provider,
        commands: Sequence[PendingCommand],
        sources: SecretSources,
        make: Callable[[], Provider],
    ) -> None:
        super().__init__(provider)
        self._commands = commands
        self._sources = sources
        self._make = make
        self._with_key: Provider | None = None
        self._making = asyncio.Lock()

    async def with_key(self) -> Provider:
        """Return the provider with its key; the first call runs the commands, off the event loop.

        Raises:
            ProviderError: a command failed, or printed no key.
        """
        async with self._making:
            if self._with_key is None:
                try:
                    await self._run_commands()
                    self._with_key = self._make()
                except AfkError as error:
                    raise ProviderError(str(error), kind=ErrorKind.AUTH) from None
            return self._with_key

    async def _run_commands(self) -> None:
        for command in self._commands:
            try:
                await asyncio.to_thread(self._sources.run, command)
            except asyncio.CancelledError:  # the thread would keep the process from ending
                self._sources.stop()
                raise

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        provider: Any = await self.with_key()
        async with aclosing(provider.stream(request)) as events:
            async for event in events:
                yield event

    async def list_models(self) -> Sequence[ModelInfo]:
        return await (await self.with_key()).list_models()

    async def count_tokens(self, request: ModelRequest) -> int:
        return await (await self.with_key()).count_tokens(request)

    async def aclose(self) -> None:
        provider, self._with_key = self._with_key, None
        try:
            if provider is not None:
                await provider.aclose()
        finally:
            await self._provider.aclose()

    def __getattr__(self, name: str) -> Any:
        """Return an optional method of the provider; that of one that asks its server gets the key first."""
        found = getattr(self._provider, name)
        return self._compact if name == "compact" else found

    async def _compact(self, request: ModelRequest) -> Any:
        provider: Any = await self.with_key()
        return await provider.compact(request)

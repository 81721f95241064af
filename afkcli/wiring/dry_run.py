"""`--dry-run`: shows the request that a run would send first, and sends nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from afkcli.core.contract.credentials import MASK, SECRET_NAME
from afkcli.core.contract.errors import MissingKeyError, ProviderError
from afkcli.core.contract.jsonform import JsonObject, dumps
from afkcli.core.contract.messages import ModelEvent, ModelRequest
from afkcli.core.contract.protocols import Provider, Record, SentRequest, Store
from afkcli.core.contract.result import RunState
from afkcli.core.contract.tasks import contained
from afkcli.core.contract.text import error_line, visible_json
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Outcome, Stopping
from afkcli.core.run.tape import Tape
from afkcli.wiring.plugin_objects import make_provider_without_key
from afkcli.wiring.recording_form import estimated_tokens, request_form
from afkcli.wiring.setup import Setup
from afkcli.wiring.thread_copies import ThreadCopies
from afkcli.wiring.wrapped_providers import ProviderWrapper, WrappedProviders

SHORTENED_CHARS = 1000
"""A longer text of base64 is shortened on a terminal."""

_BASE64 = re.compile(rf"[A-Za-z0-9+/=_-]{{{SHORTENED_CHARS},}}")


class DryRun:
    """Keeps the first request of a run. Threads are read, and not written."""

    is_real = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.signal: int | None = None
        self._request: tuple[str, SentRequest | JsonObject] | None = None

    def tape(self) -> Tape:
        return _DryTape(self)

    def store(self, opens: Callable[[], Store]) -> Callable[[], Store]:
        return lambda: ThreadCopies(opens)

    def close(self) -> None:
        """Close nothing."""

    def keep(self, provider: str, request: SentRequest | JsonObject) -> None:
        """Take the request, in the form in which it would be sent, or as afk gives it to the provider."""
        self._request = (provider, request)

    def shown(self, *, is_terminal: bool) -> Iterator[str]:
        """Yield the request as one JSON object, its secrets masked; nothing if the run ended before it had one.

        The body is as it would be sent, to the letter. On a terminal the contents of attachments are shortened.
        """
        if self._request is None:
            return
        provider, request = self._request
        mask = self.setup.invocation.secrets.mask
        form: JsonObject = {"provider": provider}
        if isinstance(request, SentRequest):
            name, body = "body", request.body
            if request.method is not None:
                headers = {key: _header(key, value) for key, value in (request.headers or {}).items()}
                form |= {"method": request.method, "url": request.url, "headers": headers}
        else:
            name, body = "request", dumps(request)
        text = mask(body)
        if is_terminal:
            text = visible_json(_BASE64.sub(lambda found: f"[{len(found[0])} characters of base64]", text))
        fields = [*(f"{dumps(key)}: {mask(dumps(value))}" for key, value in form.items()), f"{dumps(name)}: {text}"]
        yield "{\n" + ",\n".join(fields) + "\n}\n"


def _header(name: str, value: str) -> str:
    """Return the value of a header, masked where its name tells that it is secret; its scheme is shown."""
    if not SECRET_NAME.compiled.search(name):
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space else MASK


class _DryTape(Tape):
    def __init__(self, dry: DryRun) -> None:
        self._dry = dry
        self._stopping: Stopping | None = None

    def providers(self, providers: Mapping[str, Provider]) -> Mapping[str, Provider]:
        def dry(name: str) -> Provider:
            try:
                return _DryProvider(providers[name], self)
            except MissingKeyError:
                return _DryProvider(self.without_key(name), self)

        return WrappedProviders(providers, dry)

    def begin(self, spec: RunSpec, model: str, records: Sequence[Record], outlet: Outlet, stopping: Stopping) -> None:
        self._stopping = stopping

    def without_key(self, name: str) -> Provider:
        return make_provider_without_key(self._dry.setup, name)

    async def take(self, provider: Provider, request: ModelRequest) -> NoReturn:
        """Keep the request, and end the run: no retry and no fallback model follows."""
        outcome = Outcome(state=RunState.COMPLETED)
        if not hasattr(provider, "preview"):
            line = f"the provider {provider.name!r} cannot say what it would send; this is the request as it gets it"
            self._dry.setup.notify(line)
            self._dry.keep(provider.name, request_form(f"{provider.name}/{request.model}", request))
        else:
            try:
                with contained(f"the provider {provider.name!r}"):
                    self._dry.keep(provider.name, await self._preview(provider, request))
            except ProviderError as error:
                line = error_line(str(error), self._dry.setup.invocation.secrets.mask)
                outcome = Outcome(state=RunState.FAILED, reason=error.kind, error=line, error_kind=error.kind)
        assert self._stopping is not None
        self._stopping.stop(outcome)
        await asyncio.get_running_loop().create_future()  # until the run is cancelled
        raise AssertionError("unreachable")

    async def _preview(self, provider: Any, request: ModelRequest) -> SentRequest:
        """Return what would be sent; if it cannot be, perhaps because a key is missing, with a mask in its place."""
        try:
            sent: SentRequest = await provider.preview(request)
        except ProviderError:
            other: Any = self.without_key(provider.name)
            try:
                sent = await other.preview(request)
            finally:
                await other.aclose()
        return sent


class _DryProvider(ProviderWrapper):
    """A provider that asks no server, and needs no connection."""

    def __init__(self, provider: Provider, tape: _DryTape) -> None:
        super().__init__(provider)
        self._tape = tape

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await self._tape.take(self._provider, request)
        yield  # it is a generator

    async def count_tokens(self, request: ModelRequest) -> int:
        return estimated_tokens(request)

    async def prepare(self) -> None:
        """Prepare nothing."""

"""A provider whose requests are counted by the engine before they leave, and corrected when their answers are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Final

from afkcli.batch.gate import Gate
from afkcli.core.contract.engine import BatchLimits, Engine, Grant, Reservation, Used
from afkcli.core.contract.errors import AfkError, EngineError, ErrorKind, LimitReachedError, ProviderError
from afkcli.core.contract.messages import (
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from afkcli.core.contract.protocols import Price, Provider
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import Struct
from afkcli.core.run.cost import cost_of
from afkcli.core.run.streams import close_stream
from afkcli.wiring.wrapped_providers import ProviderWrapper

OUTPUT_TOKENS: Final = 1024
"""How many tokens of output are reserved at once, where the most that the model may answer with is not known."""
INPUT_MARGIN: Final = 1.5
"""What an estimate of the input is multiplied by: servers count more than it, and rarely more than this."""
BYTES_PER_TOKEN: Final = 3
"""The least bytes of an answer that a token is taken for: 4 in English, 3 where each character is a token."""
HOLD_WITHOUT_NUMBER_S: Final = 1.0
"""How long a model is slowed down whose server refused a request by its rate, and did not say for how long."""


class Turn(Struct):
    """What is known of the prompt that runs in a task. `sent` is whether a request of it was allowed.

    `refused` is why the last one was not, and `stops` why no other prompt should be asked either. `begin` is called
    when the first one leaves.
    """

    id: str
    claim: str
    begin: Callable[[], object] = lambda: None
    sent: bool = False
    refused: str | None = None
    stops: str | None = None
    engine_error: EngineError | None = None


TURN: ContextVar[Turn] = ContextVar("turn of a batch")
"""The prompt of the running task."""


class GatedProvider(ProviderWrapper):
    """Sends the requests of `provider` once the engine allows them.

    Args:
        provider: the provider.
        engine, batch: who counts.
        gate: where requests wait.
        limits: the limits of the batch, which say what has to be known of a request before.
        price: returns the price of a model, or None; it is called on another thread.
    """

    def __init__(
        self,
        provider: Provider,
        engine: Engine,
        batch: str,
        gate: Gate,
        limits: BatchLimits,
        price: Callable[[str], Price | None],
    ) -> None:
        super().__init__(provider)
        self._engine = engine
        self._batch = batch
        self._gate = gate
        self._counts_tokens = limits.tokens_per_minute is not None
        self._counts_cost = limits.max_cost_usd is not None
        self._price = price
        self._prices: dict[str, asyncio.Future[Price | None]] = {}
        self._usual_output = OUTPUT_TOKENS

    async def count_tokens(self, request: ModelRequest) -> int:
        return await self._provider.count_tokens(request)

    async def aclose(self) -> None:
        await self._provider.aclose()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        turn = TURN.get()
        model = f"{self.name}/{request.model}"
        call = _Call(self, turn, model)
        await call.begin(request)
        events = self._provider.stream(request)
        try:
            async for event in events:
                if isinstance(event, ModelResponse):
                    await call.end(event.usage)
                elif call.is_counted:
                    await call.grow(event)
                yield event
        except ProviderError as error:
            await self._failed(call, error)
            raise
        finally:
            await close_stream(events)

    async def _failed(self, call: _Call, error: ProviderError) -> None:
        """Slow the model down for all prompts if its server asks for that; count nothing that was not answered."""
        if error.kind in (ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED):
            seconds = error.retry_after if error.retry_after is not None else HOLD_WITHOUT_NUMBER_S
            with suppress(EngineError):
                await self._gate.slow_down(call.model, seconds)
        if error.status is not None and not call.has_output:  # it was refused, so it is not billed
            await call.end(Usage())

    async def price_of(self, model: str) -> Price | None:
        """Return the price of a model, looked up once."""
        if model not in self._prices:
            self._prices[model] = asyncio.get_running_loop().run_in_executor(None, self._price, model)
        return await asyncio.shield(self._prices[model])


class _Call:
    """One request: what was reserved for it, and what it took so far."""

    def __init__(self, provider: GatedProvider, turn: Turn, model: str) -> None:
        self.model = model
        self.has_output = False
        self._provider = provider
        self._turn = turn
        self._price: Price | None = None
        self._input = 0
        self._output = 0.0
        self._reserved_output = 0
        self._is_bounded = False

    @property
    def is_counted(self) -> bool:
        return self._provider._counts_tokens or self._provider._counts_cost

    async def begin(self, request: ModelRequest) -> None:
        """Wait until the request may be sent.

        Raises:
            LimitReachedError: it never may be.
            EngineError: the engine failed.
        """
        provider, turn = self._provider, self._turn
        if self.is_counted:
            if provider._counts_cost:
                self._price = await provider.price_of(self.model)
                if self._price is None:
                    turn.refused = "price"
                    turn.stops = f"{unknown_price(self.model)}, so --max-cost cannot hold"
                    raise LimitReachedError(turn.stops, limit="price")
            self._input = int(await provider.count_tokens(request) * INPUT_MARGIN) + 1
            self._reserved_output = self._most_output(request)
        grant = await self._asked(
            provider._gate.allow(
                Reservation(
                    id=turn.id,
                    claim=turn.claim,
                    model=self.model,
                    tokens=self._input + self._reserved_output if provider._counts_tokens else 0,
                    cost_usd=self._usd(self._input, self._reserved_output),
                ),
                is_first=not turn.sent,
            )
        )
        self._check(grant)
        if not turn.sent:
            turn.sent = True
            turn.begin()

    def _most_output(self, request: ModelRequest) -> int:
        said = request.options.get("max_output_tokens")
        known = said if isinstance(said, int) else None
        if known is None and self._provider._counts_cost:
            known = self._provider.capabilities(request.model).max_output_tokens
        if known is not None:
            self._is_bounded = True
            return known
        return self._provider._usual_output

    def _usd(self, input_tokens: int, output_tokens: float) -> float:
        if self._price is None:
            return 0.0
        rate = self._price.of(input_tokens)
        dearest = max(rate.input, rate.cache_write or 0.0, rate.cache_write_1h or 0.0)
        return (input_tokens * dearest + output_tokens * rate.output) / 1_000_000

    async def grow(self, event: ModelEvent) -> None:
        """Count a piece of the answer before it is taken, and reserve more if it is longer than what was reserved."""
        if isinstance(event, (TextDelta, ReasoningDelta)):
            self._output += max(_bytes(event.text) / BYTES_PER_TOKEN, 1)
        elif isinstance(event, ToolCallDelta):
            self._output += max(_bytes(event.arguments) / BYTES_PER_TOKEN, 1)
        self.has_output = True
        if self._is_bounded or self._output <= self._reserved_output:  # the server keeps to a limit that it was given
            return
        more = max(OUTPUT_TOKENS, int(self._output - self._reserved_output))
        grant = await self._asked(
            self._provider._gate.more(
                Reservation(
                    id=self._turn.id,
                    claim=self._turn.claim,
                    model=self.model,
                    tokens=more if self._provider._counts_tokens else 0,
                    cost_usd=self._usd(0, more),
                    more=True,
                )
            )
        )
        self._check(grant)
        self._reserved_output += more

    async def _asked(self, asking: object) -> Grant:
        try:
            return await asking  # type: ignore[misc, no-any-return]
        except EngineError as error:
            self._turn.engine_error = error
            raise

    def _check(self, grant: Grant) -> None:
        if grant.allowed:
            return
        self._turn.refused = grant.refused
        raise LimitReachedError(_REFUSALS.get(str(grant.refused), "the batch is stopped"), limit=str(grant.refused))

    async def end(self, usage: Usage | None) -> None:
        """Say what the request really used."""
        if not self.is_counted:
            return
        tokens = None if usage is None or usage.unknown else usage.input_tokens + usage.output_tokens
        if usage is not None and usage.output_tokens:
            usual = self._provider._usual_output
            self._provider._usual_output = max(256, int(0.9 * usual + 0.1 * 2 * usage.output_tokens))
        used = Used(id=self._turn.id, claim=self._turn.claim, tokens=tokens, cost_usd=cost_of(usage, self._price))
        with suppress(AfkError):
            await self._provider._engine.use(self._provider._batch, [used])


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def unknown_price(model: str) -> str:
    """Return the line that says that the price of a model is unknown, and where to set it."""
    return f'the price of {model} is unknown; set it in your config under [prices."{model}"]'


_REFUSALS = {
    "max_cost": "the batch has no money left for another request (--max-cost)",
    "tokens_per_minute": "the request alone may use more tokens than --tpm allows in a minute",
    "lost": "another worker has this prompt by now",
    "paused": "the batch is stopped",
}

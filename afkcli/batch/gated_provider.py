"""A provider whose requests are counted by the engine before they leave, and corrected when their answers are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Final

from afkcli.batch.gate import Gate
from afkcli.batch.output_limit import limited, output_limit, said_limit, usd_of
from afkcli.core.contract.engine import BatchLimits, Engine, Grant, Reservation, Used
from afkcli.core.contract.errors import AfkError, EngineError, ErrorKind, LimitReachedError, ProviderError
from afkcli.core.contract.messages import (
    FinishReason,
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
"""How many tokens of output are reserved at once, where an answer is longer than what was reserved for it."""
INPUT_MARGIN: Final = 1.5
"""What an estimate of the input is multiplied by: servers count more than it, and rarely more than this."""
BYTES_PER_TOKEN: Final = 3
"""The least bytes of an answer that a token is taken for: 4 in English, 3 where each character is a token."""
HOLD_WITHOUT_NUMBER_S: Final = 1.0
"""How long a model is slowed down whose server refused a request by its rate, and did not say for how long."""


class Turn(Struct):
    """What is known of the prompt that runs in a task. `sent` is whether a request of it was allowed.

    `refused` is why the last one was not, and `stops` why no other prompt should be asked either; `stops_others` is the
    same where this one goes on. `begin` is called when the first one leaves.
    """

    id: str
    claim: str
    begin: Callable[[], object] = lambda: None
    sent: bool = False
    refused: str | None = None
    stops: str | None = None
    stops_others: str | None = None
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
        notify: takes a line for a person.
    """

    def __init__(
        self,
        provider: Provider,
        engine: Engine,
        batch: str,
        gate: Gate,
        limits: BatchLimits,
        price: Callable[[str], Price | None],
        notify: Callable[[str], object] = lambda line: None,
    ) -> None:
        super().__init__(provider)
        self._engine = engine
        self._batch = batch
        self._gate = gate
        self._counts_tokens = limits.tokens_per_minute is not None
        self._most_usd = limits.max_cost_usd
        self._price = price
        self._notify = notify
        self._prices: dict[str, asyncio.Future[Price | None]] = {}

    async def count_tokens(self, request: ModelRequest) -> int:
        return await self._provider.count_tokens(request)

    async def aclose(self) -> None:
        await self._provider.aclose()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        turn = TURN.get()
        model = f"{self.name}/{request.model}"
        call = _Call(self, turn, model)
        request = await call.begin(request)
        events = self._provider.stream(request)
        try:
            async for event in events:
                if isinstance(event, ModelResponse):
                    await call.check_length(event)
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
        self._limit: int | None = None
        self._is_open_ended = False
        self._is_cut = False

    @property
    def is_counted(self) -> bool:
        return self._provider._counts_tokens or self._provider._most_usd is not None

    async def begin(self, request: ModelRequest) -> ModelRequest:
        """Wait until the request may be sent; return it with the limit of its answer.

        Raises:
            LimitReachedError: it never may be.
            EngineError: the engine failed.
        """
        provider, turn = self._provider, self._turn
        said = self._limit = said_limit(request)
        self._is_open_ended = self.is_counted and said is None
        if self.is_counted:
            if provider._most_usd is not None:
                self._price = await self._known_price()
            self._input = int(await provider.count_tokens(request) * INPUT_MARGIN) + 1
            request = self._limited(request)
        grant = await self._allowed(said)
        if grant.refused == "max_cost" and self._is_made_smaller(grant.longest_output):
            request = limited(request, self._limit or 1)
            grant = await self._allowed(said)
        self._check(grant)
        counts_answers = self._is_open_ended and provider._counts_tokens
        self._reserved_output = grant.tokens - self._input if counts_answers else self._most_output
        if not turn.sent:
            turn.sent = True
            turn.begin()
        return request

    @property
    def _most_output(self) -> int:
        return OUTPUT_TOKENS if self._limit is None else self._limit

    async def _allowed(self, said: int | None) -> Grant:
        turn, provider = self._turn, self._provider
        return await self._asked(
            provider._gate.allow(
                Reservation(
                    id=turn.id,
                    claim=turn.claim,
                    model=self.model,
                    tokens=(self._input + (said or 0)) if provider._counts_tokens else 0,
                    cost_usd=self._usd(self._input, self._most_output),
                    open_ended=self._is_open_ended,
                ),
                is_first=not turn.sent,
            )
        )

    def _is_made_smaller(self, longest: int) -> bool:
        """Make the limit that was set here smaller, by the answers so far, so that the rest of the money is used."""
        if not self._is_open_ended or self._limit is None or not 0 < _LONGER * longest < self._limit:
            return False
        self._limit, self._is_cut = _LONGER * longest, True
        return True

    async def _known_price(self) -> Price:
        price = await self._provider.price_of(self.model)
        if price is None:
            turn = self._turn
            turn.refused = "price"
            turn.stops = f"{unknown_price(self.model)}, so --max-cost cannot hold"
            raise LimitReachedError(turn.stops, limit="price")
        return price

    def _limited(self, request: ModelRequest) -> ModelRequest:
        """Return the request with a limit of its answer, where its cost has one and nobody has set another."""
        provider = self._provider
        if self._limit is not None or self._price is None or provider._most_usd is None:
            return request
        capabilities = provider.capabilities(request.model)
        self._limit = output_limit(capabilities, self._price, self._input, provider._most_usd)
        if self._limit is None:
            return request
        self._is_cut = self._limit != capabilities.max_output_tokens
        return limited(request, self._limit)

    async def check_length(self, response: ModelResponse) -> None:
        """Say why an answer was cut here, and stop the batch where the server does not keep to the limit."""
        output = 0 if response.usage is None else response.usage.output_tokens
        if self._price is not None and self._limit is not None and output > self._limit:
            self._turn.stops_others = (
                f"{self.model} was asked for at most {self._limit:,} tokens and has answered with {output:,}, "
                "so --max-cost cannot hold; set --option max_output_tokens to more"
            )
            with suppress(EngineError):  # before others learn that this one is over, and begin
                await self._provider._engine.pause(self._provider._batch, self._turn.stops_others)
        if self._is_cut and response.finish_reason is FinishReason.LENGTH:
            self._provider._notify(
                f"an answer was cut at {self._limit:,} tokens, so that --max-cost holds; "
                "--option max_output_tokens=N sets another limit"
            )

    def _usd(self, input_tokens: int, output_tokens: float) -> float:
        return 0.0 if self._price is None else usd_of(self._price, input_tokens, output_tokens)

    async def grow(self, event: ModelEvent) -> None:
        """Count a piece of the answer before it is taken, and reserve more if it is longer than what was reserved."""
        if isinstance(event, (TextDelta, ReasoningDelta)):
            self._output += max(_bytes(event.text) / BYTES_PER_TOKEN, 1)
        elif isinstance(event, ToolCallDelta):
            self._output += max(_bytes(event.arguments) / BYTES_PER_TOKEN, 1)
        self.has_output = True
        if self._output <= self._reserved_output:
            return
        if self._limit is not None and self._reserved_output >= self._limit:  # the server keeps to it
            return
        more = max(OUTPUT_TOKENS, int(self._output - self._reserved_output))
        grant = await self._asked(
            self._provider._gate.more(
                Reservation(
                    id=self._turn.id,
                    claim=self._turn.claim,
                    model=self.model,
                    tokens=more if self._provider._counts_tokens else 0,
                    cost_usd=self._usd(0, more) if self._limit is None else 0.0,
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
        if usage is None or usage.unknown:
            output = int(self._output)  # by its text, so that the next ones can be counted
            tokens = self._input + output if self._is_open_ended else None
        else:
            output, tokens = usage.output_tokens, usage.input_tokens + usage.output_tokens
        used = Used(
            id=self._turn.id,
            claim=self._turn.claim,
            tokens=tokens,
            cost_usd=cost_of(usage, self._price),
            output_tokens=None if self._turn.stops_others else output,
        )
        with suppress(AfkError):
            await self._provider._engine.use(self._provider._batch, [used])


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def unknown_price(model: str) -> str:
    """Return the line that says that the price of a model is unknown, and where to set it."""
    return f'the price of {model} is unknown; set it in your config under [prices."{model}"]'


_LONGER = 3
"""How many times longer than the longest answers a request may be answered that takes the rest of the money."""
_REFUSALS = {
    "max_cost": "the batch has no money left for another request (--max-cost)",
    "tokens_per_minute": "the request alone may use more tokens than --tpm allows in a minute",
    "lost": "another worker has this prompt by now",
    "paused": "the batch is stopped",
}

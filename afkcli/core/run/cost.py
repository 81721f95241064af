"""The cost of a run and its limit: from the tokens that the provider reports, and from estimates until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from afkcli.core.contract.errors import AfkError, LimitReachedError, UsageError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import ModelRequest
from afkcli.core.contract.protocols import Price
from afkcli.core.contract.result import Usage
from afkcli.core.contract.tasks import contained, seen_through
from afkcli.core.run.budgets import ROUNDING, Reservation, Reservations
from afkcli.core.run.models import Model

CHARS_PER_TOKEN = 4
"""The usual estimate for English text; used only until the provider reports the number of tokens."""

FREE = Price(input=0.0, output=0.0)

_DIGITS = 12  # after the decimal point; a token costs more, smaller differences come from adding floats

_SOMETHING = 1e-6  # of a token; smaller amounts come from rounding

COUNT_SECONDS = 10.0
"""How long a provider may take to count the tokens of a request; after that they are estimated."""

RESERVED_TOKENS = 256
"""How many tokens of output are reserved ahead in the budgets; other runs cannot use them meanwhile."""


def cost_of(usage: Usage | None, price: Price | None) -> float | None:
    """Return US dollars, or None if the price or the usage is unknown; a free model costs 0 in any case."""
    if price is None:
        return None
    if usage is None or not usage.has_known_cost:
        return 0.0 if price.is_free else None
    price = price.of(usage.input_tokens)
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    for_an_hour = min(written, usage.cache_creation_1h_input_tokens)
    dollars = (
        max(0, usage.input_tokens - read - written) * price.input
        + read * (price.input if price.cache_read is None else price.cache_read)
        + (written - for_an_hour) * (price.input if price.cache_write is None else price.cache_write)
        + for_an_hour * (2 * price.input if price.cache_write_1h is None else price.cache_write_1h)
        + usage.output_tokens * price.output
    )
    return dollars / 1_000_000


class Spending:
    """The cost of the calls of one run.

    Without a limit or a budget, prices are looked up only after a request was sent: it may import a price list.

    Args:
        config: has the limit of the run.
        reservations: the budgets of its calls.
    """

    def __init__(self, config: FailSafeConfig, reservations: Reservations) -> None:
        self._limit = config.max_total_cost_usd
        self._reservations = reservations
        self._refuses_unknown = config.on_unknown_price == "refuse" or bool(reservations)
        self._spent = 0.0
        self._ended: list[tuple[Usage | None, Model]] = []
        self._open: set[CallCost] = set()
        self._prices: dict[str, asyncio.Future[Price | None]] = {}

    @property
    def is_limited(self) -> bool:
        return self._limit is not None or bool(self._reservations)

    async def check_prices(self, models: Sequence[Model]) -> list[tuple[str, str]]:
        """Return the warnings for models with an unknown price, for which a limit cannot be enforced.

        Raises:
            UsageError: there is one, and the agent says to refuse the run; or a budget cannot be enforced.
        """
        if not self.is_limited:
            return []
        prices = [await self._price(model) for model in models]
        if not self._reservations.can_hold and not all(price is not None and price.is_free for price in prices):
            raise UsageError(
                "the day's budget (day_usd) cannot count a run without memory; run without --no-memory, or with a "
                "model that is free"
            )
        unknown = [model for model, price in zip(models, prices, strict=True) if price is None]
        what = "budgets" if self._reservations else "cost limit"
        lines = [
            f"the price of {model.full_name} is unknown, so the {what} cannot be enforced; set it in the user's config "
            f'under [prices."{model.full_name}"] (input, output: US dollars per million tokens)'
            for model in unknown
        ]
        if lines and self._refuses_unknown:
            raise UsageError(lines[0])
        return [("price_unknown", line) for line in lines]

    async def start_call(self, model: Model, request: ModelRequest) -> CallCost:
        """Return the cost counter of a call that is about to be made.

        Raises:
            LimitReachedError: after its input, nothing of the limit or of a budget would be left for an answer.
            StoreError: the budgets could not be read.
        """
        price = await self._price(model) if self.is_limited else None
        if price is None or price.is_free:
            return CallCost(self, model)
        tokens = await _input_tokens(model, request)
        input_usd = tokens * price.of(tokens).input / 1_000_000
        self.check(input_usd)
        reservation = self._reservations.open() if self._reservations else None
        call = CallCost(self, model, price, tokens, reservation)
        try:
            await call.start()
        except BaseException:
            call.fail()
            raise
        return call

    def check(self, usd: float) -> None:
        """Raise `LimitReachedError` if the limit is reached by a call that has cost `usd` so far."""
        if self._limit is None:
            return
        if self._spent + usd >= self._limit * (1 - ROUNDING):
            raise LimitReachedError(
                f"the limit max_total_cost_usd={self._limit:g} was reached", limit="max_total_cost_usd"
            )

    def begun(self, call: CallCost) -> None:
        """Add a call in progress."""
        self._open.add(call)

    def ended(self, call: CallCost, *, usd: float) -> None:
        """Remove a call in progress, and add `usd` to what counts for the limit."""
        self._open.discard(call)
        if call.is_billed:
            self._ended.append((call.usage, call.model))
        self._spent += usd

    def look_up(self, model: Model) -> asyncio.Future[Price | None]:
        """Look up the price of a model once: in an executor, unless another run has done so of late."""
        name = model.full_name
        if name not in self._prices:
            loop, known = asyncio.get_running_loop(), model.known_price()
            if known is None:
                self._prices[name] = loop.run_in_executor(None, model.price)
            else:
                self._prices[name] = loop.create_future()
                self._prices[name].set_result(known[0])
        return self._prices[name]

    async def cost_of(self, usage: Usage | None, model: Model) -> float | None:
        """Return what one call cost, or None if that is unknown."""
        return cost_of(usage, await seen_through(self.look_up(model)))

    async def total_usd(self) -> float | None:
        """Return the cost of all calls together, or None if a part of it is unknown."""
        total = 0.0
        for usage, model in [*self._ended, *((None, call.model) for call in self._open)]:
            cost = cost_of(usage, await seen_through(self.look_up(model)))
            if cost is None:
                return None
            total += cost
        return round(total, _DIGITS)

    async def _price(self, model: Model) -> Price | None:
        return await asyncio.shield(self.look_up(model))


class CallCost:
    """The cost of one call while it runs; without `price` it has no limit.

    Args:
        input_tokens: the estimated tokens of its input.
        reservation: what it has reserved in the budgets.

    When the call has ended, `usage` is what the provider reported, and `is_billed` whether the call is paid for.
    """

    def __init__(
        self,
        spending: Spending,
        model: Model,
        price: Price | None = None,
        input_tokens: int = 0,
        reservation: Reservation | None = None,
    ) -> None:
        self.model = model
        self.usage: Usage | None = None
        self.is_billed = True
        self._spending = spending
        self._price = price
        rate = price.of(input_tokens) if price is not None else FREE
        self._usd = input_tokens * rate.input / 1_000_000
        self._token_usd = rate.output / 1_000_000
        self._reservation = reservation
        spending.begun(self)

    def pieces(self, text: str) -> Iterable[str]:
        """Return a text as the pieces that are counted one after the other: token by token, if there is a limit.

        So it makes no difference to a limit how much of an answer comes at once.
        """
        if self._price is None or len(text) <= CHARS_PER_TOKEN:
            return (text,)
        return (text[start : start + CHARS_PER_TOKEN] for start in range(0, len(text), CHARS_PER_TOKEN))

    async def stream(self, text: str) -> None:
        """Count a piece of the answer before it is taken, as long as anything is left to pay for it.

        Raises:
            LimitReachedError: the limit was reached, or a budget is used up.
            StoreError: the budgets could not be read.
        """
        if self._price is None:
            self._spending.look_up(self.model)
            return
        usd = len(text) / CHARS_PER_TOKEN * self._token_usd
        if usd:
            self._spending.check(self._usd)
            if self._reservation is not None and self._usd + usd > self._reservation.usd:
                await self._reserve(self._reservation, usd, at_least=self._token_usd * _SOMETHING)
        self._usd += usd

    async def start(self) -> None:
        """Reserve the input, and some output ahead, in the budgets; raises as `stream`."""
        if self._reservation is not None:
            await self._reserve(self._reservation, 0.0, at_least=self._token_usd)

    async def _reserve(self, reservation: Reservation, usd: float, *, at_least: float) -> None:
        """Reserve the cost so far, `usd` more and some output ahead, or at least `at_least` more."""
        due = self._usd - reservation.usd
        await reservation.grow(due + usd + RESERVED_TOKENS * self._token_usd, at_least=due + at_least)

    def end(self, usage: Usage | None) -> None:
        """Count a call that ended; if the provider reported no `usage`, the estimate counts."""
        self.usage = usage
        cost = cost_of(usage, self._price)
        self._settle(self._usd if cost is None else cost)

    def fail(self) -> None:
        """Count nothing: the call failed before any part of its answer came, so it is not billed."""
        self.is_billed = False
        self._settle(0.0)

    def _settle(self, usd: float) -> None:
        self._spending.ended(self, usd=usd)
        if self._reservation is not None:
            self._reservation.settle(usd)


async def _input_tokens(model: Model, request: ModelRequest) -> int:
    """Return the input tokens of a request: counted by its provider, else estimated from the length of its text."""
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            with contained(f"the provider {model.provider.name!r}"):
                return max(0, int(await model.provider.count_tokens(request)))
    except (AfkError, TimeoutError):  # the call itself will report what is wrong
        size = sum(len(dumps(message_to_json(message))) for message in request.messages)
        return size // CHARS_PER_TOKEN

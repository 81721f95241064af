"""The providers of a batch that have batches of their own, and cancelling what they work on."""

from __future__ import annotations

from typing import cast

from afkcli.batch.provider_chunks import chunks_in
from afkcli.core.contract.engine import BatchInfo
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.protocols import Price, Provider
from afkcli.core.contract.provider_batches import BatchingProvider, ProviderBatches
from afkcli.core.contract.structs import Struct, field, replace
from afkcli.wiring.plugin_objects import make_provider
from afkcli.wiring.setup import Setup


class Providers:
    """The providers of a batch, and their batches, each made when it is first needed."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._made: dict[str, tuple[Provider, ProviderBatches]] = {}

    def both(self, name: str) -> tuple[Provider, ProviderBatches]:
        """Return a provider and its batches.

        Raises:
            UsageError: it has none.
        """
        if name not in self._made:
            provider = make_provider(self._setup, name)
            self._made[name] = provider, batches_of(provider)
        return self._made[name]

    def batches(self, name: str) -> ProviderBatches:
        """Return the batches of a provider; raises as `both`."""
        return self.both(name)[1]

    def price_factor(self, name: str) -> float:
        """Return the part of its usual price that a provider takes; all of it if its batches are not used yet."""
        return self._made[name][1].limits.price_factor if name in self._made else 1.0

    async def aclose(self) -> None:
        for provider, _ in self._made.values():
            await provider.aclose()
        self._made.clear()


def batches_of(provider: Provider) -> ProviderBatches:
    """Return the batches of a provider; `UsageError` if it has none."""
    if not hasattr(provider, "batches"):
        raise UsageError(
            f"the provider {provider.name!r} has no batches; leave out --via provider, or use another model"
        )
    return cast("BatchingProvider", provider).batches()


class Cancelled(Struct):
    """What became of the chunks of a batch that was cancelled: the ids at the provider, and what could not be done."""

    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def cancel_chunks(setup: Setup, batch: BatchInfo) -> Cancelled:
    """Ask the providers to end the batches that are open for a batch, and return what became of it.

    The prompts stay `sent` until their results are taken: some of them may have been answered.
    """
    done, providers = Cancelled(), Providers(setup)
    try:
        for record in chunks_in(batch.settings).values():
            if not record.batch or record.refused:
                continue
            if not record.certain:
                done.problems.append(
                    f"it is not certain that the batch {record.batch} at {record.provider} is this one; cancel it there"
                )
                continue
            try:
                await providers.batches(record.provider).cancel(record.batch)
                done.asked.append(record.batch)
            except AfkError as error:
                done.problems.append(f"the batch {record.batch} was not cancelled: {error}")
    finally:
        await providers.aclose()
    return done


def discounted(price: Price, factor: float) -> Price:
    """Return a part of a price."""

    def part(rate: float | None) -> float | None:
        return None if rate is None else rate * factor

    return replace(
        price,
        input=price.input * factor,
        output=price.output * factor,
        cache_read=part(price.cache_read),
        cache_write=part(price.cache_write),
        cache_write_1h=part(price.cache_write_1h),
        tiers=tuple(replace(tier, price=discounted(tier.price, factor)) for tier in price.tiers),
    )

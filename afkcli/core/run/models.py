"""The models of a run: resolved by name, the first in use, the others as fallbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import PluginContractError, UnknownNameError, UsageError
from afkcli.core.contract.options import check_options
from afkcli.core.contract.protocols import Capabilities, Price, Provider
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import contained

PriceLookup = Callable[[str, Capabilities], Price | None]
"""Returns the price of the model `provider/model`, or None if it is unknown; it is called on any thread."""


PRICE_SECONDS = 3600.0
"""How long a price that was looked up is kept: a list of prices may have others by the hour."""


class Prices:
    """The prices of models, shared by the runs of a runner, so that not each of them looks them up.

    Args:
        look_up: returns the price of a model; it may import a price list, and is called on any thread.
    """

    def __init__(self, look_up: PriceLookup) -> None:
        self._look_up = look_up
        self._found: dict[str, tuple[float, Capabilities, Price | None]] = {}

    def known(self, full_name: str, capabilities: Capabilities) -> tuple[Price | None] | None:
        """Return the price alone in a tuple if it was looked up of late, else None."""
        when, of, price = self._found.get(full_name, (-PRICE_SECONDS, None, None))
        return (price,) if of == capabilities and time.monotonic() - when < PRICE_SECONDS else None

    def look_up(self, full_name: str, capabilities: Capabilities) -> Price | None:
        """Return the price, or None if it is unknown."""
        price = self._look_up(full_name, capabilities)
        self._found[full_name] = (time.monotonic(), capabilities, price)
        return price


class WindowLookup:
    """Says how many tokens the window of a model has.

    Args:
        configured: the windows by `provider/model`.
        listed: returns the window of a model by a list; it may import the list, and is called on any thread.
    """

    def __init__(
        self,
        configured: Mapping[str, int] = MappingProxyType({}),
        listed: Callable[[str, Capabilities], int | None] = lambda full_name, capabilities: None,
    ) -> None:
        self._configured = configured
        self._listed = listed

    def known(self, model: Model, told: int | None = None) -> int | None:
        """Return the window as the config says, else the smaller of what the provider and the server say, or None.

        Args:
            model: the model.
            told: what the server said when it refused an earlier request.
        """
        said = [window for window in (model.capabilities.context_tokens, told) if window]
        return self._configured.get(model.full_name) or min(said, default=None)

    def listed(self, model: Model) -> int | None:
        """Return the window by the list, or None if it is not there."""
        return self._listed(model.full_name, model.capabilities)


NO_LIST = WindowLookup()


class Model(FrozenStruct, kw_only=True):
    """A resolved model: its provider, and its name without the provider."""

    provider: Provider
    name: str
    capabilities: Capabilities
    prices: Prices

    @property
    def full_name(self) -> str:
        return f"{self.provider.name}/{self.name}"

    def price(self) -> Price | None:
        """Return the price, or None if it is unknown; the first look-up may import a price list."""
        return self.prices.look_up(self.full_name, self.capabilities)

    def known_price(self) -> tuple[Price | None] | None:
        """Return the price alone in a tuple if it was looked up of late, else None."""
        return self.prices.known(self.full_name, self.capabilities)


class Models:
    """The models of one run; `current` is in use.

    Args:
        models: the agent's model, then its fallback models in order.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = list(models)

    @property
    def current(self) -> Model:
        return self._models[0]

    @property
    def has_fallback(self) -> bool:
        return len(self._models) > 1

    def fall_back(self) -> None:
        """Use the next fallback model from now on."""
        del self._models[0]


def resolve_models(agent: Agent, providers: Mapping[str, Provider], prices: Prices) -> list[Model]:
    """Return the model of `agent` and its fallback models, each of which takes its options.

    Raises:
        UsageError: a model is not known, or does not take an option.
    """
    names = (agent.model, *agent.fail_safe.fallback_models)
    models = [resolve_model(name, providers, prices) for name in names]
    for model in models:
        check_options(agent.options, agent.extra, model.full_name, model.capabilities)
    return models


def resolve_summary_model(agent: Agent, providers: Mapping[str, Provider], prices: Prices) -> Model | None:
    """Return the model that makes the summaries of the conversations of `agent`; None if that is its own, or none does.

    Raises:
        UsageError: the model is not known.
    """
    context = agent.context
    if context.policy not in ("compact", "native") or context.model is None:
        return None
    return resolve_model(context.model, providers, prices)


def resolve_model(full_name: str | None, providers: Mapping[str, Provider], prices: Prices) -> Model:
    """Return the model named `provider/model`, its provider loaded."""
    if full_name is None:
        raise UsageError("the agent has no model; set one as provider/model")
    provider_name, slash, name = full_name.partition("/")
    if not slash:
        raise UsageError(f"the model {full_name!r} has no provider; write it as provider/model")
    try:
        provider = providers[provider_name]
    except KeyError:
        from afkcli.core.contract.suggestions import near_names

        near = near_names(provider_name, providers)
        hint = (
            f"did you mean {f'{near[0]}/{name}'!r}?" if near else f"installed: {', '.join(sorted(providers)) or 'none'}"
        )
        raise UnknownNameError(f"there is no provider {provider_name!r}; {hint}") from None
    name = name or provider.default_model or ""
    if not name:
        raise UsageError(f"the provider {provider_name!r} has no default model; name one as {provider_name}/MODEL")
    capabilities = _capabilities(provider, provider_name, name)
    return Model(provider=provider, name=name, capabilities=capabilities, prices=prices)


def _capabilities(provider: Provider, provider_name: str, model: str) -> Capabilities:
    with contained(f"the provider {provider_name!r}"):
        capabilities = provider.capabilities(model)
    if not isinstance(capabilities, Capabilities):
        what = f"the capabilities of {provider_name}/{model}"
        raise PluginContractError(f"{what} are of the type {type(capabilities).__name__}, not Capabilities")
    return capabilities

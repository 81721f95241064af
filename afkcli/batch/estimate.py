"""What a batch will take, as far as it can be known before anything is asked: prompts, tokens, dollars.

Tokens of the input are estimated as everywhere in afk (four bytes of text to a token, a fixed number for an image);
no server is asked. The answers are counted by `max_output_tokens`, as the most that they may be; where that is not set
they are unknown, and so is their cost. Tools, further steps and retries are not counted.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from afkcli.batch.asking import flags_of_prompt
from afkcli.batch.prompt import Defaults, Prompt
from afkcli.core.contract.jsonform import JsonObject, dumps
from afkcli.core.contract.media_types import IMAGES
from afkcli.core.contract.messages import FilePart, ImagePart
from afkcli.core.contract.protocols import Price
from afkcli.core.contract.structs import Struct, field
from afkcli.core.run.models import Model, Prices, resolve_model
from afkcli.core.thread.trimming import IMAGE_TOKENS, text_tokens, tokens_of
from afkcli.wiring.agents import agent_for
from afkcli.wiring.plugin_objects import make_provider_without_key
from afkcli.wiring.prices import PriceList
from afkcli.wiring.setup import Setup

_MESSAGE_TOKENS = 4


class ModelEstimate(Struct, kw_only=True):
    """What the prompts of one model take.

    Args:
        model: `provider/model`.
        prompts: how many prompts it has.
        input_tokens: the estimated tokens of their input.
        max_output_tokens: the most tokens of their answers; None where a prompt sets no limit.
        price: its price; None if it is unknown.
    """

    model: str
    price: Price | None
    prompts: int = 0
    input_tokens: int = 0
    max_output_tokens: int | None = 0
    _input_usd: float = 0.0
    _output_usd: float = 0.0

    @property
    def input_usd(self) -> float | None:
        """The estimated cost of the input; None if the price is unknown."""
        return None if self.price is None else self._input_usd

    @property
    def most_usd(self) -> float | None:
        """The most that input and answers cost; None if the price or the longest answer is unknown."""
        if self.price is None:
            return None
        if self.price.is_free:
            return 0.0
        return None if self.max_output_tokens is None else self._input_usd + self._output_usd

    def add(self, tokens: int, most: int | None) -> None:
        """Count a prompt: the tokens of its input, and the most of its answer."""
        self.prompts += 1
        self.input_tokens += tokens
        if most is None or self.max_output_tokens is None:
            self.max_output_tokens = None
        else:
            self.max_output_tokens += most
        if self.price is not None:
            rate = self.price.of(tokens)
            self._input_usd += tokens * rate.input / 1_000_000
            self._output_usd += (most or 0) * rate.output / 1_000_000


class Estimate(Struct, kw_only=True):
    """What a batch takes, by its models."""

    models: dict[str, ModelEstimate] = field(default_factory=dict)

    @property
    def prompts(self) -> int:
        return sum(model.prompts for model in self.models.values())

    @property
    def input_tokens(self) -> int:
        return sum(model.input_tokens for model in self.models.values())

    @property
    def input_usd(self) -> float | None:
        """The estimated cost of the input; None if the price of a model is unknown."""
        return _total(model.input_usd for model in self.models.values())

    @property
    def most_usd(self) -> float | None:
        """The most that input and answers cost; None if a price or the longest answer is unknown."""
        return _total(model.most_usd for model in self.models.values())

    def to_json(self) -> JsonObject:
        """Return the estimate as plain JSON."""
        return {
            "prompts": self.prompts,
            "input_tokens": self.input_tokens,
            "input_usd": self.input_usd,
            "most_usd": self.most_usd,
            "models": [_form(model) for model in self.models.values()],
        }


def _form(model: ModelEstimate) -> JsonObject:
    names = ("model", "prompts", "input_tokens", "max_output_tokens", "input_usd", "most_usd")
    return {name: getattr(model, name) for name in names}


def _total(amounts: Iterable[float | None]) -> float | None:
    found = list(amounts)
    known = [amount for amount in found if amount is not None]
    return sum(known) if len(known) == len(found) else None


class Estimator:
    """Estimates what prompts take.

    Args:
        setup: the config and the plugins.
        defaults: what the command line says for all prompts.
        via_provider: whether batches of the providers answer the prompts, at their prices.
    """

    def __init__(self, setup: Setup, defaults: Defaults, *, via_provider: bool = False) -> None:
        self._setup = setup
        self._defaults = defaults
        self._via_provider = via_provider
        self._prices = Prices(PriceList(setup.config.prices()))
        self._agents: dict[str, tuple[str, int, int | None]] = {}
        self._models: dict[str, ModelEstimate] = {}
        self.estimate = Estimate()

    def each(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        """Yield the prompts, and count each; raises as `add`."""
        for prompt in prompts:
            self.add(prompt.request)
            yield prompt

    def add(self, request: Mapping[str, Any]) -> None:
        """Count the request of a prompt.

        Raises:
            UsageError: nothing names a model, or the one that is named cannot be used.
        """
        model, fixed, most = self._agent(request)
        tokens = fixed + _text_of(request) + sum(map(_text_of, request.get("history", ())))
        self._model(model).add(tokens, most)

    def _agent(self, request: Mapping[str, Any]) -> tuple[str, int, int | None]:
        """Return the model of a prompt, the tokens of what its agent adds, and the most tokens of its answer."""
        said = {name: request[name] for name in _OF_THE_AGENT if name in request}
        key = dumps(said)
        if key not in self._agents:
            if len(self._agents) >= _MOST_AGENTS:
                self._agents.clear()
            agent = agent_for(self._setup, flags_of_prompt(self._defaults, said), None)
            fixed = text_tokens(agent.instructions) + _MESSAGE_TOKENS if agent.instructions else 0
            fixed += text_tokens(dumps(agent.output_type)) if agent.output_type is not None else 0
            most = agent.options.get("max_output_tokens")
            self._agents[key] = agent.model or "", fixed, most if isinstance(most, int) else None
        return self._agents[key]

    def _model(self, named: str) -> ModelEstimate:
        if named not in self._models:
            provider = named.partition("/")[0]
            found = resolve_model(named, {provider: make_provider_without_key(self._setup, provider)}, self._prices)
            made = ModelEstimate(model=found.full_name, price=self._price(found))
            self._models[named] = self.estimate.models.setdefault(found.full_name, made)
        return self._models[named]

    def _price(self, model: Model) -> Price | None:
        price = model.price()
        if not self._via_provider:
            return price
        from afkcli.batch.batching_providers import batches_of, discounted  # not at the top: few batches go there

        factor = batches_of(model.provider).limits.price_factor
        return None if price is None else discounted(price, factor)


_MOST_AGENTS = 1000
_OF_THE_AGENT = ("agent", "model", "options", "instructions", "schema")


def _text_of(message: Mapping[str, Any]) -> int:
    """Return the estimated tokens of a message of a request, with what is attached to it."""
    text = message.get("message", message.get("text", ""))
    return _MESSAGE_TOKENS + text_tokens(text) + sum(map(_attached_tokens, message.get("attachments", ())))


def _attached_tokens(form: JsonObject) -> int:
    """Return the estimated tokens of an attachment; of a URL as of an image, because it is not fetched."""
    if "url" in form:
        return IMAGE_TOKENS
    kind = ImagePart if form["media_type"] in IMAGES else FilePart
    return tokens_of(kind(sha256=form["sha256"], media_type=form["media_type"], size=form["size"]))

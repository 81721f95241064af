"""`afk batch run --dry-run`: how many prompts there are, and what they will take, before anything is paid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from afkcli.batch.estimate import Estimate, Estimator, ModelEstimate
from afkcli.core.contract.text import dollars
from afkcli.screen.streams import Stdout

if TYPE_CHECKING:
    from afkcli.batch.prompt import Defaults, Prompt
    from afkcli.wiring.setup import Setup

_ANSWERS = "the answers have no limit; set one with --option max_output_tokens=N"
_PRICE = "the price is not known; set it in the config under [prices]"


def show_estimate(
    setup: Setup, defaults: Defaults, prompts: Iterable[Prompt], *, as_json: bool, via_provider: bool = False
) -> None:
    """Read the prompts, and write what they will take to stdout; raises as reading does."""
    estimator = Estimator(setup, defaults, via_provider=via_provider)
    for _ in estimator.each(prompts):
        pass
    stdout, estimate = Stdout(setup.invocation), estimator.estimate
    if as_json:
        stdout.objects([{"v": 1, "type": "batch_estimate", **estimate.to_json()}])
    else:
        stdout.lines(_lines(estimate))


def _lines(estimate: Estimate) -> Iterator[str]:
    yield f"prompts   {estimate.prompts:,}"
    yield f"input     about {estimate.input_tokens:,} tokens{_cost(estimate.input_usd)}"
    for model in estimate.models.values():
        yield f"model     {model.model}: {model.prompts:,} prompts, about {model.input_tokens:,} tokens{_of(model)}"
    most = estimate.most_usd
    yield f"cost      {'unknown' if most is None else f'at most about {dollars(most)}'}{_why(estimate)}"


def _cost(usd: float | None) -> str:
    return ", cost unknown" if usd is None else f", about {dollars(usd)}"


def _of(model: ModelEstimate) -> str:
    most = model.max_output_tokens
    answers = "answers of any length" if most is None else f"answers of at most {most:,} tokens"
    return f"{_cost(model.input_usd)}; {answers}"


def _why(estimate: Estimate) -> str:
    """Return why the cost is not known, and what its estimate leaves out."""
    if estimate.most_usd is not None:
        return " (without tools, further steps and retries)"
    unpriced = any(model.price is None for model in estimate.models.values())
    return f": {_PRICE if unpriced else _ANSWERS}"

"""The most tokens that an answer of a batch may have, where the batch has a limit of its cost.

A request is counted by the most that it may cost before it is sent. Where no one has said how long its answer may be,
the request says it itself: otherwise the cost would be known when it is paid.
"""

from __future__ import annotations

from typing import Final

from afkcli.core.contract.messages import ModelRequest
from afkcli.core.contract.protocols import Capabilities, Price
from afkcli.core.contract.structs import replace

MOST_OUTPUT: Final = 16_384
"""The limit of an answer whose model has no known one, in tokens: what models that are sold now all allow."""
LEAST_OUTPUT: Final = 1_024
"""A limit that is made smaller because the whole batch may cost little is never below this."""
SHARE: Final = 8
"""A request may take this part of what the whole batch may cost, so that several are in flight."""
_OPTION: Final = "max_output_tokens"


def said_limit(request: ModelRequest) -> int | None:
    """Return the limit that the user has set for an answer, or None."""
    said = request.options.get(_OPTION)
    return said if isinstance(said, int) else None


def usd_of(price: Price, input_tokens: int, output_tokens: float) -> float:
    """Return the most that so many tokens may cost, in US dollars."""
    rate = price.of(input_tokens)
    dearest = max(rate.input, rate.cache_write or 0.0, rate.cache_write_1h or 0.0)
    return (input_tokens * dearest + output_tokens * rate.output) / 1_000_000


def output_limit(capabilities: Capabilities, price: Price, input_tokens: int, most_usd: float) -> int | None:
    """Return the limit for an answer without one, in tokens; None if the model takes no such option.

    Args:
        capabilities: those of the model.
        price: its price.
        input_tokens: the most that the input may have.
        most_usd: what the whole batch may cost, in US dollars.
    """
    if capabilities.options is not None and _OPTION not in capabilities.options:
        return None
    most = capabilities.max_output_tokens or MOST_OUTPUT
    if capabilities.context_tokens is not None:
        most = min(most, max(capabilities.context_tokens - input_tokens, LEAST_OUTPUT))
    rate = price.of(input_tokens).output
    if rate <= 0:
        return most
    left = most_usd - usd_of(price, input_tokens, 0)
    share, whole = (int(usd * 1_000_000 / rate) for usd in (left / SHARE, left))
    return max(min(most, max(share, min(LEAST_OUTPUT, whole))), 1)


def limited(request: ModelRequest, tokens: int) -> ModelRequest:
    """Return a request whose answer has at most so many tokens."""
    return replace(request, options={**request.options, _OPTION: tokens})

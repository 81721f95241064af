"""What models cost: as the config says, else as the provider says, else by the list of the package genai-prices.

The list is data inside that package. It is imported when a model is looked up that nothing else prices, and nothing is
ever fetched: the package's update of prices is not started.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from afkcli.core.contract.protocols import Capabilities, Price, PriceTier

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_FEE_FOR_A_REQUEST = "requests_kcount"
_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


class PriceList:
    """The prices of this user.

    Args:
        configured: the prices of the config, by `provider/model`.
    """

    def __init__(self, configured: Mapping[str, Price]) -> None:
        self._configured = configured

    def __call__(self, full_name: str, capabilities: Capabilities) -> Price | None:
        """Return the price of the model `provider/model`, or None if it is unknown."""
        configured = self._configured.get(full_name)
        if configured is not None or capabilities.price is not None:
            return configured or capabilities.price
        if capabilities.sold_by is None:
            return None
        return listed_price(full_name.partition("/")[2], capabilities.sold_by)


def listed_price(model: str, sold_by: str) -> Price | None:
    """Return the standard price of a model now, by the list, or None where it is not listed or there is no list.

    Args:
        model: the name by which its API knows it.
        sold_by: the URL of that API, or the seller's name in the list.
    """
    try:
        found = _listed(model, sold_by)
        return None if found is None else _price(found.get_prices(datetime.now(UTC)))
    except Exception:  # a version of the package with another form
        return None


def listed_window(full_name: str, capabilities: Capabilities) -> int | None:
    """Return the tokens of a model's window by the list, or None where it is not listed or there is no list.

    Args:
        full_name: the model, as `provider/model`.
        capabilities: what its provider says of it.
    """
    if capabilities.sold_by is None:
        return None
    found = _listed(full_name.partition("/")[2], capabilities.sold_by)
    tokens = getattr(found, "context_window", None)
    return tokens if isinstance(tokens, int) and tokens > 0 else None


def _listed(model: str, sold_by: str) -> ModelInfo | None:
    """Return a model of the list, or None where it is not listed or there is no list."""
    address = None
    if "://" in sold_by:
        address = _public_address(sold_by)
        if address is None:
            return None
    try:
        from genai_prices.data_snapshot import get_snapshot

        snapshot = get_snapshot()
        provider = snapshot.find_provider(None, None if address else sold_by, address)
        if address and not _covers_host(provider.api_pattern, address):
            return None
        _, found = snapshot.find_provider_model(model, provider, None, None)
    except Exception:  # not installed, not listed, or a version of the package with another form
        return None
    return found


def _public_address(url: str) -> str | None:
    """Return a URL without user and query, or None where it names this machine or a private network."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.rpartition(".")[2].isalpha() or "." not in host:  # an IP address, or a name of the local network
        return None
    return f"{parts.scheme}://{host}{parts.path}"


def _covers_host(pattern: str, address: str) -> bool:
    """Return whether a pattern of the list matches all of an address's host, not only its beginning."""
    found = re.match(pattern, address)
    host_end = len("/".join(address.split("/")[:3]))
    return found is not None and (found.end() >= host_end or found[0].endswith("."))


def _price(listed: ModelPrice) -> Price | None:
    """Return a listed price as a `Price`; None for a model that is not sold by tokens alone."""
    values = {name: getattr(listed, key, None) for name, key in _FIELDS.items()}
    if values["input"] is None or values["output"] is None or getattr(listed, _FEE_FOR_A_REQUEST, None) is not None:
        return None
    starts = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    tiers = tuple(PriceTier(above=start, price=Price(**_rates(values, start + 1))) for start in starts)
    return Price(**_rates(values, 0), tiers=tiers)


def _rates(values: Mapping[str, Any], input_tokens: int) -> dict[str, Any]:
    """Return the rates of a call with so many input tokens: those of the highest tier that they pass."""
    return {name: _rate(value, input_tokens) for name, value in values.items()}


def _rate(value: Any, input_tokens: int) -> float | None:
    if value is None:
        return None
    passed = [tier.price for tier in getattr(value, "tiers", ()) if input_tokens > tier.start]
    return float(passed[-1] if passed else getattr(value, "base", value))

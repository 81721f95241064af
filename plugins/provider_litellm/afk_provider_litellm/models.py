"""What LiteLLM's table of models says; read from its file, because importing LiteLLM takes seconds."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from afkcli.plugin import Capabilities, Price, PriceTier

_COSTS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}
_TIER = re.compile(r"(?<=_cost_per_token)_above_(\d+)k_tokens$")

TABLE = "model_prices_and_context_window_backup.json"


def capabilities(model: str) -> Capabilities:
    """Return what the table says of a model, by its name with or without its provider; nothing if it is not there."""
    entry = _entry(model)
    if entry is None:
        return Capabilities()
    return Capabilities(
        context_tokens=_whole(entry.get("max_input_tokens")),
        max_output_tokens=_whole(entry.get("max_output_tokens")),
        tools=entry.get("supports_function_calling"),
        images=entry.get("supports_vision"),
        files=entry.get("supports_pdf_input"),
        reasoning=entry.get("supports_reasoning"),
        structured_output=entry.get("supports_response_schema", False),
        price=_price(entry),
    )


@lru_cache(maxsize=128)
def _entry(model: str) -> Mapping[str, Any] | None:
    table = _table()  # not kept: it takes 17 MB, and LiteLLM has a copy of its own
    found = table.get(model)
    provider, slash, bare = model.partition("/")
    if found is None and slash:
        found = table.get(bare)
        if found is not None and found.get("litellm_provider") != provider:
            return None  # another provider's model of that name
    return found


def _table() -> Mapping[str, Mapping[str, Any]]:
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    try:
        table = json.loads(Path(spec.origin).with_name(TABLE).read_bytes())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _price(entry: Mapping[str, Any]) -> Price | None:
    """Return the price of a model, or None where it is not known."""
    price = _price_of(entry, "")
    tiers = {int(found[1]): found[0] for name in entry if (found := _TIER.search(name))}
    above = [(1000 * size, _price_of(entry, suffix)) for size, suffix in sorted(tiers.items())]
    known = tuple(PriceTier(above=size, price=tier) for size, tier in above if tier is not None)
    if price is None or len(known) < len(above):
        return None
    return dataclasses.replace(price, tiers=known)


def _price_of(entry: Mapping[str, Any], suffix: str) -> Price | None:
    cost = {name: entry.get(f"{field}{suffix}", entry.get(field)) for name, field in _COSTS.items()}
    sent, said = _per_million(cost["input"]), _per_million(cost["output"])
    if sent is None or said is None:
        return None
    read, written = _per_million(cost["cache_read"]), _per_million(cost["cache_write"])
    return Price(input=sent, output=said, cache_read=read, cache_write=written)


def _per_million(cost: Any) -> float | None:
    return round(cost * 1_000_000, 6) if isinstance(cost, (int, float)) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None

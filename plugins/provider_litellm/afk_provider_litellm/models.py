"""What LiteLLM's table of models says; read from its file, because importing LiteLLM takes seconds."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from afkcli.core.protocols import Capabilities, Price

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
        price=_price(entry),
    )


def _entry(model: str) -> Mapping[str, Any] | None:
    table = _table()
    found = table.get(model)
    provider, slash, bare = model.partition("/")
    if found is None and slash:
        found = table.get(bare)
        if found is not None and found.get("litellm_provider") != provider:
            return None  # another provider's model of that name
    return found


@cache
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
    """Return the price, or None where it is not known or grows with the prompt, which `Price` cannot say."""
    cost = {name: entry.get(f"{name}_cost_per_token") for name in ("input", "output")}
    if not all(isinstance(value, (int, float)) for value in cost.values()):
        return None
    if any(name.startswith(("input_cost_per_token_above", "output_cost_per_token_above")) for name in entry):
        return None
    return Price(
        input=_per_million(cost["input"]) or 0.0,
        output=_per_million(cost["output"]) or 0.0,
        cache_read=_per_million(entry.get("cache_read_input_token_cost")),
        cache_write=_per_million(entry.get("cache_creation_input_token_cost")),
    )


def _per_million(cost: Any) -> float | None:
    return round(cost * 1_000_000, 6) if isinstance(cost, (int, float)) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None

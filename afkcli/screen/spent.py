"""What a turn took, on one line."""

from __future__ import annotations

from afkcli.core.contract.result import Usage
from afkcli.core.contract.text import dollars


def spent(model: str | None, usage: Usage, cost: float | None, seconds: float | None = None) -> str:
    """Return what a turn took: its model, tokens, cost (US dollars) and time, as far as they are known."""
    said = [model]
    if usage.input_tokens or usage.output_tokens:
        cached = f" ({usage.cache_read_input_tokens:,} cached)" if usage.cache_read_input_tokens else ""
        said.append(f"{usage.input_tokens:,} in{cached}, {usage.output_tokens:,} out")
    if cost is not None:
        said.append(dollars(cost))
    if seconds is not None:
        said.append(f"{seconds:.1f} s")
    return " · ".join(filter(None, said))

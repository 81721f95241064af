"""The token counts of Chat Completions, in whichever place a server tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.result import Usage
from afkcli.providers.wire import TokenCounts


def usage_from(usage: Mapping[str, Json]) -> Usage:
    """Return the usage of Chat Completions, whose `prompt_tokens` include the cached ones.

    DeepSeek and Moonshot tell the cached ones elsewhere. xAI's `completion_tokens` leave out those of the reasoning,
    which its total has.
    """
    counts = TokenCounts(usage)
    sent = counts.read("input_tokens", "prompt_tokens", "input_tokens")
    said = counts.read("output_tokens", "completion_tokens", "output_tokens")
    total = counts.read("total_tokens", "total_tokens")
    cached = counts.read("cache_read_input_tokens", *_CACHED)
    written = counts.read(
        "cache_creation_input_tokens", "prompt_tokens_details.cache_write_tokens", "cache_creation_input_tokens"
    )
    reasoning = counts.read("reasoning_output_tokens", "completion_tokens_details.reasoning_tokens", "reasoning_tokens")
    if sent is None and (missed := counts.read("input_tokens", "prompt_cache_miss_tokens")) is not None:
        sent = missed + (cached or 0)
    if reasoning and None not in (sent, said, total) and total == (sent or 0) + (said or 0) + reasoning:
        said = (said or 0) + reasoning
    return counts.usage(
        sent=sent, said=said, total=total, cache_read=cached, cache_written=written, reasoning=reasoning
    )


_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "input_tokens_details.cached_tokens",
    "cache_read_input_tokens",
)


def usages_of(chunk: JsonObject) -> Iterator[Mapping[str, Json]]:
    """Yield the usage objects of a chunk: its own, those of its choices (Moonshot) and that of `x_groq`."""
    choices = chunk.get("choices")
    for place in (chunk, chunk.get("x_groq"), *(choices if isinstance(choices, list) else ())):
        usage = place.get("usage") if isinstance(place, dict) else None
        if isinstance(usage, dict) and any(value is not None for value in usage.values()):
            yield usage

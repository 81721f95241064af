"""DeepSeek: `reasoning_content`, which has to come back with tool calls; comments keep the connection alive.

The fields, statuses and comments are documented; the words of its refusal of a request without `reasoning_content`
are from public reports.
"""

from __future__ import annotations

from tests.dialects.chat import GENERAL, USAGE, Chunks, error, final, only_fields, own_ids, pieces, reasoning_back
from tests.dialects.dialect import ANSWER, HALF, REASONING, Dialect, Failure, Json, Reply, stream

MODEL = "deepseek-reasoner"
IDS = ("call_00_dsA1dsA1dsA1dsA1dsA1dsA1", "call_01_dsA2dsA2dsA2dsA2dsA2dsA2")

chunks = Chunks(model=MODEL, id="7d1c0a52-0f0e", extra={"system_fingerprint": "fp_d5"}, choice={"logprobs": None})
_START = (": keep-alive", ": keep-alive", chunks.delta(role="assistant", content=None, reasoning_content=""))
_THOUGHTS = [chunks.delta(content=None, reasoning_content=text) for text in REASONING]
_TEXTS = [chunks.delta(content=text, reasoning_content=None) for text in ANSWER]


def _end(finish: str) -> Json:
    """The token counts come in the last chunk with a choice."""
    cached = {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": USAGE["prompt_tokens"]}
    details = {"completion_tokens_details": {"reasoning_tokens": 9}, "prompt_tokens_details": {"cached_tokens": 0}}
    return chunks.delta(finish, content="", reasoning_content=None) | {"usage": {**USAGE, **cached, **details}}


DEEPSEEK = Dialect(
    name="deepseek",
    source="https://api-docs.deepseek.com/guides/thinking_mode and https://api-docs.deepseek.com/quick_start/error_codes",
    model=MODEL,
    base_url="{origin}",
    path="/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning_content"]),
        own_ids(IDS),
        reasoning_back(
            "reasoning_content", "The `reasoning_content` in the thinking mode must be passed back to the API."
        ),
    ),
    refuse=lambda words: error(words, "invalid_request_error", 400, "invalid_request_error"),
    plain=Reply(stream(*_START, *_TEXTS, _end("stop"))),
    reasoning=Reply(stream(*_START, *_THOUGHTS, ": keep-alive", *_TEXTS, _end("stop"))),
    calls=Reply(stream(*_START, *_THOUGHTS, *pieces(chunks, IDS), _end("tool_calls"))),
    second=Reply(stream(*_START, *_TEXTS, _end("stop"))),
    final=final(chunks),
    refused=Failure(
        reply=error("mark: Insufficient Balance", "unknown_error", 402, "invalid_request_error"),
        kind="auth",
        says="mark: Insufficient Balance",
    ),
    wrong_key=Failure(
        reply=error("mark: Authentication Fails", "authentication_error", 401, "invalid_request_error"),
        kind="auth",
        says="mark: Authentication Fails",
    ),
    limited=Failure(
        reply=error("mark: you are sending requests too quickly", "rate_limit_error", 429, "rate_limit_exceeded"),
        says="mark: you are sending requests too quickly",
    ),
    cut=Failure(
        reply=Reply(stream(*_START, *_TEXTS[: len(HALF)], _end("insufficient_system_resource"))),
        kind="truncated",
        says="insufficient_system_resource",
    ),
)

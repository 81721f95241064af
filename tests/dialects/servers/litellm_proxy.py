"""LiteLLM's proxy: its own names before the words of those behind, 400 for an unknown model, codes as text."""

from __future__ import annotations

from tests.dialects.chat import GENERAL, Chunks, error, final, only_fields, own_ids, pieces, reasoning_back
from tests.dialects.dialect import HALF, Dialect, Failure, Json, Reply, stream

MODEL = "garden"
IDS = ("call_lp01", "call_lp02")

chunks = Chunks(model=MODEL, id="chatcmpl-lp", extra={"system_fingerprint": None})
_THOUGHTS = chunks.thoughts("reasoning_content")
_START = chunks.delta(role="assistant", content="", provider_specific_fields=None)


def _answer(finish: str, *items: Json) -> Reply:
    usage = chunks.usage(prompt_tokens_details={"cached_tokens": None}, completion_tokens_details=None)
    return Reply(stream(_START, *items, chunks.delta(finish), usage))


LITELLM_PROXY = Dialect(
    name="litellm-proxy",
    source="https://docs.litellm.ai/docs/proxy/user_keys and https://docs.litellm.ai/docs/reasoning_content",
    model=MODEL,
    base_url="{origin}",
    path="/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning_content"]),
        own_ids(IDS),
        reasoning_back(
            "reasoning_content", "litellm.BadRequestError: messages.{n}: Expected `thinking`, found `tool_use`"
        ),
    ),
    refuse=lambda words: error(f"litellm.BadRequestError: {words}", None, 400, "400"),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *_THOUGHTS, *chunks.texts()),
    calls=_answer("tool_calls", *_THOUGHTS, *pieces(chunks, IDS)),
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=error("mark: Invalid model name passed in model=garden. Call `/v1/models`", "None", 400, "400"),
        kind="not_found",
        says="mark: Invalid model name passed in model=garden",
    ),
    wrong_key=Failure(
        reply=error("mark: Authentication Error, LiteLLM Virtual Key expected", "auth_error", 400, "400"),
        kind="auth",
        says="mark: Authentication Error, LiteLLM Virtual Key expected",
    ),
    limited=Failure(
        reply=error("litellm.RateLimitError: mark: deployment over its tpm limit", "throttling_error", 429, "429"),
        says="mark: deployment over its tpm limit",
    ),
    cut=Failure(
        reply=Reply(
            stream(
                _START,
                *chunks.texts(HALF),
                {
                    "error": {
                        "message": "litellm.MidStreamFallbackError: mark: upstream left",
                        "type": "None",
                        "param": "None",
                        "code": "500",
                    }
                },
                done=None,
            )
        ),
        kind="truncated",
        says="mark: upstream left",
    ),
)

"""LiteLLM's proxy with Claude behind it: signed `thinking_blocks` beside `reasoning_content`, codes as text.

The chunks and errors are those that version 1.106 sends: `tests/e2e/test_litellm_proxy.py` runs afk against it. Its
refusal of a wrong key (400) is the one without a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.dialects.chat import GENERAL, Chunks, error, final, only_fields, own_ids, pieces
from tests.dialects.dialect import HALF, REASONING, Dialect, Failure, Json, Reply, stream

MODEL = "garden"
IDS = ("toolu_lp01", "toolu_lp02")
SIGNATURE = "c2lnbmVkLWxw"

chunks = Chunks(model=MODEL, id="chatcmpl-7b5d439d")


def _thought(text: str, **signature: str) -> Json:
    """A thought comes in three places of one delta."""
    blocks = [{"type": "thinking", "thinking": text, **signature}]
    beside = {"thinking_blocks": blocks, "provider_specific_fields": {"thinking_blocks": blocks}}
    return chunks.delta(reasoning_content=text, content="", **beside)


_THOUGHTS = [*(_thought(text) for text in REASONING), _thought("", signature=SIGNATURE)]


def _answer(finish: str, *items: Json) -> Reply:
    """The token counts come with a choice whose delta is empty."""
    counted = chunks.usage(prompt_tokens_details={"cached_tokens": 0}, cost=0.000141)
    return Reply(stream(*items, chunks.delta(finish), {**counted, "choices": [{"index": 0, "delta": {}}]}))


def _signed(request: Mapping[str, Any]) -> str | None:
    wanted = [{"type": "thinking", "thinking": "".join(REASONING), "signature": SIGNATURE}]
    for n, message in enumerate(request["messages"]):
        if message.get("tool_calls") and message.get("thinking_blocks") != wanted:
            return f"litellm.BadRequestError: messages.{n}: Expected `thinking`, but found `tool_use`"
        if "thinking_blocks" in message and not message.get("tool_calls"):
            return f"messages.{n}: thinking_blocks of an answer without tool calls"
    return None


LITELLM_PROXY = Dialect(
    name="litellm-proxy",
    source="https://docs.litellm.ai/docs/reasoning_content and https://docs.litellm.ai/docs/proxy/user_keys",
    model=MODEL,
    base_url="{origin}",
    path="/chat/completions",
    checks=(*GENERAL, only_fields(message=["reasoning_content", "thinking_blocks"]), own_ids(IDS), _signed),
    refuse=lambda words: error(f"litellm.BadRequestError: {words}", "invalid_request_error", 400, "400"),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *_THOUGHTS, *chunks.texts()),
    calls=_answer("tool_calls", *_THOUGHTS, *pieces(chunks, IDS)),
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=error(
            "/chat/completions: Invalid model name passed in model=mark. Call `/v1/models` to view available models",
            "invalid_request_error",
            400,
            "400",
        ),
        kind="not_found",
        says="Invalid model name passed in model=mark",
    ),
    wrong_key=Failure(
        reply=error("No connected db.", "no_db_connection", 400, "400"), kind="auth", says="No connected db"
    ),
    limited=Failure(
        reply=error(
            "litellm.RateLimitError: AnthropicException - mark: too fast LiteLLM: model group 'garden' failed with the "
            "error above. No fallback was attempted.",
            "rate_limit_error",
            429,
            "429",
        ),
        says="mark: too fast",
    ),
    cut=Failure(
        reply=Reply(
            stream(
                *chunks.texts(HALF),
                {
                    "error": {
                        "message": "litellm.APIConnectionError: AnthropicException - mark: payload is not completed",
                        "type": None,
                        "param": None,
                        "code": "500",
                    }
                },
                done=None,
            )
        ),
        kind="truncated",
        says="mark: payload is not completed",
    ),
)

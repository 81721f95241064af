"""Groq: the reasoning in `reasoning`, token counts in `x_groq`, 429 with the wait in a header and in words.

The fields and statuses are documented.
"""

from __future__ import annotations

from tests.dialects.chat import GENERAL, Chunks, call, error, final, only_fields, own_ids, reasoning_back
from tests.dialects.dialect import HALF, Dialect, Failure, Json, Reply, event, stream

MODEL = "openai/gpt-oss-120b"
IDS = ("fc_5b1a", "fc_77c0")

chunks = Chunks(model=MODEL, extra={"system_fingerprint": "fp_9a"}, choice={"logprobs": None})
_START = chunks.delta(role="assistant", content="") | {"x_groq": {"id": "req_01a", "seed": 7}}


def _end(finish: str) -> Json:
    usage = {"prompt_tokens": 41, "completion_tokens": 17, "total_tokens": 58, "queue_time": 0.02, "total_time": 0.1}
    return chunks.delta(finish) | {"x_groq": {"id": "req_01a", "usage": usage}}


_THOUGHTS = chunks.thoughts("reasoning")
_BROKEN = {
    "error": {"message": "mark: the worker was lost", "type": "internal_server_error", "code": "", "status_code": 500}
}

GROQ = Dialect(
    name="groq",
    source="https://console.groq.com/docs/reasoning and https://console.groq.com/docs/errors",
    model=MODEL,
    base_url="{origin}/openai/v1",
    path="/openai/v1/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning"]),
        own_ids(IDS),
        reasoning_back("reasoning", "messages.{n}: no reasoning"),
    ),
    refuse=lambda words: error(words, "invalid_request_error", 400),
    plain=Reply(stream(_START, *chunks.texts(), _end("stop"))),
    reasoning=Reply(stream(_START, *_THOUGHTS, *chunks.texts(), _end("stop"))),
    calls=Reply(
        stream(_START, *_THOUGHTS, chunks.delta(tool_calls=[call(IDS[0], 0), call(IDS[1], 1)]), _end("tool_calls"))
    ),
    second=Reply(stream(_START, *chunks.texts(), _end("stop"))),
    final=final(chunks),
    refused=Failure(
        reply=error("mark: organization has been restricted", "invalid_request_error", 400, "organization_restricted"),
        kind="bad_request",
        left_out=True,
        says="mark: organization has been restricted",
    ),
    wrong_key=Failure(
        reply=error("mark: Invalid API Key", "invalid_request_error", 401, "invalid_api_key"),
        kind="auth",
        says="mark: Invalid API Key",
    ),
    limited=Failure(
        reply=error(
            "mark: Rate limit reached for model on tokens per minute (TPM): Limit 6000. Please try again in 20ms.",
            "tokens",
            429,
            "rate_limit_exceeded",
            headers={"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"},
        ),
        says="mark: Rate limit reached",
    ),
    cut=Failure(
        reply=Reply(stream(_START, *chunks.texts(HALF), event("error", _BROKEN), done=None)),
        kind="truncated",
        says="mark: the worker was lost",
    ),
)

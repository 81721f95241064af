"""OpenAI's Chat Completions: the reference that the others are measured by; `obfuscation` pads each chunk."""

from __future__ import annotations

from tests.dialects.chat import GENERAL, Chunks, error, final, only_fields, own_ids, pieces
from tests.dialects.dialect import HALF, Dialect, Failure, Json, Reply, stream

MODEL = "gpt-5.2-mini"
IDS = ("call_Oai000000000000000000A1", "call_Oai000000000000000000A2")

chunks = Chunks(
    model="gpt-5.2-mini-2026-01-15",
    extra={"service_tier": "default", "system_fingerprint": None, "usage": None, "obfuscation": "kQ3v"},
)
_START = chunks.delta(role="assistant", content="", refusal=None)


def _answer(finish: str, *items: Json, **usage: Json) -> Reply:
    return Reply(stream(_START, *items, chunks.delta(finish), chunks.usage(**usage)))


OPENAI_CHAT = Dialect(
    name="openai-chat",
    source="https://developers.openai.com/api/reference/resources/chat/subresources/completions/streaming-events",
    model=MODEL,
    path="/v1/chat/completions",
    settings={"api": "chat"},
    checks=(*GENERAL, only_fields(), own_ids(IDS)),
    refuse=lambda words: error(words, "invalid_request_error", 400),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *chunks.texts(), completion_tokens_details={"reasoning_tokens": 9}),
    shows_reasoning=False,
    calls=_answer("tool_calls", *pieces(chunks, IDS)),
    reasons_before_calls=False,
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=error(
            "mark: The model `gpt-5.2-mini` does not exist or you do not have access to it.",
            "invalid_request_error",
            404,
            "model_not_found",
        ),
        kind="not_found",
        says="mark: The model `gpt-5.2-mini` does not exist",
    ),
    wrong_key=Failure(
        reply=error("mark: Incorrect API key provided", "invalid_request_error", 401, "invalid_api_key"),
        kind="auth",
        says="mark: Incorrect API key provided",
    ),
    limited=Failure(
        reply=error(
            "mark: Rate limit reached for requests. Please try again in 20ms.",
            "requests",
            429,
            "rate_limit_exceeded",
            headers={"x-ratelimit-remaining-requests": "0", "retry-after-ms": "20"},
        ),
        says="mark: Rate limit reached",
    ),
    cut=Failure(
        reply=_answer("length", *chunks.texts(HALF)),
        says="",
        state="degraded",
        code=3,
    ),
)

"""OpenRouter: comments before the answer, `reasoning_details` that have to come back whole, errors of those behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.dialects.chat import GENERAL, Chunks, final, only_fields, own_ids, pieces
from tests.dialects.dialect import HALF, REASONING, Dialect, Failure, Json, Reply, body, stream

MODEL = "anthropic/claude-sonnet-4.5"
IDS = ("toolu_vrtx_01OrA", "toolu_vrtx_01OrB")
FORMAT = "anthropic-claude-v1"
SIGNATURE = "c2lnbmVkLW9y"

chunks = Chunks(
    model=MODEL,
    id="gen-1790000000-q",
    extra={"provider": "Google"},
    choice={"native_finish_reason": None, "logprobs": None},
)
_WAIT = (": OPENROUTER PROCESSING", ": OPENROUTER PROCESSING")
_START = (*_WAIT, chunks.delta(role="assistant", content=""))


def _detail(**fields: Json) -> Json:
    return {"type": "reasoning.text", **fields, "format": FORMAT, "index": 0}


_THOUGHTS = [chunks.delta(content="", reasoning=text, reasoning_details=[_detail(text=text)]) for text in REASONING]
_SIGNED = chunks.delta(content="", reasoning=None, reasoning_details=[_detail(signature=SIGNATURE)])


def _answer(finish: str, *items: Json) -> Reply:
    usage = chunks.usage(cost=0.0012, cost_details={"upstream_inference_cost": None})
    return Reply(stream(*_START, *items, chunks.delta(finish, content=""), usage))


def _details_back(request: Mapping[str, Any]) -> str | None:
    wanted = [_detail(text="".join(REASONING), signature=SIGNATURE)]
    for n, message in enumerate(request["messages"]):
        if message.get("tool_calls") and message.get("reasoning_details") != wanted:
            return f"messages.{n}: thinking blocks in the latest assistant message cannot be modified: {message}"
        if "reasoning_details" in message and not message.get("tool_calls"):
            return f"messages.{n}: reasoning_details of an answer without tool calls"
    return None


OPENROUTER = Dialect(
    name="openrouter",
    source="https://openrouter.ai/docs/use-cases/reasoning-tokens and https://openrouter.ai/docs/api-reference/errors",
    model=MODEL,
    base_url="{origin}/api/v1",
    path="/api/v1/chat/completions",
    checks=(*GENERAL, only_fields(message=["reasoning", "reasoning_details"]), own_ids(IDS), _details_back),
    refuse=lambda words: body({"error": {"code": 400, "message": words}, "user_id": "user_1"}, 400),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *_THOUGHTS, _SIGNED, *chunks.texts()),
    calls=_answer("tool_calls", *_THOUGHTS, _SIGNED, *pieces(chunks, IDS)),
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=body(
            {
                "error": {
                    "code": 403,
                    "message": "mark: the chosen model requires moderation, and your input was flagged",
                    "metadata": {"reasons": ["violence"], "flagged_input": "How much", "provider_name": "OpenAI"},
                }
            },
            403,
        ),
        kind="content_filter",
        left_out=True,
        says="mark: the chosen model requires moderation",
    ),
    wrong_key=Failure(
        reply=body({"error": {"code": 401, "message": "mark: No auth credentials found"}}, 401),
        kind="auth",
        says="mark: No auth credentials found",
    ),
    limited=Failure(
        reply=body(
            {
                "error": {
                    "code": 429,
                    "message": "Provider returned error",
                    "metadata": {"raw": "mark: temporarily rate-limited upstream", "provider_name": "Google"},
                }
            },
            429,
        ),
        says="mark: temporarily rate-limited upstream",
    ),
    cut=Failure(
        reply=Reply(
            stream(
                *_START,
                *chunks.texts(HALF),
                chunks.delta("error", content="") | {"error": {"code": 502, "message": "mark: provider disconnected"}},
            )
        ),
        kind="truncated",
        says="mark: provider disconnected",
    ),
)

"""Azure OpenAI: the deployment in the path, `api-version` in the query, the key in `api-key`, notes of its filters."""

from __future__ import annotations

from tests.dialects.chat import GENERAL, Chunks, error, final, only_fields, own_ids, pieces
from tests.dialects.dialect import HALF, KEY, Dialect, Failure, Json, Reply, body, stream

DEPLOYMENT = "garden-gpt"
IDS = ("call_Azb0000000000000000000A1", "call_Azb0000000000000000000A2")

_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
chunks = Chunks(
    model="gpt-4o-2024-11-20", extra={"system_fingerprint": "fp_ee"}, choice={"content_filter_results": _SAFE}
)
_PROMPT = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
}
_OFFSETS = {"check_offset": 44, "start_offset": 44, "end_offset": 198}
_LATE_NOTE = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "usage": None,
    "choices": [
        {"index": 0, "finish_reason": None, "content_filter_results": _SAFE, "content_filter_offsets": _OFFSETS}
    ],
}
_START = (_PROMPT, chunks.delta(role="assistant", content="", refusal=None))


def _answer(finish: str, *items: Json, **usage: Json) -> Reply:
    return Reply(stream(*_START, *items, chunks.delta(finish), _LATE_NOTE, chunks.usage(**usage)))


AZURE = Dialect(
    name="azure",
    source="https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference",
    model=DEPLOYMENT,
    base_url=f"{{origin}}/openai/deployments/{DEPLOYMENT}?api-version=2024-10-21",
    path=f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21",
    key_header=("api-key", KEY),
    checks=(*GENERAL, only_fields(), own_ids(IDS)),
    refuse=lambda words: error(words, "invalid_request_error", 400),
    plain=_answer("stop", *chunks.texts()),
    # Chat Completions of OpenAI's models count their reasoning and do not show it.
    reasoning=_answer("stop", *chunks.texts(), completion_tokens_details={"reasoning_tokens": 9}),
    shows_reasoning=False,
    calls=_answer("tool_calls", *pieces(chunks, IDS)),
    reasons_before_calls=False,
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=body(
            {
                "error": {
                    "message": "mark: the prompt triggered the content management policy",
                    "type": None,
                    "param": "prompt",
                    "code": "content_filter",
                    "status": 400,
                    "innererror": {
                        "code": "ResponsibleAIPolicyViolation",
                        "content_filter_result": {**_SAFE, "violence": {"filtered": True, "severity": "high"}},
                    },
                }
            },
            400,
        ),
        kind="content_filter",
        left_out=True,
        says="mark: the prompt triggered",
    ),
    wrong_key=Failure(
        reply=body({"error": {"code": "401", "message": "mark: Access denied due to invalid subscription key"}}, 401),
        kind="auth",
        says="mark: Access denied due to invalid subscription key",
    ),
    limited=Failure(
        reply=body(
            {"error": {"code": "429", "message": "mark: the call rate limit of your pricing tier is exceeded"}},
            429,
            retry_after_ms="20",
        ),
        says="mark: the call rate limit",
    ),
    cut=Failure(
        reply=_answer("content_filter", *chunks.texts(HALF)),
        says="content filter",
        kind="content_filter",
        left_out=True,
    ),
)

"""LM Studio: reasoning between `<think>` tags in the text, ids of digits, errors that are one text.

The endpoints are documented; the tags, ids and the text of errors are from public reports.
"""

from __future__ import annotations

from tests.dialects.chat import GENERAL, Chunks, final, only_fields, own_ids, pieces
from tests.dialects.dialect import HALF, REASONING, Dialect, Failure, Json, Reply, body, event, stream

MODEL = "qwen/qwen3-4b"
IDS = ("365174485", "701922380")

chunks = Chunks(model=MODEL, id="chatcmpl-lms", extra={"system_fingerprint": MODEL}, choice={"logprobs": None})
_THOUGHTS = chunks.texts(("<thi", "nk>\n", *REASONING, "</thin", "k>\n", "\n"))


def _answer(finish: str, *items: Json) -> Reply:
    return Reply(stream(*items, chunks.delta(finish), chunks.usage()))


LM_STUDIO = Dialect(
    name="lm-studio",
    source="https://lmstudio.ai/docs/developer/openai-compat and https://lmstudio.ai/docs/developer/openai-compat/tools",
    model=MODEL,
    path="/v1/chat/completions",
    checks=(*GENERAL, only_fields(), own_ids(IDS)),
    refuse=lambda words: body({"error": words}, 400),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *_THOUGHTS, *chunks.texts()),
    calls=_answer("tool_calls", *_THOUGHTS, *pieces(chunks, IDS)),
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=body(
            {
                "error": {
                    "message": "mark: No models loaded. Please load a model.",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model_not_found",
                }
            },
            404,
        ),
        kind="not_found",
        says="mark: No models loaded",
    ),
    wrong_key=Failure(
        reply=body({"error": "mark: Invalid API token"}, 401), kind="auth", says="mark: Invalid API token"
    ),
    # It has no limit of the rate; this is what a reverse proxy in front of it says.
    limited=Failure(
        reply=Reply(b"mark: Too Many Requests", 429, {"Content-Type": "text/plain"}), says="mark: Too Many Requests"
    ),
    cut=Failure(
        reply=Reply(
            stream(
                *chunks.texts(HALF), event("error", {"error": {"message": "mark: The model has crashed"}}), done=None
            )
        ),
        kind="truncated",
        says="mark: The model has crashed",
    ),
)

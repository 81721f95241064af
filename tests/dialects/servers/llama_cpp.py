"""llama.cpp's server: `reasoning_content`, `timings`, 503 while it loads, and an SSE field `error` in older builds.

The fields are documented; the SSE field `error` is from public reports of older builds.
"""

from __future__ import annotations

import json

from tests.dialects.chat import GENERAL, Chunks, final, only_fields, own_ids, pieces, reasoning_back
from tests.dialects.dialect import HALF, Dialect, Failure, Json, Reply, body, stream

MODEL = "qwen3-8b-q4_k_m.gguf"
IDS = ("LcppA1LcppA1LcppA1LcppA1LcppA1Lc", "LcppB2LcppB2LcppB2LcppB2LcppB2Lc")

chunks = Chunks(model=MODEL, id="chatcmpl-Lc", extra={"system_fingerprint": "b9038-ab12"})
_START = chunks.delta(role="assistant", content=None)
_TIMINGS = {"prompt_n": 41, "prompt_ms": 80.5, "predicted_n": 17, "predicted_ms": 410.0, "predicted_per_second": 41.4}


def _answer(finish: str, *items: Json) -> Reply:
    return Reply(stream(_START, *items, chunks.delta(finish), chunks.usage() | {"timings": _TIMINGS}))


def _error(words: str, kind: str, status: int, **more: Json) -> Json:
    return {"code": status, "message": words, "type": kind, **more}


_CRASH = _error("mark: the slot ran out of memory", "server_error", 500)

LLAMA_CPP = Dialect(
    name="llama.cpp",
    source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    model=MODEL,
    path="/v1/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning_content"]),
        own_ids(IDS),
        reasoning_back("reasoning_content", "messages.{n}: the template wants the reasoning of a step with tool calls"),
    ),
    refuse=lambda words: body({"error": _error(words, "invalid_request_error", 400)}, 400),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *chunks.thoughts("reasoning_content"), *chunks.texts()),
    calls=_answer("tool_calls", *chunks.thoughts("reasoning_content"), *pieces(chunks, IDS)),
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=body(
            {
                "error": _error(
                    "mark: the request exceeds the available context size",
                    "exceed_context_size_error",
                    400,
                    n_prompt_tokens=5000,
                    n_ctx=4096,
                )
            },
            400,
        ),
        kind="context_length",
        left_out=True,
        says="mark: the request exceeds the available context size",
    ),
    wrong_key=Failure(
        reply=body({"error": _error("mark: Invalid API Key", "authentication_error", 401)}, 401),
        kind="auth",
        says="mark: Invalid API Key",
    ),
    # It has no limit of the rate; while it loads its model it asks for patience in the same way.
    limited=Failure(
        reply=body({"error": _error("mark: Loading model", "unavailable_error", 503)}, 503), says="mark: Loading model"
    ),
    cut=Failure(
        reply=Reply(stream(_START, *chunks.texts(HALF), f"error: {json.dumps(_CRASH)}", done=None)),
        kind="truncated",
        says="mark: the slot ran out of memory",
    ),
)

"""Ollama: each call whole and with index 0, `reasoning`, a bare JSON line for an error within the stream.

The endpoints and errors are documented; the index of calls is from public reports.
"""

from __future__ import annotations

import json

from tests.dialects.chat import GENERAL, Chunks, call, error, final, only_fields, own_ids, reasoning_back
from tests.dialects.dialect import ANSWER, HALF, REASONING, Dialect, Failure, Json, Reply, stream

MODEL = "qwen3:8b"
IDS = ("call_4x7k2m1q", "call_9z0b3n5w")

chunks = Chunks(model=MODEL, id="chatcmpl-203", extra={"system_fingerprint": "fp_ollama"})


def _texts(texts: tuple[str, ...] = ANSWER) -> list[Json]:
    return [chunks.delta(role="assistant", content=text) for text in texts]


_THOUGHTS = [chunks.delta(role="assistant", content="", reasoning=text) for text in REASONING]
_CALLS = [
    chunks.delta(role="assistant", content="", tool_calls=[{**call(id_, n), "index": 0}]) for n, id_ in enumerate(IDS)
]


def _answer(finish: str, *items: Json) -> Reply:
    return Reply(stream(*items, chunks.delta(finish, role="assistant", content=""), chunks.usage()))


OLLAMA = Dialect(
    name="ollama",
    source="https://docs.ollama.com/api/openai-compatibility and https://docs.ollama.com/api/errors",
    model=MODEL,
    path="/v1/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning"]),
        own_ids(IDS),
        reasoning_back("reasoning", "messages.{n}: the template wants the reasoning of a step with tool calls"),
    ),
    refuse=lambda words: error(words, "invalid_request_error", 400),
    plain=_answer("stop", *_texts()),
    reasoning=_answer("stop", *_THOUGHTS, *_texts()),
    calls=_answer("tool_calls", *_THOUGHTS, *_CALLS),
    second=_answer("stop", *_texts()),
    final=final(chunks),
    refused=Failure(
        reply=error('mark: model "qwen3:8b" not found, try pulling it first', "api_error", 404),
        kind="not_found",
        says="not found, try pulling it first",
    ),
    wrong_key=Failure(
        reply=error("mark: unauthorized", "authentication_error", 401), kind="auth", says="mark: unauthorized"
    ),
    limited=Failure(
        reply=error("mark: server busy, maximum pending requests exceeded", "api_error", 503),
        says="mark: server busy",
    ),
    cut=Failure(
        reply=Reply(stream(*_texts(HALF), json.dumps({"error": "mark: unexpected EOF of the runner"}), done=None)),
        kind="truncated",
        says="mark: unexpected EOF of the runner",
    ),
)

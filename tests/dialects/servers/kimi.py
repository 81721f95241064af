"""Kimi: `reasoning_content` has to come back with tool calls, ids name the tool, token counts stand in the choice.

The fields and errors are documented; that the counts are in the choice, and the form of the ids, is from public
reports.
"""

from __future__ import annotations

from tests.dialects.chat import GENERAL, USAGE, Chunks, final, only_fields, own_ids, pieces, reasoning_back
from tests.dialects.dialect import HALF, WIRE_TOOL, Dialect, Failure, Json, Reply, body, stream

MODEL = "kimi-k2-thinking"
IDS = (f"functions.{WIRE_TOOL}:0", f"functions.{WIRE_TOOL}:1")

chunks = Chunks(model=MODEL, id="chatcmpl-k2", extra={"system_fingerprint": "fpv0_4"})
_START = chunks.delta(role="assistant", content="")


def _error(words: str, kind: str, status: int) -> Reply:
    return body({"error": {"message": words, "type": kind}}, status)


def _end(finish: str) -> Json:
    return chunks.end(finish, {"usage": USAGE})


KIMI = Dialect(
    name="kimi",
    source="https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model and .../docs/api/errors",
    model=MODEL,
    path="/v1/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning_content"]),
        own_ids(IDS),
        reasoning_back(
            "reasoning_content",
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index {n}",
        ),
    ),
    refuse=lambda words: _error(words, "invalid_request_error", 400),
    plain=Reply(stream(_START, *chunks.texts(), _end("stop"))),
    reasoning=Reply(stream(_START, *chunks.thoughts("reasoning_content"), *chunks.texts(), _end("stop"))),
    calls=Reply(stream(_START, *chunks.thoughts("reasoning_content"), *pieces(chunks, IDS), _end("tool_calls"))),
    second=Reply(stream(_START, *chunks.texts(), _end("stop"))),
    final=final(chunks),
    refused=Failure(
        reply=_error("mark: the request was considered high risk", "content_filter", 400),
        kind="content_filter",
        left_out=True,
        says="mark: the request was considered high risk",
    ),
    wrong_key=Failure(
        reply=_error("mark: Invalid Authentication", "invalid_authentication_error", 401),
        kind="auth",
        says="mark: Invalid Authentication",
    ),
    limited=Failure(
        reply=_error(
            "mark: The engine is currently overloaded, please try again later", "engine_overloaded_error", 429
        ),
        says="mark: The engine is currently overloaded",
    ),
    cut=Failure(
        reply=Reply(stream(_START, *chunks.texts(HALF), done=None), breaks_off=True),
        kind="truncated",
        says="broke off",
    ),
)

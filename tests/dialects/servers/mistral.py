"""Mistral: ids of nine letters and digits, reasoning as parts of the content, 422 for what it does not know.

The parts of the content are documented; the rule for ids and the words for roles are from public reports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.dialects.chat import GENERAL, USAGE, Chunks, call, final, only_fields, own_ids
from tests.dialects.dialect import HALF, REASONING, Dialect, Failure, Json, Reply, body, stream

MODEL = "magistral-medium-latest"
IDS = ("kL9dR2mXq", "p0Zt7Yb4W")

chunks = Chunks(model=MODEL, id="5a0f4c", choice={"logprobs": None}, extra={"p": "abcdefg"})
_START = chunks.delta(role="assistant", content="")
_THOUGHTS = [
    chunks.delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]) for text in REASONING
]


def _end(finish: str, **delta: Json) -> Json:
    return chunks.delta(finish, **(delta or {"content": ""})) | {"usage": USAGE}


def _error(words: Json, kind: str, status: int, code: str | None = None) -> Reply:
    return body({"object": "error", "message": words, "type": kind, "param": None, "code": code}, status)


def _short_ids(request: Mapping[str, Any]) -> str | None:
    for message in request["messages"]:
        ids = [made["id"] for made in message.get("tool_calls", ())] + [message.get("tool_call_id", IDS[0])]
        for wrong in [id_ for id_ in ids if not re.fullmatch(r"[a-zA-Z0-9]{9}", id_)]:
            return f"Tool call id was {wrong} but must be a-z, A-Z, 0-9, with a length of 9."
    return None


_DETAIL = {"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "mark: should be at most 1.5", "input": 9}

MISTRAL = Dialect(
    name="mistral",
    source="https://docs.mistral.ai/api and https://docs.mistral.ai/capabilities/reasoning",
    model=MODEL,
    path="/v1/chat/completions",
    checks=(*GENERAL, only_fields(), _short_ids, own_ids(IDS)),
    refuse=lambda words: _error(words, "invalid_request_message_order", 400, "3230"),
    plain=Reply(stream(_START, *chunks.texts(), _end("stop"))),
    reasoning=Reply(stream(_START, *_THOUGHTS, *chunks.texts(), _end("stop"))),
    calls=Reply(
        stream(_START, *_THOUGHTS, _end("tool_calls", content="", tool_calls=[call(IDS[0], 0), call(IDS[1], 1)]))
    ),
    second=Reply(stream(_START, *chunks.texts(), _end("stop"))),
    final=final(chunks),
    refused=Failure(
        reply=_error({"detail": [_DETAIL]}, "invalid_request_error", 422),
        kind="bad_request",
        left_out=True,
        says="mark: should be at most 1.5",
    ),
    wrong_key=Failure(
        reply=body({"message": "mark: Unauthorized", "request_id": "r1"}, 401), kind="auth", says="mark: Unauthorized"
    ),
    limited=Failure(
        reply=_error("mark: Requests rate limit exceeded", "rate_limited", 429, "1300"),
        says="mark: Requests rate limit exceeded",
    ),
    cut=Failure(
        reply=Reply(stream(_START, *chunks.texts(HALF), _end("error"))),
        kind="truncated",
        says="error",
    ),
)

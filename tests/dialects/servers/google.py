"""Google's compatible API: signatures in `extra_content`, calls whole with index 0, errors in an array.

The fields are documented; that thoughts come as marked content between tags, and errors in an array, is from public
reports of other clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.dialects.chat import GENERAL, USAGE, Chunks, call, final, only_fields, own_ids
from tests.dialects.dialect import ANSWER, HALF, REASONING, Dialect, Failure, Json, Reply, body, stream

MODEL = "gemini-3-pro-preview"
IDS = ("function-call-9000000000000000001", "function-call-9000000000000000002")
SIGNATURE = {"google": {"thought_signature": "Z29vZ2xlLXNpZ25lZA=="}}

chunks = Chunks(model=MODEL, id="Gm-1")


def _texts(texts: tuple[str, ...] = ANSWER) -> list[Json]:
    """Each chunk has the token counts so far."""
    return [
        chunks.delta(role="assistant", content=text) | {"usage": {**USAGE, "completion_tokens": n}}
        for n, text in enumerate(texts)
    ]


def _end(finish: str, **delta: Json) -> Json:
    return chunks.delta(finish, role="assistant", **delta) | {"usage": USAGE}


_THOUGHT = {"google": {"thought": True}}
_THOUGHTS = [
    chunks.delta(role="assistant", content=text, extra_content=_THOUGHT)
    for text in (f"<thought>{REASONING[0]}", REASONING[1])
]
_ANSWER = _texts((f"</thought>{ANSWER[0]}", *ANSWER[1:]))


def _signed(request: Mapping[str, Any]) -> str | None:
    for n, message in enumerate(request["messages"]):
        calls = message.get("tool_calls", ())
        if calls and [made.get("extra_content") for made in calls] != [SIGNATURE, None]:
            return f"Function call is missing a thought_signature in functionCall parts. Position {n}."
    return None


def _error(words: str, status: int, name: str, **details: Json) -> Reply:
    error = {"code": status, "message": words, "status": name, **details}
    return body([{"error": error}], status)


_WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s"}

GOOGLE = Dialect(
    name="google",
    source="https://ai.google.dev/gemini-api/docs/openai and https://ai.google.dev/gemini-api/docs/thought-signatures",
    model=MODEL,
    base_url="{origin}/v1beta/openai/",
    path="/v1beta/openai/chat/completions",
    checks=(*GENERAL, only_fields(call=["extra_content"]), own_ids(IDS), _signed),
    refuse=lambda words: _error(words, 400, "INVALID_ARGUMENT"),
    plain=Reply(stream(*_texts(), _end("stop"))),
    # With `include_thoughts`, which a request may ask for in a field of Google's.
    reasoning=Reply(stream(*_THOUGHTS, *_ANSWER, _end("stop", content="", extra_content=SIGNATURE))),
    calls=Reply(
        stream(
            _end("stop", tool_calls=[{**call(IDS[0], 0), "extra_content": SIGNATURE}, {**call(IDS[1], 1), "index": 0}])
        )
    ),
    reasons_before_calls=False,
    second=Reply(stream(*_texts(), _end("stop"))),
    final=final(chunks),
    refused=Failure(
        reply=_error("mark: The input token count exceeds the maximum number of tokens", 400, "INVALID_ARGUMENT"),
        kind="context_length",
        says="mark: The input token count exceeds",
        left_out=True,
    ),
    wrong_key=Failure(
        reply=_error("mark: API key not valid", 400, "INVALID_ARGUMENT"), kind="auth", says="mark: API key not valid"
    ),
    limited=Failure(
        reply=_error("mark: You exceeded your current quota", 429, "RESOURCE_EXHAUSTED", details=[_WAIT]),
        says="mark: You exceeded your current quota",
    ),
    cut=Failure(reply=Reply(stream(*_texts(HALF), done=None)), kind="truncated", says="ended without its end marker"),
)

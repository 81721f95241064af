"""Anthropic's Messages API: blocks with an index, signed thinking, pings, `event: error`, and strict messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.dialects.dialect import (
    ANSWER,
    CALLS,
    HALF,
    INPUT_TOKENS,
    INSTRUCTIONS,
    OUTPUT_TOKENS,
    REASONING,
    WIRE_TOOL,
    Api,
    Dialect,
    Failure,
    Json,
    Reply,
    body,
    event,
    stream,
)

MODEL = "claude-sonnet-4-6"
IDS = ("toolu_01AnthropicAAAAAAAAAA", "toolu_01AnthropicBBBBBBBBBB")
SIGNATURE = "EqQBCkYIBxgCKkD-signed"
_THINKING = {"type": "thinking", "thinking": "".join(REASONING), "signature": SIGNATURE}

_USAGE = {"input_tokens": INPUT_TOKENS, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
_MESSAGE: Json = {
    "id": "msg_01An",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {**_USAGE, "output_tokens": 1},
}


def _event(kind: str, **fields: Json) -> str:
    return event(kind, {"type": kind, **fields})


def _block(n: int, start: Json, *deltas: Json) -> list[str]:
    lines = [_event("content_block_start", index=n, content_block=start)]
    lines += [_event("content_block_delta", index=n, delta=delta) for delta in deltas]
    return [*lines, _event("content_block_stop", index=n)]


def _text(n: int, texts: Sequence[str] = ANSWER) -> list[str]:
    return _block(n, {"type": "text", "text": ""}, *({"type": "text_delta", "text": text} for text in texts))


def _thought(n: int) -> list[str]:
    deltas = [{"type": "thinking_delta", "thinking": text} for text in REASONING]
    signature = {"type": "signature_delta", "signature": SIGNATURE}
    return _block(n, {"type": "thinking", "thinking": "", "signature": ""}, *deltas, signature)


def _call(n: int, call: int) -> list[str]:
    start = {"type": "tool_use", "id": IDS[call], "name": WIRE_TOOL, "input": {}}
    pieces = ("", CALLS[call][:5], CALLS[call][5:])
    return _block(n, start, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def _answer(reason: str, *blocks: list[str]) -> Reply:
    lines = [line for block in blocks for line in block]
    usage = {"output_tokens": OUTPUT_TOKENS}
    end = _event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    return Reply(stream(*_START, *lines, end, _event("message_stop"), done=None))


_START = (_event("message_start", message=_MESSAGE), _event("ping"))


def _error(words: str, kind: str, status: int, **headers: str) -> Reply:
    error = {"type": kind, "message": words}
    return body({"type": "error", "error": error, "request_id": "req_011A"}, status, **headers)


# what it demands


def _head(request: Mapping[str, Any]) -> str | None:
    if not request["stream"] or not isinstance(request["max_tokens"], int):
        return "max_tokens: Field required"
    if not request["system"][0]["text"].startswith(INSTRUCTIONS):
        return "system: not the instructions"
    return None


def _turns(request: Mapping[str, Any]) -> str | None:
    roles = [message["role"] for message in request["messages"]]
    wanted = ["user", "assistant"] * len(roles)
    if roles != wanted[: len(roles)] or roles[-1] != "user":
        return f"messages: roles must alternate between user and assistant: {roles}"
    return None


def _blocks(request: Mapping[str, Any]) -> str | None:
    """No text is blank, thinking is as it was signed, and ids have the API's form."""
    for n, message in enumerate(request["messages"]):
        for k, block in enumerate(message["content"]):
            if block["type"] == "text" and not block["text"].strip():
                return f"messages.{n}.content.{k}.text: text content blocks must contain non-whitespace text"
            if block["type"] == "thinking" and {name: block.get(name) for name in _THINKING} != _THINKING:
                return f"messages.{n}.content.{k}: Invalid `signature` in `thinking` block"
            if block["type"] == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
                return f"messages.{n}.content.{k}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    return None


def _pairs(request: Mapping[str, Any]) -> str | None:
    """Results stand at the beginning of the message behind their calls; thinking stands before them."""
    waiting: list[str] = []
    for n, message in enumerate(request["messages"]):
        kinds = [block["type"] for block in message["content"]]
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        if sorted(results) != sorted(waiting) or kinds[: len(results)] != ["tool_result"] * len(results):
            return f"messages.{n}: `tool_use` ids were found without `tool_result` blocks immediately after: {waiting}"
        if any(not block["content"] for block in message["content"] if block["type"] == "tool_result"):
            return f"messages.{n}: content of a result is empty"
        waiting = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        if waiting and (kinds[0] != "thinking" or waiting != list(IDS)):
            return f"messages.{n}.content.0.type: Expected `thinking`, but found `{kinds[0]}`"
    return None


ANTHROPIC = Dialect(
    name="anthropic",
    source="https://platform.claude.com/docs/en/build-with-claude/streaming and .../docs/en/api/errors",
    provider="anthropic",
    api=Api.MESSAGES,
    model=MODEL,
    base_url="{origin}",
    path="/v1/messages",
    settings={"thinking_display": "summarized"},
    checks=(_head, _turns, _blocks, _pairs),
    refuse=lambda words: _error(words, "invalid_request_error", 400),
    plain=_answer("end_turn", _text(0)),
    reasoning=_answer("end_turn", _thought(0), _text(1)),
    calls=_answer("tool_use", _thought(0), _call(1, 0), _call(2, 1)),
    second=_answer("end_turn", _text(0)),
    final=_answer("end_turn", _text(0, ["Seven."])),
    refused=Failure(
        reply=_error("mark: prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error", 400),
        kind="context_length",
        says="mark: prompt is too long",
        left_out=True,
    ),
    wrong_key=Failure(
        reply=_error("mark: invalid x-api-key", "authentication_error", 401),
        kind="auth",
        says="mark: invalid x-api-key",
    ),
    limited=Failure(
        reply=_error("mark: your organization's rate limit of 50 requests", "rate_limit_error", 429, retry_after="1"),
        says="mark: your organization's rate limit",
    ),
    cut=Failure(
        reply=Reply(
            stream(
                *_START,
                *_text(0, HALF)[:-1],
                _event("error", error={"type": "overloaded_error", "message": "mark: Overloaded"}),
                done=None,
            )
        ),
        kind="truncated",
        says="mark: Overloaded",
    ),
)

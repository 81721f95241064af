"""OpenAI's Responses API: items and their parts, reasoning that goes back encrypted, `response.failed`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.dialects.chat import error
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
    event,
    stream,
)

MODEL = "gpt-5.2"
IDS = ("call_Rsp000000000000000000A1", "call_Rsp000000000000000000A2")
ENCRYPTED = "gAAAAABo-encrypted"
_SUMMARY = {"type": "summary_text", "text": "".join(REASONING)}
_THOUGHT = {"id": "rs_0a", "type": "reasoning", "summary": [_SUMMARY], "encrypted_content": ENCRYPTED}


class _Events:
    """Writes the events of one response, numbered, and keeps its items."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.output: list[Json] = []
        self.add("response.created", response=self.response("in_progress"))
        self.add("response.in_progress", response=self.response("in_progress"))

    def add(self, kind: str, **fields: Json) -> None:
        self.lines.append(event(kind, {"type": kind, "sequence_number": len(self.lines), **fields}))

    def response(self, status: str, **fields: Json) -> Json:
        head = {"id": "resp_0a", "object": "response", "created_at": 1_790_000_000, "model": f"{MODEL}-2026-03-01"}
        return {**head, "status": status, "error": None, "incomplete_details": None, "output": self.output, **fields}

    def thought(self) -> None:
        at = {"item_id": "rs_0a", "output_index": len(self.output), "summary_index": 0}
        self.begin({**_THOUGHT, "summary": [], "encrypted_content": "gAAAAABo-so-far"})
        self.add("response.reasoning_summary_part.added", **at, part={**_SUMMARY, "text": ""})
        for text in REASONING:
            self.add("response.reasoning_summary_text.delta", **at, delta=text, obfuscation="x1")
        self.add("response.reasoning_summary_text.done", **at, text=_SUMMARY["text"])
        self.add("response.reasoning_summary_part.done", **at, part=_SUMMARY)
        self.end(_THOUGHT)

    def text(self, texts: Sequence[str] = ANSWER, *, whole: bool = True) -> None:
        part = {"type": "output_text", "text": "".join(texts), "annotations": [], "logprobs": []}
        item = {"id": "msg_0a", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        at = {"item_id": "msg_0a", "output_index": len(self.output), "content_index": 0}
        self.begin({**item, "status": "in_progress", "content": []})
        self.add("response.content_part.added", **at, part={**part, "text": ""})
        for text in texts:
            self.add("response.output_text.delta", **at, delta=text, logprobs=[], obfuscation="y2")
        if whole:
            self.add("response.output_text.done", **at, text=part["text"], logprobs=[])
            self.add("response.content_part.done", **at, part=part)
            self.end(item)

    def call(self, n: int) -> None:
        item = {"id": f"fc_0{n}", "type": "function_call", "status": "completed", "call_id": IDS[n], "name": WIRE_TOOL}
        at = {"item_id": item["id"], "output_index": len(self.output)}
        self.begin({**item, "status": "in_progress", "arguments": ""})
        for piece in (CALLS[n][:6], CALLS[n][6:]):
            self.add("response.function_call_arguments.delta", **at, delta=piece)
        self.add("response.function_call_arguments.done", **at, arguments=CALLS[n])
        self.end({**item, "arguments": CALLS[n]})

    def begin(self, item: Json) -> None:
        self.add("response.output_item.added", output_index=len(self.output), item=item)

    def end(self, item: Json) -> None:
        self.add("response.output_item.done", output_index=len(self.output), item=item)
        self.output = [*self.output, item]

    def reply(self, status: str = "completed", **fields: Json) -> Reply:
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 9}}
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": 58, **details}
        self.add(f"response.{status}", response=self.response(status, usage=usage, **fields))
        return Reply(stream(*self.lines, done=None))


def _answer(*, thinks: bool = False) -> Reply:
    events = _Events()
    if thinks:
        events.thought()
    events.text()
    return events.reply()


def _calls() -> Reply:
    events = _Events()
    events.thought()
    events.call(0)
    events.call(1)
    return events.reply()


def _final() -> Reply:
    events = _Events()
    events.text(["Seven."])
    return events.reply()


def _failed() -> Reply:
    events = _Events()
    events.text(HALF, whole=False)
    return events.reply("failed", error={"code": "server_error", "message": "mark: an error while processing"})


def _keeps_nothing(request: Mapping[str, Any]) -> str | None:
    """Nothing is stored, so that the reasoning is asked for encrypted."""
    if request["store"] is not False or request["include"] != ["reasoning.encrypted_content"] or not request["stream"]:
        return "Items are not persisted when `store` is set to false."
    return None


def _begins(request: Mapping[str, Any]) -> str | None:
    first = request["input"][0]
    if first["role"] not in ("system", "developer") or not first["content"].startswith(INSTRUCTIONS):
        return f"Invalid input[0]: {first}"
    return None


def _pairs(request: Mapping[str, Any]) -> str | None:
    """Each call has its output and each output its call; a reasoning item goes before what it led to, as it was."""
    calls: list[str] = []
    for n, item in enumerate(request["input"]):
        kind = item.get("type", "message")
        if kind == "function_call":
            if not isinstance(json.loads(item["arguments"]), dict) or item["call_id"] not in IDS:
                return f"Invalid input[{n}]: {item}"
            calls.append(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in calls or not item["output"]:
                return f"No tool call found for function call output with call_id {item['call_id']}."
            calls.remove(item["call_id"])
        elif kind == "reasoning":
            if {name: item.get(name) for name in _THOUGHT} != _THOUGHT:
                return f"The encrypted content of item {item['id']} could not be verified: {item}"
            if request["input"][n + 1].get("type") not in ("function_call", "message"):
                return f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
        elif not item["content"]:
            return f"Invalid input[{n}].content: empty"
    return f"No tool output found for function call {calls[0]}." if calls else None


def _reasons_before_calls(request: Mapping[str, Any]) -> str | None:
    kinds = [item.get("type", "message") for item in request["input"]]
    if "function_call" in kinds and kinds[kinds.index("function_call") - 1] != "reasoning":
        return "Item 'fc_00' of type 'function_call' was provided without its required 'reasoning' item: 'rs_0a'."
    return None


OPENAI = Dialect(
    name="openai",
    source="https://developers.openai.com/api/reference/resources/responses/streaming-events",
    model=MODEL,
    path="/v1/responses",
    settings={"api": "responses", "reasoning_summary": "auto"},
    api=Api.RESPONSES,
    checks=(_keeps_nothing, _begins, _pairs, _reasons_before_calls),
    refuse=lambda words: error(words, "invalid_request_error", 400),
    plain=_answer(),
    reasoning=_answer(thinks=True),
    calls=_calls(),
    second=_answer(),
    final=_final(),
    refused=Failure(
        reply=error("mark: Invalid prompt: it was flagged", "invalid_request_error", 400, "invalid_prompt"),
        kind="bad_request",
        says="mark: Invalid prompt",
        left_out=True,
    ),
    wrong_key=Failure(
        reply=error("mark: Incorrect API key provided", "invalid_request_error", 401, "invalid_api_key"),
        kind="auth",
        says="mark: Incorrect API key provided",
    ),
    limited=Failure(
        reply=error(
            "mark: Rate limit reached for tokens. Please try again in 20ms.", "tokens", 429, "rate_limit_exceeded"
        ),
        says="mark: Rate limit reached for tokens",
    ),
    cut=Failure(reply=_failed(), kind="truncated", says="mark: an error while processing"),
)

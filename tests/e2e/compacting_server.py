"""A server that makes compactions by itself, as OpenAI's Responses API and Anthropic's Messages API do.

It counts a token for four characters of JSON, ignores all before the last compaction, refuses what is longer than its
window, and checks each request: the types of the official SDKs, the pairs of calls and results, and that each question
so far is either there or in the compaction, once.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from anthropic.types.beta import (
    BetaClearToolUses20250919EditParam,
    BetaCompact20260112EditParam,
    BetaCompactionBlockParam,
)
from openai.types.responses import ResponseCompactionItemParamParam
from openai.types.responses.response_create_params import ContextManagement
from pydantic import TypeAdapter, ValidationError

from afkcli.testing.model_server import ModelServer, RecordedRequest, ScriptedCall, ScriptedUsage, Step

WINDOW = 4_000
WORDS = "word " * 40  # 200 characters
TOOL_RESULT = "seen " * 100
EDITS: Mapping[str, Any] = {
    "compact_20260112": BetaCompact20260112EditParam,
    "clear_tool_uses_20250919": BetaClearToolUses20250919EditParam,
}

_QUESTION = re.compile(r"(?:\b|\\n)q(\d+) ")  # also behind a line break in JSON


_adapter = cache(TypeAdapter)


def check(kind: Any, value: Mapping[str, Any]) -> None:
    """Check that a value is of a type of an SDK, and has no field that the type does not have."""
    _adapter(kind).validate_python(value)
    assert set(value) <= kind.__required_keys__ | kind.__optional_keys__, value


class CompactingServer(ModelServer):
    """The server.

    Args:
        compacts: whether it makes compactions; else it ignores that it is asked for them.
        window: how many tokens it takes.

    `compacted` has the number of each request with whose answer a compaction came, `refused` the size of each that was
    too long.
    """

    def __init__(self, *, compacts: bool = True, window: int = WINDOW) -> None:
        super().__init__(answer=self._said)
        self.compacts = compacts
        self.window = window
        self.compacted: list[int] = []
        self.refused: list[int] = []
        self.next_steps: list[Step] = []
        """What is said to the next requests, whatever they are."""

    def _said(self, request: RecordedRequest) -> Step:
        if self.next_steps:
            return self.next_steps.pop(0)
        if request.path.endswith("/compact"):
            return Step(compaction="[]")  # the questions themselves come before it
        api: Literal["responses", "messages"] = "responses" if "input" in request.body else "messages"
        sent = _since_compaction(request.body["input" if api == "responses" else "messages"])
        tokens = len(json.dumps(sent)) // 4
        if tokens > self.window:
            self.refused.append(tokens)
            said = f"maximum context length is {self.window} tokens. However, your messages resulted in {tokens} tokens"
            return Step(status=400, body={"error": {"message": said, "code": "context_length_exceeded"}})
        try:
            (_check_responses if api == "responses" else _check_messages)(request)
        except (AssertionError, ValidationError) as error:
            return Step(status=400, body={"error": {"message": f"wrong: {error} {traceback.format_exc()}"}})
        step: dict[str, Any] = {"usage": ScriptedUsage(input_tokens=tokens, output_tokens=50)}
        threshold = threshold_of(request.body)
        if self.compacts and threshold is not None and tokens > threshold:
            self.compacted.append(request.n)
            step |= {
                "compaction": json.dumps(questions_in(sent)),
                "compaction_usage": ScriptedUsage(input_tokens=tokens, output_tokens=30),
            }
            if api == "messages":
                step["usage"] = ScriptedUsage(input_tokens=100, output_tokens=50)
        if request.body.get("tools") and _ends_with_question(sent):
            return Step(tool_calls=[ScriptedCall(name=request.body["tools"][0]["name"])], **step)
        return Step(text=WORDS, **step)


def threshold_of(body: Mapping[str, Any]) -> int | None:
    """Return from which size on a request asks for a compaction; None if it does not."""
    asked = body.get("context_management")
    if isinstance(asked, list):
        return int(asked[0]["compact_threshold"])
    edits = asked["edits"] if asked else ()
    return next((int(edit["trigger"]["value"]) for edit in edits if edit["type"] == "compact_20260112"), None)


def questions_in(sent: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the questions that are sent, those in a compaction first."""
    found: list[int] = []
    for item in sent:
        blocks = [item, *(item["content"] if isinstance(item.get("content"), list) else ())]
        for block in blocks:
            if block.get("type") == "compaction":
                found += json.loads(block.get("encrypted_content") or block["content"])
        if item.get("role") == "user":
            found += map(int, _QUESTION.findall(json.dumps(item["content"])))
    return found


def compactions_in(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the items or blocks of a request that are compactions."""
    items = list(body.get("input", ()))
    for message in body.get("messages", ()):
        items += message["content"]
    return [item for item in items if item.get("type") == "compaction"]


def _since_compaction(sent: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    places = [place for place, item in enumerate(sent) if compactions_in({"input": [item, *_content(item)]})]
    return sent[places[-1] :] if places else sent


def _content(item: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    content = item.get("content")
    return content if isinstance(content, list) else ()


def _ends_with_question(sent: Sequence[Mapping[str, Any]]) -> bool:
    last = sent[-1]
    return last.get("role") == "user" and not any(block["type"] == "tool_result" for block in _content(last))


def _check_responses(request: RecordedRequest) -> None:
    body = request.body
    assert body["store"] is False
    for asked in body.get("context_management", ()):
        check(ContextManagement, asked)
        assert asked["type"] == "compaction"
        assert asked["compact_threshold"] >= 1000
    for item in compactions_in(body):
        check(ResponseCompactionItemParamParam, item)
    kinds = [item.get("type") for item in body["input"] if item.get("role") != "system"]
    assert kinds.count("compaction") <= 1
    if "compaction" in kinds:  # the first one, or behind the messages that the endpoint returned with it
        assert set(kinds[: kinds.index("compaction")]) <= {"message"}
    waiting: list[str] = []
    for item in body["input"]:
        if item.get("type") == "function_call":
            waiting.append(item["call_id"])
        elif item.get("type") == "function_call_output":
            assert waiting.pop(0) == item["call_id"]
        else:
            assert waiting == []
    assert waiting == []


def _check_messages(request: RecordedRequest) -> None:
    body = request.body
    edits = (body.get("context_management") or {"edits": ()})["edits"]
    for edit in edits:
        check(EDITS[edit["type"]], edit)
    blocks = compactions_in(body)
    for block in blocks:
        check(BetaCompactionBlockParam, block)
    betas = set(filter(None, request.headers.get("anthropic-beta", "").split(",")))
    kinds = {edit["type"] for edit in edits}
    assert ("compact-2026-01-12" in betas) == bool(blocks or "compact_20260112" in kinds)
    assert ("context-management-2025-06-27" in betas) == ("clear_tool_uses_20250919" in kinds)
    assert (body["messages"][0]["role"] == "assistant") == bool(blocks)
    asked: list[str] = []
    for message in body["messages"]:
        told = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert told == asked
        asked = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    assert asked == []

"""Builds an assistant's message from the chunks that llama.cpp streams (Chat Completions form)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    JsonError,
    JsonObject,
    Message,
    ModelEvent,
    ModelResponse,
    Part,
    ProviderError,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    Usage,
    loads_object,
)


class Answer:
    """One answer while it is generated."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, JsonObject] = {}
        self._finish_reason: FinishReason | None = None
        self._usage: Usage | None = None

    def add(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Take one chunk and yield the events in it."""
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := delta.get("reasoning_content"):
                self._reasoning.append(text)
                yield ReasoningDelta(text)
            if text := delta.get("content"):
                self._text.append(text)
                yield TextDelta(text)
            for piece in delta.get("tool_calls") or ():
                yield self._add_call(piece)
            if choice.get("finish_reason"):
                self._finish_reason = FinishReason(choice["finish_reason"])

    def _add_call(self, piece: Any) -> ToolCallDelta:
        call = self._calls.setdefault(piece.get("index", 0), {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        call["id"] = call["id"] or piece.get("id") or f"call_{piece.get('index', 0)}"
        call["name"] = call["name"] or function.get("name") or ""
        arguments = function.get("arguments") or ""
        call["arguments"] += arguments
        return ToolCallDelta(call["id"], call["name"], arguments)

    def response(self) -> ModelResponse:
        """Return the finished answer.

        Raises:
            ProviderError: the stream ended without a finish reason, so the answer may be cut.
        """
        if self._finish_reason is None:
            raise ProviderError("llama.cpp ended its answer without an end marker", kind=ErrorKind.TRUNCATED)
        parts: list[Part] = []
        if self._reasoning:
            parts.append(ReasoningPart(text="".join(self._reasoning)))
        if self._text:
            parts.append(TextPart(text="".join(self._text)))
        parts.extend(_tool_call(call) for call in self._calls.values())
        return ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=tuple(parts)),
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
        )


def _tool_call(call: JsonObject) -> ToolCallPart:
    try:
        arguments, invalid = loads_object(call["arguments"] or "{}"), None
    except JsonError:
        arguments, invalid = {}, call["arguments"]
    return ToolCallPart(id=call["id"], name=call["name"], arguments=arguments, invalid_arguments=invalid)


def _usage(form: JsonObject) -> Usage:
    cached = (form.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(
        input_tokens=form.get("prompt_tokens") or 0,
        output_tokens=form.get("completion_tokens") or 0,
        total_tokens=form.get("total_tokens") or 0,
        cache_read_input_tokens=cached,
    )

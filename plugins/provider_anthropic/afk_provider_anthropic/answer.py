"""What comes back from the Messages API: https://platform.claude.com/docs/en/build-with-claude/streaming"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from afk_provider_anthropic.request import API, BLOCK, PREFIX, PROVIDER
from afk_provider_anthropic.settings import Server
from afkcli.plugin import (
    FinishReason,
    Json,
    JsonError,
    JsonObject,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    Part,
    ProviderData,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    Usage,
    clean_text,
    dumps,
    loads_object,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import count, decode_event, tool_call

# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "pause_turn": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}

_WARNINGS = {
    "model_context_window_exceeded": "the answer filled the model's context; start a new thread",
    "pause_turn": "a tool that runs at the server paused the answer; ask it to go on",
}


class _Block:
    """A content block while it comes in."""

    def __init__(self, start: JsonObject, name: str) -> None:
        self.start = start
        self.kind = str(start.get("type"))
        self.id = str(start.get("id") or f"toolu_{uuid.uuid4().hex}")
        self.name = name
        self.text: list[str] = []
        self.arguments: list[str] = []
        self.signature: list[str] = []


class AnswerReader:
    """Reads the events of one answer.

    `finished` says that the model's stop reason was seen, which comes when all blocks are whole; `ended` that
    `message_stop` was seen, after which nothing comes.
    """

    def __init__(self, server: Server, request: ModelRequest, names: ToolNames, prefix: str) -> None:
        self.finished = False
        self.ended = False
        self._server = server
        self._model = request.model
        self._names = names
        self._prefix = prefix
        self._answered_by: str | None = None
        self._blocks: dict[int, _Block] = {}
        self._finish = FinishReason.STOP
        self._usage: JsonObject = {}

    def feed(self, events: Sequence[str]) -> Iterator[ModelEvent]:
        """Yield the model events of some events' data.

        Raises:
            ProviderError: the server reported an error.
            ValueError: the data of an event is not JSON.
        """
        for data in events:
            event = decode_event(data)
            handle = _HANDLERS.get(event.get("type"))
            if handle is not None:
                yield from handle(self, event)
            elif event.get("error"):  # some servers report an error without its type
                yield from self._failed(event)

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        parts = tuple(self._part(block) for _, block in sorted(self._blocks.items()))
        message = Message(role=Role.ASSISTANT, parts=tuple(part for part in parts if part is not None))
        finish = self._finish
        if finish in (FinishReason.STOP, FinishReason.TOOL_CALLS):
            finish = FinishReason.TOOL_CALLS if message.tool_calls else FinishReason.STOP
        return ModelResponse(
            message=message,
            finish_reason=finish,
            # llama.cpp sends no `message_start`, which counts the input, where the first token is half a character.
            usage=usage_from(self._usage) if "input_tokens" in self._usage else None,
            model=self._answered_by,
        )

    def _message_start(self, event: JsonObject) -> Iterator[ModelEvent]:
        message = event["message"]
        self._answered_by = message.get("model")
        self._count(message.get("usage"))
        yield from ()

    def _block_start(self, event: JsonObject) -> Iterator[ModelEvent]:
        start = event["content_block"]
        name = self._names.from_wire(str(start.get("name")))
        block = self._blocks[event["index"]] = _Block(start, name)
        if block.kind == "tool_use":
            yield ToolCallDelta(block.id, name, "")
        elif block.kind == "text" and start.get("text"):
            yield from self._text(block, start["text"])
        elif block.kind == "thinking" and start.get("thinking"):
            yield from self._thought(block, start["thinking"])

    def _block_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        block, delta = self._blocks[event["index"]], event["delta"]
        kind = delta.get("type")
        if kind == "text_delta":
            yield from self._text(block, delta["text"])
        elif kind == "input_json_delta":
            arguments = clean_text(delta["partial_json"])
            block.arguments.append(arguments)
            if block.kind == "tool_use":
                yield ToolCallDelta(block.id, block.name, arguments)
        elif kind == "thinking_delta":
            yield from self._thought(block, delta["thinking"])
        elif kind == "signature_delta":
            block.signature.append(delta["signature"])

    def _message_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        self._count(event.get("usage"))
        reason = event["delta"].get("stop_reason")
        if not reason:
            return
        self.finished = True
        self._finish = _FINISH.get(reason, FinishReason.STOP)
        details = event["delta"].get("stop_details") or {}
        if reason in _WARNINGS:
            yield ModelWarning("finish_reason", _WARNINGS[reason])
        elif details.get("explanation"):
            yield ModelWarning("finish_reason", f"{self._server.name} refused: {clean_text(details['explanation'])}")
        elif reason not in _FINISH:
            yield ModelWarning("finish_reason", f"{self._server.name} ended with the unknown stop reason {reason!r}")

    def _message_stop(self, event: JsonObject) -> Iterator[ModelEvent]:
        self.ended = True
        yield from ()

    def _failed(self, event: JsonObject) -> Iterator[ModelEvent]:
        raise self._server.errors.event(self._model, event)

    def _text(self, block: _Block, text: str) -> Iterator[ModelEvent]:
        text = clean_text(text)
        block.text.append(text)
        yield TextDelta(text)

    def _thought(self, block: _Block, text: str) -> Iterator[ModelEvent]:
        block.text.append(text)  # as it came: the signature is of these characters
        yield ReasoningDelta(clean_text(text))

    def _count(self, usage: Mapping[str, Json] | None) -> None:
        """Take over token counts; those of a later event are cumulative, and what it leaves out stays."""
        self._usage |= {name: value for name, value in (usage or {}).items() if value is not None}

    def _part(self, block: _Block) -> Part | None:
        text = "".join(block.text)
        if block.kind == "text":
            return TextPart(text=text) if text else None
        if block.kind == "tool_use":
            return tool_call(block.id, block.name, "".join(block.arguments) or _given_input(block.start))
        if block.kind == "thinking":
            signature = "".join(block.signature) or block.start.get("signature")
            own = {"type": "thinking", "thinking": text, "signature": signature} if signature else None
            return ReasoningPart(text=clean_text(text), provider_data=self._data(own))
        # `redacted_thinking`, and a tool that runs at the server with its result: they go back as they are
        return ReasoningPart(text="", provider_data=self._data(_whole(block)))

    def _data(self, block: JsonObject | None) -> ProviderData | None:
        if block is None:  # thinking without a signature, from servers that sign nothing: the API refuses it
            return None
        payload = {BLOCK: block, PREFIX: self._prefix}
        return ProviderData(provider=PROVIDER, api=API, model=self._model, payload=payload)


_HANDLERS: Mapping[Any, Any] = {
    "message_start": AnswerReader._message_start,
    "content_block_start": AnswerReader._block_start,
    "content_block_delta": AnswerReader._block_delta,
    "message_delta": AnswerReader._message_delta,
    "message_stop": AnswerReader._message_stop,
    "error": AnswerReader._failed,
}


def usage_from(usage: Mapping[str, Json]) -> Usage:
    """Return the usage of the Messages API, whose `input_tokens` do not include the cached ones."""
    read, created = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    sent, said = count(usage, "input_tokens") + read + created, count(usage, "output_tokens")
    return Usage(
        input_tokens=sent,
        output_tokens=said,
        total_tokens=sent + said,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=created,
        reasoning_output_tokens=min(said, count(usage, "output_tokens_details", "thinking_tokens")),
    )


def _given_input(start: JsonObject) -> str:
    """Return the arguments of a server that sends them whole with the block's start, as JSON text."""
    return dumps(start["input"]) if start.get("input") else ""


def _whole(block: _Block) -> JsonObject:
    """Return a block that has no neutral form as the server made it, its streamed input put together."""
    if not block.arguments:
        return block.start
    try:
        return {**block.start, "input": loads_object("".join(block.arguments))}
    except JsonError:
        return {**block.start, "input": {}}

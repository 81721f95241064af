"""What comes back from the Messages API: https://platform.claude.com/docs/en/build-with-claude/streaming"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from afk_provider_anthropic.blocks import COMPACTION, Block, Blocks
from afk_provider_anthropic.native import applied_edits, context_size, iterations
from afk_provider_anthropic.request import BLOCK, LEGAL_ID, PREFIX, OwnBlocks, message_at, origin
from afk_provider_anthropic.settings import Server
from afkcli.plugin import (
    ContextEdit,
    ErrorKind,
    FinishReason,
    Json,
    JsonObject,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    Part,
    ProviderData,
    ProviderError,
    ReasoningPart,
    Role,
    TextPart,
    Usage,
    clean_text,
)
from afkcli.providers.answer_stream import after_answer, event_objects
from afkcli.providers.error_signs import is_error
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TokenCounts, tool_call, word_of

# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
_WORDS: Mapping[FinishReason, str] = {
    FinishReason.STOP: "end_turn stop_sequence stop eos",
    FinishReason.TOOL_CALLS: "tool_use tool_calls",
    FinishReason.LENGTH: "max_tokens length model_context_window_exceeded pause_turn compaction",
    FinishReason.CONTENT_FILTER: "refusal content_filter sensitive",
}
_FINISH = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_BROKE = frozenset({"error", "network_error", "abort", "aborted", "cancelled", "timeout", "overloaded"})
"""Stop reasons that say that the server failed; the same request may succeed."""

_WARNINGS = {
    "model_context_window_exceeded": "the answer filled the model's context; start a new thread",
    "compaction": "the server paused the answer behind a compaction; ask it to go on",
    "pause_turn": "a tool that runs at the server paused the answer; ask it to go on",
}


class AnswerReader:
    """Reads the events of one answer.

    `finished` says that the model's stop reason was seen, which comes when all blocks are whole; `ended` that
    `message_stop` was seen, after which nothing comes. An answer that is one JSON object is both at once.
    """

    def __init__(self, server: Server, request: ModelRequest, names: ToolNames, prefix: str) -> None:
        self.finished = False
        self.ended = False
        self._server = server
        self._request = request
        self._model = request.model
        self._origin = origin(server, request.model)
        self._names = names
        self._prefix = prefix
        self._answered_by: str | None = None
        taken = {call.id for message in request.messages for call in message.tool_calls}
        self._blocks = Blocks(names, taken)
        self._reason = ""
        self._usage: JsonObject = {}
        self._edits: tuple[ContextEdit, ...] = ()
        self._started_with: Json = None

    @property
    def unshown(self) -> int:
        return self._blocks.unshown

    def feed(self, events: Iterable[str]) -> Iterator[ModelEvent]:
        """Yield the model events of some events' data.

        Raises:
            ProviderError: the server reported an error before its answer was whole.
            ValueError: the data of an event is not JSON.
        """
        for event in event_objects(self, events):
            yield from self._take(event)

    def _take(self, event: JsonObject) -> Iterator[ModelEvent]:
        kind = event.get("type")
        handle = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if kind == "error" or (handle is None and is_error(event)):
            error = self._server.errors.event(self._model, event)
            if not self.finished:
                raise error
            self.ended = True
            yield after_answer(str(error))
        elif handle is not None:
            yield from handle(self, event)

    def close(self) -> Iterator[ModelEvent]:
        """Yield what was held back until now; to be called once `finished`.

        Raises:
            ProviderError: the stop reason is not one of an answer: `truncated`, or `overloaded` where nothing came.
        """
        if not self._blocks.all:
            yield from self._whole(self._started_with)
        yield from self._blocks.close()
        kinds = {block.kind for block in self._blocks.all}
        known = _FINISH.get(self._reason.lower())
        called = any("tool_use" in kind for kind in kinds)  # a tool that runs at the server is `server_tool_use`
        if known is None or (known is FinishReason.TOOL_CALLS and not called):
            what = f"{self._server.name} ended with the stop reason {self._reason!r}"
            what += " and no tool call" if known is not None else ", which is not known"
            transient = self._reason.lower() in _BROKE and not kinds
            kind = ErrorKind.OVERLOADED if transient else ErrorKind.TRUNCATED
            raise ProviderError(f"{what}; {'try again later' if transient else 'ask it to go on'}", kind=kind)

    def message_at(self, named: NamedMessage) -> int | None:
        """Return which message of the request the server named, None where that is unsure."""
        return message_at(self._request, self._names, OwnBlocks(self._origin, self._prefix), named)

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        parts = [self._part(block) for block in self._blocks.all]
        message = Message(role=Role.ASSISTANT, parts=tuple(part for part in parts if part is not None))
        finish = _FINISH.get(self._reason.lower(), FinishReason.LENGTH)
        is_counted = "input_tokens" in self._usage
        if finish in (FinishReason.STOP, FinishReason.TOOL_CALLS):
            finish = FinishReason.TOOL_CALLS if message.tool_calls else FinishReason.STOP
        return ModelResponse(
            message=message,
            finish_reason=finish,
            # llama.cpp sends no `message_start`, which counts the input, where the first token is half a character.
            usage=usage_from(self._usage) if is_counted else None,
            model=self._answered_by,
            context_tokens=context_tokens(self._usage) if is_counted else None,
            edits=self._edits,
        )

    def _message_start(self, event: JsonObject) -> Iterator[ModelEvent]:
        message = event.get("message")
        if isinstance(message, dict):
            self._answered_by = _name(message.get("model")) or self._answered_by
            self._count(message.get("usage"))
            self._edited(message.get("context_management"))
            self._started_with = message.get("content")
        yield from ()

    def _message(self, event: JsonObject) -> Iterator[ModelEvent]:
        """Take an answer that came as one JSON object, although a stream was asked for."""
        yield from self._message_start({"message": event})
        yield from self._whole(event.get("content"))
        self.ended = True
        yield from self._stopped(word_of(event.get("stop_reason")) or "end_turn", event.get("stop_details"))

    def _whole(self, content: Json) -> Iterator[ModelEvent]:
        """Take blocks that came whole, in an answer without a stream or in the start of one."""
        blocks = [content] if isinstance(content, (str, dict)) else content
        for n, block in enumerate(blocks if isinstance(blocks, list) else ()):
            yield from self._blocks.begin(n, {"type": "text", "text": block} if isinstance(block, str) else block)
            yield from self._blocks.end(n, None)

    def _block_start(self, event: JsonObject) -> Iterator[ModelEvent]:
        yield from self._blocks.begin(event.get("index"), event.get("content_block"))

    def _block_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        yield from self._blocks.piece(event.get("index"), event.get("delta"))

    def _block_stop(self, event: JsonObject) -> Iterator[ModelEvent]:
        yield from self._blocks.end(event.get("index"), event.get("content_block"))

    def _message_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        self._count(event.get("usage"))
        self._edited(event.get("context_management"))
        told = event.get("delta")
        delta = told if isinstance(told, dict) else {}
        reason = word_of(delta.get("stop_reason")) or word_of(event.get("stop_reason"))
        if reason:
            yield from self._stopped(reason, delta.get("stop_details"))

    def _stopped(self, reason: str, details: Json) -> Iterator[ModelEvent]:
        self.finished = True
        self._reason = reason
        said = details.get("explanation") if isinstance(details, dict) else None
        if self._reason in _WARNINGS:
            yield ModelWarning("finish_reason", _WARNINGS[self._reason])
        elif isinstance(said, str) and said:
            yield ModelWarning("finish_reason", f"{self._server.name} refused: {clean_text(said)}")

    def _message_stop(self, event: JsonObject) -> Iterator[ModelEvent]:
        self.ended = True
        self._count(event.get("usage"))
        yield from ()

    def _count(self, usage: Json) -> None:
        """Take over token counts; those of a later event are cumulative, and what it leaves out stays."""
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _edited(self, told: Json) -> None:
        """Take what the server says that it did to the conversation; a later event says all of it again."""
        self._edits = tuple(applied_edits(told)) or self._edits

    def _part(self, block: Block) -> Part | None:
        if block.kind == "text":
            return TextPart(text=block.text) if block.text else None
        if block.kind == "tool_use":
            # An id of another form goes back to its own server as it is: gateways keep a signature in it.
            odd = LEGAL_ID.fullmatch(block.id) is None
            return tool_call(block.id, block.name, block.arguments, provider_data=self._origin.data() if odd else None)
        if block.kind == "thinking":
            signature = "".join(block.signature)
            own = {"type": "thinking", "thinking": block.text, "signature": signature} if signature else None
            return ReasoningPart(text=block.text, provider_data=self._data(own)) if block.text or own else None
        if block.kind == COMPACTION:  # one without a content failed, and changes nothing
            data = self._origin.data(**{BLOCK: block.compaction}) if block.compaction.get("content") else None
            return ReasoningPart(text="", provider_data=data, compacts=True) if data is not None else None
        # `redacted_thinking`, and a tool that runs at the server with its result: they go back as they are
        return ReasoningPart(text="", provider_data=self._data(block.whole))

    def _data(self, block: JsonObject | None) -> ProviderData | None:
        if block is None:  # thinking without a signature, from servers that sign nothing: the API refuses it
            return None
        return self._origin.data(**{BLOCK: block, PREFIX: self._prefix})


_HANDLERS: Mapping[Any, Any] = {
    "message": AnswerReader._message,
    "message_start": AnswerReader._message_start,
    "content_block_start": AnswerReader._block_start,
    "content_block_delta": AnswerReader._block_delta,
    "content_block_stop": AnswerReader._block_stop,
    "message_delta": AnswerReader._message_delta,
    "message_stop": AnswerReader._message_stop,
}


def _name(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def usage_from(usage: Mapping[str, Json]) -> Usage:
    """Return the usage of the Messages API, with that of the compactions made in the call, which it counts apart."""
    return sum((_usage(made) for made in iterations(usage, COMPACTION)), _usage(usage))


def context_tokens(usage: Mapping[str, Json]) -> int | None:
    """Return the size of the conversation after the last call for an answer; None if `usage` itself says it."""
    calls = iterations(usage, "message")
    if len(calls) < 2 and not iterations(usage, COMPACTION):
        return None
    return context_size(_usage(calls[-1])) if calls else None


def _usage(usage: Mapping[str, Json]) -> Usage:
    """Return the usage in one set of counts, whose `input_tokens` do not include the cached ones."""
    counts = TokenCounts(usage)
    fresh = counts.read("input_tokens", "input_tokens")
    read = counts.read("cache_read_input_tokens", "cache_read_input_tokens")
    created = counts.read("cache_creation_input_tokens", "cache_creation_input_tokens")
    said = counts.read("output_tokens", "output_tokens")
    for_an_hour = counts.read("cache_creation_1h_input_tokens", "cache_creation.ephemeral_1h_input_tokens")
    thought = counts.read("reasoning_output_tokens", "output_tokens_details.thinking_tokens")
    return counts.usage(
        sent=None if fresh is None else fresh + (read or 0) + (created or 0),
        said=said,
        cache_read=read,
        cache_written=created,
        cache_written_1h=for_an_hour,
        reasoning=None if thought is None or said is None else min(said, thought),
    )

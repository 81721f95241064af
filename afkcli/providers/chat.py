"""The form of Chat Completions, which more servers and libraries than OpenAI's take and give.

https://developers.openai.com/api/reference/resources/chat/subresources/completions/methods/create
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from afkcli.core.contract.jsonform import Json, JsonObject, clean_text, dumps
from afkcli.core.contract.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolResultPart,
    ToolSpec,
)
from afkcli.core.contract.result import Usage
from afkcli.providers.attached import data_url
from afkcli.providers.parts import (
    FILE_NAME,
    arguments_text,
    refuse_other_files,
    result_text,
    text_of,
    user_content,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TextPieces, TokenCounts, tool_call

OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
}
"""The portable options and the fields that they are sent in; the limit of the answer has more than one name."""

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def chat_messages(request: ModelRequest, names: ToolNames) -> Iterator[JsonObject]:
    """Yield the messages of a request.

    Raises:
        ProviderError: `bad_request`, if one holds a file that is no PDF.
    """
    for message in request.messages:
        if message.role is Role.TOOL:
            for part in message.parts:
                if isinstance(part, ToolResultPart):
                    yield {"role": "tool", "tool_call_id": part.id, "content": result_text(part)}
        elif message.role is Role.ASSISTANT:
            yield _assistant_message(message, names)
        else:
            yield {"role": message.role.value, "content": user_content(request, message, _part)}


def _part(request: ModelRequest, part: Part) -> JsonObject:
    """Return the form of a part of a user's message."""
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": data_url(request, part)}}
    if isinstance(part, FilePart):
        refuse_other_files(part)
        return {"type": "file", "file": {"filename": part.name or FILE_NAME, "file_data": data_url(request, part)}}
    return {"type": "text", "text": part.text if isinstance(part, TextPart) else ""}


def _assistant_message(message: Message, names: ToolNames) -> JsonObject:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": names.to_wire(call.name), "arguments": arguments_text(call)},
        }
        for call in message.tool_calls
    ]
    text = text_of(message)
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def chat_tool(tool: ToolSpec, names: ToolNames) -> JsonObject:
    """Return a tool as it is offered."""
    function = {"name": names.to_wire(tool.name), "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


@dataclass(slots=True)
class _Call:
    """A tool call while its arguments come in."""

    id: str
    name: str
    arguments: str = ""


class ChatAnswer:
    """One answer, made of its chunks.

    `finished` says that the model's finish reason was seen, which is the end of the answer.

    Args:
        names: the request's tool names.
        server: how messages call the server.
    """

    def __init__(self, names: ToolNames, server: str) -> None:
        self.finished = False
        self._names = names
        self._server = server
        self._answered_by: str | None = None
        self._text: list[str] = []
        self._pieces = TextPieces()
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._finish = FinishReason.STOP
        self._usage: Usage | None = None

    def chunk(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Yield the model events of a chunk."""
        choices = chunk.get("choices")
        if choices:
            yield from self._choice(choices[0])
        for usage in _usages(chunk):
            self._usage = usage_from(usage)
        if self._answered_by is None:
            self._answered_by = chunk.get("model")

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        parts: list[Part] = []
        if self._reasoning:
            parts.append(ReasoningPart(text="".join(self._reasoning)))
        if self._text:
            parts.append(TextPart(text="".join(self._text)))
        parts += [tool_call(call.id, call.name, call.arguments) for call in self._calls.values()]
        finish = self._finish
        if self._calls and finish is FinishReason.STOP:  # some servers say `stop` after calls, too
            finish = FinishReason.TOOL_CALLS
        return ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=tuple(parts)),
            finish_reason=finish,
            usage=self._usage,
            model=self._answered_by,
        )

    def _choice(self, choice: JsonObject) -> Iterator[ModelEvent]:
        delta = choice.get("delta") or {}
        content = delta.get("content") or delta.get("refusal")
        if content:
            text = self._pieces.take(content if isinstance(content, str) else _joined(content))
            self._text.append(text)
            yield TextDelta(text)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            reasoning = clean_text(reasoning)
            self._reasoning.append(reasoning)
            yield ReasoningDelta(reasoning)
        if delta.get("tool_calls"):
            yield from map(self._call, delta["tool_calls"])
        reason = choice.get("finish_reason")
        if reason:
            yield from self._finished(reason)

    def _call(self, piece: JsonObject) -> ToolCallDelta:
        index = piece.get("index")
        if not isinstance(index, int):  # a server that does not number its calls sends each one whole
            index = len(self._calls)
        function = piece.get("function") or {}
        call = self._calls.get(index)
        if call is None:
            name = self._names.from_wire(str(function.get("name")))
            call = self._calls[index] = _Call(piece.get("id") or f"call_{uuid.uuid4().hex}", name)
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):  # an object, from servers that do not follow the API
            arguments = dumps(arguments)
        arguments = clean_text(arguments)
        call.arguments += arguments
        return ToolCallDelta(call.id, call.name, arguments)

    def _finished(self, reason: str) -> Iterator[ModelEvent]:
        if reason in ("error", "abort"):  # a gateway's word for an answer that broke off
            return
        self.finished = True
        self._finish = _FINISH.get(reason, FinishReason.STOP)
        if reason not in _FINISH:
            yield ModelWarning("finish_reason", f"{self._server} ended with the unknown finish reason {reason!r}")


def usage_from(usage: Mapping[str, Json]) -> Usage:
    """Return the usage of Chat Completions, whose `prompt_tokens` include the cached ones.

    DeepSeek and Moonshot tell the cached ones elsewhere. xAI's `completion_tokens` leave out those of the reasoning,
    which its total has.
    """
    counts = TokenCounts(usage)
    sent = counts.read("input_tokens", "prompt_tokens", "input_tokens")
    said = counts.read("output_tokens", "completion_tokens", "output_tokens")
    total = counts.read("total_tokens", "total_tokens")
    cached = counts.read("cache_read_input_tokens", *_CACHED)
    written = counts.read(
        "cache_creation_input_tokens", "prompt_tokens_details.cache_write_tokens", "cache_creation_input_tokens"
    )
    reasoning = counts.read("reasoning_output_tokens", "completion_tokens_details.reasoning_tokens", "reasoning_tokens")
    if sent is None and (missed := counts.read("input_tokens", "prompt_cache_miss_tokens")) is not None:
        sent = missed + (cached or 0)
    if reasoning and None not in (sent, said, total) and total == (sent or 0) + (said or 0) + reasoning:
        said = (said or 0) + reasoning
    return counts.usage(
        sent=sent, said=said, total=total, cache_read=cached, cache_written=written, reasoning=reasoning
    )


_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "input_tokens_details.cached_tokens",
    "cache_read_input_tokens",
)


def _usages(chunk: JsonObject) -> Iterator[Mapping[str, Json]]:
    """Yield the usage objects of a chunk: its own, those of its choices (Moonshot) and that of `x_groq`."""
    choices = chunk.get("choices")
    for place in (chunk, chunk.get("x_groq"), *(choices if isinstance(choices, list) else ())):
        usage = place.get("usage") if isinstance(place, Mapping) else None
        if isinstance(usage, Mapping) and any(value is not None for value in usage.values()):
            yield usage


def _joined(content: Json) -> str:
    """Return the text of a content that comes as a list of parts, as some servers send it."""
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))

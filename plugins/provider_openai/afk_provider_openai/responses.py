"""How the streamed events of OpenAI's Responses API become model events.

https://developers.openai.com/api/reference/resources/responses/streaming-events
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from afk_provider_openai.responses_request import COMPACTION, input_items, origin_of
from afk_provider_openai.settings import Server
from afkcli.plugin import (
    FinishReason,
    GrowingText,
    Json,
    JsonObject,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    OpaqueDelta,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Role,
    Struct,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    Usage,
    clean_text,
    dumps,
    field,
)
from afkcli.providers.answer_stream import event_objects
from afkcli.providers.error_signs import is_error
from afkcli.providers.named_message import NamedMessage, index_in_request
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TextPieces, TokenCounts, index_of, json_size, tool_call, word_of

PATH = "/responses"
COMPACT_PATH = "/responses/compact"

MAX_ITEMS = 10_000
"""Of one answer."""

_STATUSES = ("completed", "incomplete", "failed")
_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


class _Item(Struct, eq=False):
    """An output item while it comes in; `part` is what it became."""

    index: int | None
    id: str
    kind: str = ""
    call_id: str = ""
    name: str = ""
    said: GrowingText = field(default_factory=GrowingText)
    given: GrowingText = field(default_factory=GrowingText)
    pieces: TextPieces = field(default_factory=TextPieces)
    argument_pieces: TextPieces = field(default_factory=TextPieces)
    part: Part | None = None
    is_done: bool = False

    @property
    def text(self) -> str:
        return str(self.said)

    @property
    def arguments(self) -> str:
        return str(self.given)


class ResponsesReader:
    """Reads the events of one response; `finished` and `ended` say that its last event was seen.

    `unshown` counts the pieces that no event shows: items, and what tools that run at the server do.

    Items are told by their id and index together: servers repeat the one or the other, or leave one out.
    """

    def __init__(self, server: Server, request: ModelRequest, names: ToolNames) -> None:
        self.finished = False
        self.ended = False
        self.unshown = 0
        self._states: set[tuple[str, str]] = set()
        self._server = server
        self._request = request
        self._model = request.model
        self._origin = origin_of(server, request.model)
        self._names = names
        self._taken = {call.id for message in request.messages for call in message.tool_calls}
        self._items: list[_Item] = []
        self._response: JsonObject = {}
        self._finish = FinishReason.STOP

    def feed(self, events: Iterable[str]) -> Iterator[ModelEvent]:
        """Yield the model events of some events' data.

        Raises:
            ProviderError: the server reported an error.
            ValueError: the data of an event is not JSON.
        """
        for event in event_objects(self, events):
            yield from self._take(event)

    def _take(self, event: JsonObject) -> Iterator[ModelEvent]:
        kind = event.get("type")
        if isinstance(kind, str) and kind in _HANDLERS:
            yield from _HANDLERS[kind](self, event)
        elif event.get("object") == "response":  # the whole answer as one object
            status = word_of(event.get("status")) or "completed"
            if status not in _STATUSES:
                raise ValueError(f"a response of the status {status!r}")
            yield from self._ended({"type": f"response.{status}", "response": event})
        elif is_error(event):
            yield from self._failed(event)
        elif isinstance(kind, str) and "item_id" in event:
            self._see(kind, event)

    def _see(self, kind: str, event: JsonObject) -> None:
        """Take what tells of an item and is not shown, such as a search that begins, or a piece of code that runs."""
        state = (kind, _str(event.get("item_id")))
        if _str(event.get("delta")).strip():
            self.unshown += 1
        elif state not in self._states and len(self._states) < MAX_ITEMS:
            self._states.add(state)
            self.unshown += 1

    def close(self) -> Iterator[ModelEvent]:
        """Yield nothing: everything was yielded with the last event."""
        yield from ()

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        usage = self._response.get("usage")
        parts = tuple(item.part for item in self._items if item.part is not None)
        finish = self._finish
        if finish is FinishReason.STOP and any(isinstance(part, ToolCallPart) for part in parts):
            finish = FinishReason.TOOL_CALLS
        model = self._response.get("model")
        return ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=parts),
            finish_reason=finish,
            usage=usage_from(usage) if isinstance(usage, dict) and usage else None,
            model=model if isinstance(model, str) else None,
        )

    def message_at(self, named: NamedMessage) -> int | None:
        """Return which message of the request the server named, None where that is unsure."""
        request = self._request
        if named.field != "input" or "input" in request.extra:
            return None
        sizes = [len(items) for items in input_items(self._server, request, self._names)]
        return index_in_request(request.messages, sizes, named.position)

    def _item(self, index: Json, id: Json, *, begins: bool = False) -> _Item:  # noqa: A002  (the API's name)
        """Return the open item of an index and an id, one of which may be missing; a new one where there is none."""
        number, name = index_of(index), id if isinstance(id, str) else ""
        for item in reversed(self._items):
            same_id = item.id == name if item.id and name else None
            same_index = item.index == number if item.index is not None and number is not None else None
            is_same = False not in (same_id, same_index) and (same_id or same_index or (number is None and not name))
            if is_same and not item.is_done and not (begins and item.kind):
                return item
        if len(self._items) >= MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS} items")
        item = _Item(number, name)
        self._items.append(item)
        return item

    def _item_of(self, event: JsonObject) -> _Item:
        return self._item(event.get("output_index"), event.get("item_id"))

    def _text_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        item = self._item_of(event)
        item.kind = item.kind or "message"
        text = item.pieces.take(_str(event.get("delta")))
        item.said.append(text)
        if text:
            yield TextDelta(text)

    def _reasoning_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        item = self._item_of(event)
        item.kind = item.kind or "reasoning"
        text = item.pieces.take(_str(event.get("delta")))
        item.said.append(text)
        if text:
            yield ReasoningDelta(text)

    def _reasoning_part(self, event: JsonObject) -> Iterator[ModelEvent]:
        if event.get("summary_index"):  # the parts of a summary are paragraphs
            yield from self._reasoning_delta({**event, "delta": "\n\n"})

    def _arguments_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        item = self._item_of(event)
        item.kind = item.kind or "function_call"
        arguments = item.argument_pieces.take(_str(event.get("delta")))
        item.given.append(arguments)
        if item.name and arguments:
            yield ToolCallDelta(item.call_id, item.name, arguments)
        else:
            self.unshown += bool(arguments.strip())

    def _item_added(self, event: JsonObject) -> Iterator[ModelEvent]:
        added = _object(event.get("item"))
        item = self._item(event.get("output_index"), added.get("id"), begins=True)
        item.kind = str(added.get("type") or item.kind)
        if item.kind == "function_call":
            yield from self._named(item, added)

    def _named(self, item: _Item, told: JsonObject) -> Iterator[ModelEvent]:
        """Yield the beginning of a call once its name is known, with the arguments that came before."""
        if item.name or not _str(told.get("name")):
            return
        item.name = self._names.from_wire(_str(told.get("name")))
        given = clean_text(_str(told.get("call_id")) or item.id)
        item.call_id = given if given and given not in self._taken else f"call_{uuid.uuid4().hex[:32]}"
        self._taken.add(item.call_id)
        yield ToolCallDelta(item.call_id, item.name, item.arguments)

    def _item_done(self, event: JsonObject) -> Iterator[ModelEvent]:
        done = _object(event.get("item"))
        item = self._item(event.get("output_index"), done.get("id"))
        item.kind = str(done.get("type") or item.kind)
        item.is_done = True
        self.unshown += 1
        if item.kind == "message":
            yield from self._message_done(item, done)
        elif item.kind == "function_call":
            yield from self._call_done(item, done)
        else:  # reasoning, or an item of a tool that runs at OpenAI: both go back as they are
            thought = item.text or _summary_text(done)
            if thought != item.text:
                yield ReasoningDelta(thought)
            yield OpaqueDelta(json_size(done))
            compacts = True if item.kind == COMPACTION else None
            item.part = ReasoningPart(text=thought, provider_data=self._origin.data(item=done), compacts=compacts)

    def _message_done(self, item: _Item, done: JsonObject) -> Iterator[ModelEvent]:
        text, payload = clean_text(_message_text(done)), _message_payload(done)
        if text.startswith(item.text):  # what no delta said is still part of the answer
            if text != item.text:
                yield TextDelta(text[len(item.text) :])
            item.said = GrowingText(text)
        elif text:
            payload = None
            yield ModelWarning(
                "answer_differs",
                f"the last message of {self._server.name} differs from what it streamed, which is kept",
            )
        if item.text:
            data = None if payload is None else self._origin.data(item=payload)
            yield OpaqueDelta(json_size(payload))
            item.part = TextPart(text=item.text, provider_data=data)

    def _call_done(self, item: _Item, done: JsonObject) -> Iterator[ModelEvent]:
        yield from self._named(item, done)
        told = done.get("arguments")
        arguments = told if isinstance(told, str) else dumps(told) if isinstance(told, (dict, list)) else ""
        if arguments and not item.arguments:
            yield ToolCallDelta(item.call_id, item.name, clean_text(arguments))
        kept = {"id": done.get("id"), "status": done.get("status")}
        data = self._origin.data(item=kept) if done.get("id") else None
        yield OpaqueDelta(json_size(kept))
        arguments = clean_text(arguments) if arguments.strip() else item.arguments
        item.part = tool_call(item.call_id, item.name, arguments, provider_data=data)

    def _ended(self, event: JsonObject) -> Iterator[ModelEvent]:
        self._response = _object(event.get("response"))
        if event["type"] == "response.failed" or self._response.get("error"):
            yield from self._failed(event)
        if event["type"] == "response.incomplete":
            reason = word_of(self._response.get("incomplete_details"))
            self._finish = _INCOMPLETE.get(reason, FinishReason.LENGTH)
            if reason not in _INCOMPLETE:
                yield ModelWarning("finish_reason", f"{self._server.name} cut the answer for the reason {reason!r}")
        yield from self._rest()
        self.finished = self.ended = True

    def _rest(self) -> Iterator[ModelEvent]:
        """Yield what the last event has and no item of its own had, and end items that no event ended."""
        output = self._response.get("output")
        for index, done in enumerate(output if isinstance(output, list) else ()):
            if isinstance(done, dict) and not self._has(index, done):
                yield from self._item_done({"output_index": index, "item": done})
        for item in self._items:
            if not item.is_done and (item.text or item.name):
                item.is_done = True
                item.part = _unfinished_part(item)

    def _has(self, index: int, done: JsonObject) -> bool:
        """Return whether an item of the last event was seen already, by its id or its place."""
        ids = {done.get("id"), done.get("call_id")} - {None, ""}
        seen = [item for item in self._items if item.is_done]
        if ids and any(item.id in ids or item.call_id in ids for item in seen):
            return True
        return any(item.index == index and item.kind == done.get("type") for item in seen) or (
            not ids and index < len(seen)
        )

    def _failed(self, event: JsonObject) -> Iterator[ModelEvent]:
        error = _object(event.get("response")).get("error") or event
        raise self._server.errors.event(self._model, error)


def compacted(server: Server, model: str, answer: Json) -> ModelResponse | None:
    """Return the compaction in the answer of the compact endpoint as a part of a message; None if it has no item.

    All items together stand for the conversation: https://developers.openai.com/api/docs/guides/compaction
    """
    items = _object(answer).get("output")
    if not isinstance(items, list) or not any(_object(item).get("type") == COMPACTION for item in items):
        return None
    data = origin_of(server, model).data(items=items)
    usage = _object(answer).get("usage")
    return ModelResponse(
        message=Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="", provider_data=data, compacts=True),)),
        finish_reason=FinishReason.STOP,
        usage=usage_from(usage) if isinstance(usage, dict) and usage else None,
    )


def _unfinished_part(item: _Item) -> Part:
    """Return the part of an item that only its deltas told."""
    if item.kind == "function_call":
        return tool_call(item.call_id, item.name, item.arguments)
    return ReasoningPart(text=item.text) if item.kind == "reasoning" else TextPart(text=item.text)


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


_HANDLERS: Mapping[Any, Any] = {
    "response.output_text.delta": ResponsesReader._text_delta,
    "response.refusal.delta": ResponsesReader._text_delta,
    "response.reasoning_summary_text.delta": ResponsesReader._reasoning_delta,
    "response.reasoning_text.delta": ResponsesReader._reasoning_delta,
    "response.reasoning_summary_part.added": ResponsesReader._reasoning_part,
    "response.function_call_arguments.delta": ResponsesReader._arguments_delta,
    "response.output_item.added": ResponsesReader._item_added,
    "response.output_item.done": ResponsesReader._item_done,
    "response.completed": ResponsesReader._ended,
    "response.incomplete": ResponsesReader._ended,
    "response.failed": ResponsesReader._ended,
    "response.cancelled": ResponsesReader._failed,
    "error": ResponsesReader._failed,
}


def usage_from(usage: Mapping[str, Json]) -> Usage:
    """Return the usage of the Responses API, whose `input_tokens` include the cached ones."""
    counts = TokenCounts(usage)
    return counts.usage(
        sent=counts.read("input_tokens", "input_tokens", "prompt_tokens"),
        said=counts.read("output_tokens", "output_tokens", "completion_tokens"),
        total=counts.read("total_tokens", "total_tokens"),
        cache_read=counts.read("cache_read_input_tokens", "input_tokens_details.cached_tokens"),
        cache_written=counts.read("cache_creation_input_tokens", "input_tokens_details.cache_write_tokens"),
        reasoning=counts.read("reasoning_output_tokens", "output_tokens_details.reasoning_tokens"),
    )


def _message_text(item: JsonObject) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(_str(part.get("text")) or _str(part.get("refusal")) for part in parts)


def _summary_text(item: JsonObject) -> str:
    """Return the text of a reasoning item that no delta told."""
    parts = item.get("summary") or item.get("content")
    texts = [_str(part.get("text")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return clean_text("\n\n".join(filter(None, texts))) if item.get("type") == "reasoning" else ""


def _message_payload(item: JsonObject) -> JsonObject | None:
    """Return what a message item holds beside its text; None for a refusal, which goes back as plain text."""
    content = item.get("content")
    parts = content if isinstance(content, list) else [None]
    if any(not isinstance(part, dict) or part.get("type") != "output_text" for part in parts):
        return None
    return {name: value for name, value in item.items() if name != "content"}

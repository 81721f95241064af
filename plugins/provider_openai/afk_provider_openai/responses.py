"""OpenAI's Responses API: what is sent, and how its streamed events become model events.

Nothing is stored at OpenAI (`store: false`), so every request carries the whole conversation, and the model's reasoning
goes back and forth encrypted: https://developers.openai.com/api/docs/guides/reasoning and
https://developers.openai.com/api/reference/resources/responses/streaming-events
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from afk_provider_openai.models import is_reasoning_model
from afk_provider_openai.settings import Server
from afk_provider_openai.structured import schema_format
from afkcli.plugin import (
    FilePart,
    FinishReason,
    ImagePart,
    Json,
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
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    Usage,
    clean_text,
)
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
from afkcli.providers.wire import TokenCounts, decode_event, tool_call

PATH = "/responses"
PROVIDER = "openai"
API = "responses"
ENCRYPTED_REASONING = "reasoning.encrypted_content"

_OPTIONS = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_output_tokens"}

_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


def request_body(server: Server, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the body of the request, `extra` last."""
    reasons = is_reasoning_model(request.model)
    body: JsonObject = {
        "model": request.model,
        "input": list(_items(request, names, reasons=reasons)),
        "stream": True,
        "store": False,
    }
    if reasons:
        body["include"] = [ENCRYPTED_REASONING]
    if request.tools:
        body["tools"] = [_tool(tool, names) for tool in request.tools]
    for option, field in _OPTIONS.items():
        if option in request.options:
            body[field] = request.options[option]
    reasoning = _reasoning(server, request)
    if reasoning:
        body["reasoning"] = reasoning
    return {**body, **request.extra, **_text(request), "stream": True}


def _text(request: ModelRequest) -> JsonObject:
    """Return the field that asks for the schema; what `extra` says of it goes before."""
    if request.output_schema is None:
        return {}
    asked = {"format": {"type": "json_schema", **schema_format(request.output_schema)}}
    return {"text": {**asked, **(request.extra.get("text") or {})}}


def _reasoning(server: Server, request: ModelRequest) -> JsonObject:
    reasoning: JsonObject = {}
    if "reasoning_effort" in request.options:
        reasoning["effort"] = request.options["reasoning_effort"]
    if server.settings.reasoning_summary:
        reasoning["summary"] = server.settings.reasoning_summary
    return reasoning


def _tool(tool: ToolSpec, names: ToolNames) -> JsonObject:
    return {
        "type": "function",
        "name": names.to_wire(tool.name),
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": False,  # the API's default, strict, takes only a subset of JSON Schema
    }


def _items(request: ModelRequest, names: ToolNames, *, reasons: bool) -> Iterator[JsonObject]:
    for message in request.messages:
        if message.role is Role.TOOL:
            for part in message.parts:
                if isinstance(part, ToolResultPart):
                    yield {"type": "function_call_output", "call_id": part.id, "output": _output(request, part)}
        elif message.role is Role.ASSISTANT:
            yield from _assistant_items(message, names, reasons=reasons)
        else:
            yield {"role": message.role.value, "content": user_content(request, message, _part)}


def _output(request: ModelRequest, part: ToolResultPart) -> str | list[JsonObject]:
    """Return the outcome of a tool: its text, or a list of parts where it has more."""
    if not any(isinstance(piece, (ImagePart, FilePart)) for piece in part.parts):
        return result_text(part)
    failed = [TextPart(text="Error:")] if part.is_error else []
    return [_part(request, piece) for piece in (*failed, *part.parts)]


def _part(request: ModelRequest, part: Part) -> JsonObject:
    """Return the form of a part of a user's message."""
    if isinstance(part, ImagePart):
        return {"type": "input_image", "detail": "auto", "image_url": data_url(request, part)}
    if isinstance(part, FilePart):
        refuse_other_files(part)
        return {"type": "input_file", "filename": part.name or FILE_NAME, "file_data": data_url(request, part)}
    return {"type": "input_text", "text": part.text if isinstance(part, TextPart) else ""}


def _assistant_items(message: Message, names: ToolNames, *, reasons: bool) -> Iterator[JsonObject]:
    """Yield the items of an answer in the order in which they came.

    A reasoning item is sent only together with what followed it, and what followed keeps its id only together with its
    reasoning: the API refuses one without the other.
    """
    text_of(message)  # refuses attachments
    held: list[JsonObject] = []
    for part in message.parts:
        own = _own_data(part)
        if isinstance(part, ReasoningPart):
            if own is not None and reasons:
                held.append(own)
            continue
        yield from held
        held = []
        kept = own if own is not None and reasons else {}
        if isinstance(part, ToolCallPart):
            arguments = arguments_text(part)
            call = {"type": "function_call", "call_id": part.id, "name": names.to_wire(part.name)}
            yield {**kept, **call, "arguments": arguments}
        elif isinstance(part, TextPart) and kept:
            yield {**kept, "content": [{"type": "output_text", "text": part.text, "annotations": []}]}
        elif isinstance(part, TextPart) and part.text:
            yield {"role": "assistant", "content": part.text}
    yield from (item for item in held if item.get("type") != "reasoning")


def _own_data(part: Part) -> JsonObject | None:
    data = part.provider_data
    if data is None or data.provider != PROVIDER or data.api != API or not isinstance(data.payload, dict):
        return None
    return data.payload


class ResponsesReader:
    """Reads the events of one response; `finished` and `ended` say that its last event was seen."""

    def __init__(self, server: Server, request: ModelRequest, names: ToolNames) -> None:
        self.finished = False
        self.ended = False
        self._server = server
        self._model = request.model
        self._names = names
        self._said: dict[str, list[str]] = {}
        self._calls: dict[str, tuple[str, str]] = {}
        self._parts: list[Part] = []
        self._response: JsonObject = {}
        self._finish = FinishReason.STOP

    def feed(self, events: Sequence[str]) -> Iterator[ModelEvent]:
        """Yield the model events of some events' data.

        Raises:
            ProviderError: the server reported an error.
            ValueError: the data of an event is not JSON.
        """
        for data in events:
            event = decode_event(data)
            kind = event.get("type")
            if kind == "response.output_text.delta" or kind == "response.refusal.delta":
                text = clean_text(event["delta"])
                self._heard(event, text)
                yield TextDelta(text)
            elif kind in _HANDLERS:
                yield from _HANDLERS[kind](self, event)

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        usage = self._response.get("usage")
        finish = self._finish
        if finish is FinishReason.STOP and any(isinstance(part, ToolCallPart) for part in self._parts):
            finish = FinishReason.TOOL_CALLS
        return ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=tuple(self._parts)),
            finish_reason=finish,
            usage=usage_from(usage) if usage else None,
            model=self._response.get("model"),
        )

    def _heard(self, event: JsonObject, text: str) -> None:
        item = event.get("item_id", "")
        if item in self._said:
            self._said[item].append(text)
        else:
            self._said[item] = [text]

    def _reasoning_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        text = clean_text(event["delta"])
        self._heard(event, text)
        yield ReasoningDelta(text)

    def _reasoning_part(self, event: JsonObject) -> Iterator[ModelEvent]:
        if event.get("summary_index"):  # the parts of a summary are paragraphs
            yield from self._reasoning_delta({**event, "delta": "\n\n"})

    def _arguments_delta(self, event: JsonObject) -> Iterator[ModelEvent]:
        id, name = self._calls.get(event.get("item_id", ""), ("", ""))  # noqa: A001
        if id:
            yield ToolCallDelta(id, name, clean_text(event["delta"]))

    def _item_added(self, event: JsonObject) -> Iterator[ModelEvent]:
        item = event["item"]
        if item.get("type") == "function_call":
            id, name = item["call_id"], self._names.from_wire(item["name"])  # noqa: A001
            self._calls[item.get("id", "")] = (id, name)
            yield ToolCallDelta(id, name, "")

    def _item_done(self, event: JsonObject) -> Iterator[ModelEvent]:
        item = event["item"]
        kind = item.get("type")
        said = "".join(self._said.get(item.get("id", ""), ()))
        if kind == "message":
            text = clean_text(_message_text(item))
            if text != said and text.startswith(said):  # what no delta said is still part of the answer
                yield TextDelta(text[len(said) :])
                said = text
            self._parts.append(TextPart(text=said, provider_data=self._data(_message_payload(item))))
        elif kind == "function_call":
            data = self._data({"id": item.get("id"), "status": item.get("status")})
            name = self._names.from_wire(item["name"])
            self._parts.append(tool_call(item["call_id"], name, item["arguments"], provider_data=data))
        else:  # reasoning, or an item of a tool that runs at OpenAI: both go back as they are
            self._parts.append(ReasoningPart(text=said, provider_data=self._data(item)))

    def _ended(self, event: JsonObject) -> Iterator[ModelEvent]:
        self._response = event["response"]
        if event["type"] == "response.incomplete":
            reason = str((self._response.get("incomplete_details") or {}).get("reason"))
            self._finish = _INCOMPLETE.get(reason, FinishReason.LENGTH)
            if reason not in _INCOMPLETE:
                yield ModelWarning("finish_reason", f"{self._server.name} cut the answer for the reason {reason!r}")
        if not self._parts:
            for item in self._response.get("output") or ():
                yield from self._item_done({"item": item})
        self.finished = self.ended = True

    def _failed(self, event: JsonObject) -> Iterator[ModelEvent]:
        error = event.get("response", event).get("error") or event
        raise self._server.errors.event(self._model, error)

    def _data(self, payload: JsonObject | None) -> ProviderData | None:
        if payload is None:
            return None
        return ProviderData(provider=PROVIDER, api=API, model=self._model, payload=payload)


_HANDLERS: Mapping[Any, Any] = {
    "response.reasoning_summary_text.delta": ResponsesReader._reasoning_delta,
    "response.reasoning_text.delta": ResponsesReader._reasoning_delta,
    "response.reasoning_summary_part.added": ResponsesReader._reasoning_part,
    "response.function_call_arguments.delta": ResponsesReader._arguments_delta,
    "response.output_item.added": ResponsesReader._item_added,
    "response.output_item.done": ResponsesReader._item_done,
    "response.completed": ResponsesReader._ended,
    "response.incomplete": ResponsesReader._ended,
    "response.failed": ResponsesReader._failed,
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
    return "".join(part.get("text") or part.get("refusal") or "" for part in item.get("content") or ())


def _message_payload(item: JsonObject) -> JsonObject | None:
    """Return what a message item holds beside its text; None for a refusal, which goes back as plain text."""
    if any(part.get("type") != "output_text" for part in item.get("content") or ()):
        return None
    return {name: value for name, value in item.items() if name != "content"}

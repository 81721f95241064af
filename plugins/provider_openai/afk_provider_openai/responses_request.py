"""What is sent to OpenAI's Responses API.

Nothing is stored at OpenAI (`store: false`), so every request carries the whole conversation, and the model's reasoning
goes back and forth encrypted: https://developers.openai.com/api/docs/guides/reasoning
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from afk_provider_openai.models import is_reasoning_model
from afk_provider_openai.settings import Server
from afk_provider_openai.structured import schema_format
from afkcli.plugin import (
    FilePart,
    ImagePart,
    JsonObject,
    Message,
    ModelRequest,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    replace,
)
from afkcli.providers.attached import data_url
from afkcli.providers.base_url import split_base_url
from afkcli.providers.origin import Origin
from afkcli.providers.parts import FILE_NAME, arguments_text, refuse_other_files, result_text, text_of, user_content
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire_ids import WireIds

PROVIDER = "openai"
API = "responses"
ENCRYPTED_REASONING = "reasoning.encrypted_content"
COMPACTION = "compaction"

_COMPACTION_FIELDS = frozenset({"id", "type", "encrypted_content"})

MAX_CALL_ID = 64
"""The longest id of a call that the API takes."""

LEGAL_ID = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_CALL_ID}}}")

_OPTIONS = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_output_tokens"}


def request_body(server: Server, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the body of the request, `extra` last."""
    reasons = is_reasoning_model(request.model)
    body: JsonObject = {
        "model": request.model,
        "input": [item for items in input_items(server, request, names) for item in items],
        "stream": True,
        "store": False,
    }
    if reasons:
        body["include"] = [ENCRYPTED_REASONING]
    if request.tools:
        body["tools"] = [_tool(tool, names) for tool in request.tools]
    for option, name in _OPTIONS.items():
        if option in request.options:
            body[name] = request.options[option]
    reasoning = _reasoning(server, request)
    if reasoning:
        body["reasoning"] = reasoning
    if request.native_context_from is not None:
        body["context_management"] = [{"type": COMPACTION, "compact_threshold": request.native_context_from}]
    return {**body, **request.extra, **_text(request), "stream": True}


def compact_body(server: Server, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the body that asks for a compaction of the messages of a request, without their instructions.

    https://developers.openai.com/api/reference/resources/responses/methods/compact
    """
    messages = [message for message in request.messages if message.role is not Role.SYSTEM]
    said = replace(request, messages=messages)
    return {
        "model": request.model,
        "input": [item for items in input_items(server, said, names) for item in items],
    }


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


def origin_of(server: Server, model: str) -> Origin:
    """Return what tells where opaque data of an answer came from."""
    return Origin(provider=PROVIDER, api=API, model=model, server=split_base_url(server.url)[0])


def input_items(server: Server, request: ModelRequest, names: ToolNames) -> Iterator[list[JsonObject]]:
    """Yield the items that each message of a request becomes."""
    reasons, origin = is_reasoning_model(request.model), origin_of(server, request.model)
    ids = WireIds(LEGAL_ID, lambda call: len(call.id) <= MAX_CALL_ID and origin.own(call.provider_data) is not None)
    taken: set[str] = set()
    for message in request.messages:
        if message.role is Role.TOOL:
            results = [part for part in message.parts if isinstance(part, ToolResultPart)]
            yield [
                {"type": "function_call_output", "call_id": ids.of_result(part.id), "output": _output(request, part)}
                for part in results
            ]
        elif message.role is Role.ASSISTANT:
            items = _compacted_items(message, origin)
            yield items or list(_assistant_items(message, names, origin, ids, taken, reasons=reasons))
        else:
            yield [{"role": message.role.value, "content": user_content(request, message, _part)}]


def _compacted_items(message: Message, origin: Origin) -> list[JsonObject] | None:
    """Return the items that the API made of a whole conversation, if a message stands for it."""
    for part in message.parts:
        items = (origin.own(part.provider_data) or {}).get("items")
        if isinstance(items, list) and items:
            return [_sendable(item) for item in items if isinstance(item, dict)]
    return None


def _sendable(item: JsonObject) -> JsonObject:
    """Return an item of an answer as it goes back: of a compaction the fields that a request may have."""
    if item.get("type") != COMPACTION:
        return item
    return {name: value for name, value in item.items() if name in _COMPACTION_FIELDS}


def _output(request: ModelRequest, part: ToolResultPart) -> str | list[JsonObject]:
    """Return the outcome of a tool: its text, or a list of parts where it has more."""
    if not any(isinstance(piece, (ImagePart, FilePart)) for piece in part.parts):
        return result_text(part)
    failed = [TextPart(text="Error:")] if part.is_error else []
    pieces = (piece for piece in (*failed, *part.parts) if not isinstance(piece, TextPart) or piece.text.strip())
    return [_part(request, piece) for piece in pieces]


def _part(request: ModelRequest, part: Part) -> JsonObject:
    """Return the form of a part of a user's message."""
    if isinstance(part, ImagePart):
        return {"type": "input_image", "detail": "auto", "image_url": data_url(request, part)}
    if isinstance(part, FilePart):
        refuse_other_files(part)
        return {"type": "input_file", "filename": part.name or FILE_NAME, "file_data": data_url(request, part)}
    return {"type": "input_text", "text": part.text if isinstance(part, TextPart) else ""}


def _assistant_items(
    message: Message, names: ToolNames, origin: Origin, ids: WireIds, taken: set[str], *, reasons: bool
) -> Iterator[JsonObject]:
    """Yield the items of an answer in the order in which they came.

    A reasoning item is sent only together with what followed it, and what followed keeps its id only together with its
    reasoning: the API refuses one without the other. It also refuses a second item of one id, and some servers give one
    id in every step: then the later reasoning is left out, and other items are sent without their id.

    Args:
        message: the answer.
        names: the tool names of the request.
        origin: the model and server that are asked.
        ids: the ids of calls.
        taken: the ids of the items before; those that are yielded are added.
        reasons: whether the model reasons; items keep their ids only then.
    """
    text_of(message)  # refuses attachments
    held: list[JsonObject] = []
    is_parted = False  # what comes now has lost its reasoning
    for part in message.parts:
        own = _own_item(part, origin) if reasons or _compacts(part) else None
        if isinstance(part, ReasoningPart):
            if own is not None:
                is_parted = _is_taken(own, taken) or any(item.get("id") == own.get("id") for item in held)
                held += [] if is_parted else [_sendable(own)]
            continue
        yield from _taken(held, taken)
        held = []
        [kept] = _taken([_without_id(own or {}, taken, is_parted=is_parted)], taken)
        if isinstance(part, ToolCallPart):
            call = {"type": "function_call", "call_id": ids.of_call(part), "name": names.to_wire(part.name)}
            yield {**kept, **call, "arguments": arguments_text(part)}
        elif isinstance(part, TextPart) and kept:
            yield {**kept, "content": [{"type": "output_text", "text": part.text, "annotations": []}]}
        elif isinstance(part, TextPart) and part.text.strip():
            yield {"role": "assistant", "content": part.text}
    yield from _taken((item for item in held if item.get("type") != "reasoning"), taken)


def _compacts(part: Part) -> bool:
    return isinstance(part, ReasoningPart) and bool(part.compacts)


def _is_taken(item: JsonObject, taken: set[str]) -> bool:
    return isinstance(item.get("id"), str) and item["id"] in taken


def _taken(items: Iterable[JsonObject], taken: set[str]) -> Iterator[JsonObject]:
    """Yield items, and add their ids to `taken`."""
    for item in items:
        if isinstance(item.get("id"), str):
            taken.add(item["id"])
        yield item


def _without_id(item: JsonObject, taken: set[str], *, is_parted: bool) -> JsonObject:
    """Return an item, without its id if an earlier one has that or its reasoning is not sent."""
    if is_parted or _is_taken(item, taken):
        return {name: value for name, value in item.items() if name != "id"}
    return item


def _own_item(part: Part, origin: Origin) -> JsonObject | None:
    """Return the item that a part was, where it came from the server and model that are asked."""
    item = (origin.own(part.provider_data) or {}).get("item")
    return item if isinstance(item, dict) else None

"""Requests in the form of Chat Completions, which more servers and libraries than OpenAI's take.

https://developers.openai.com/api/reference/resources/chat/subresources/completions/methods/create

Their answers are read by `afkcli.providers.chat_answer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    ModelRequest,
    Part,
    Role,
    TextPart,
    ToolResultPart,
    ToolSpec,
)
from afkcli.core.contract.structs import replace
from afkcli.core.thread.attachments import attached_parts
from afkcli.providers.attached import data_url
from afkcli.providers.chat_reasoning import reasoning_fields
from afkcli.providers.named_message import NamedMessage, index_in_request
from afkcli.providers.origin import Origin
from afkcli.providers.parts import (
    EMPTY_ANSWER,
    FILE_NAME,
    arguments_text,
    refuse_other_files,
    result_text,
    text_of,
    user_content,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire_ids import WireIds

OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
}
"""The portable options and the fields that they are sent in; the limit of the answer has more than one name."""

_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"})
_CALL_FIELDS = frozenset({"id", "type", "function"})
_FUNCTION_FIELDS = frozenset({"name", "arguments"})


def chat_messages(
    request: ModelRequest, names: ToolNames, origin: Origin, ids: WireIds | None = None, *, strict_roles: bool = False
) -> Iterator[JsonObject]:
    """Yield the messages of a request.

    The API takes results of tools as text only, so their images follow as a message of the user.

    Args:
        request: the request.
        names: its tool names.
        origin: the model and server that are asked: what they alone understand goes back to them.
        ids: the ids of calls, by default of the general form.
        strict_roles: whether the API refuses a message of the user directly after results of tools, as Mistral's does.

    Raises:
        ProviderError: `bad_request`, if one holds a file that is no PDF.
    """
    yield from in_turns(_messages(request, names, origin, ids or wire_ids(origin), strict_roles=strict_roles))


def in_turns(messages: Iterator[JsonObject]) -> Iterator[JsonObject]:
    """Yield the messages of a request with neighbouring ones of the user joined: chat templates refuse two in a row.

    There are two where the question before was not answered.

    Since: 0.2.
    """
    question: JsonObject | None = None
    for message in messages:
        is_question = message["role"] == "user"
        if question is not None:
            if is_question:
                question = {**question, "content": _joined_content(question["content"], message["content"])}
                continue
            yield question
            question = None
        if is_question:
            question = message
        else:
            yield message
    if question is not None:
        yield question


def _joined_content(first: str | list[JsonObject], second: str | list[JsonObject]) -> str | list[JsonObject]:
    if isinstance(first, str) and isinstance(second, str):
        return "\n\n".join(text for text in (first, second) if text.strip())
    return [*_as_parts(first), *_as_parts(second)]


def _as_parts(content: str | list[JsonObject]) -> list[JsonObject]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _messages(
    request: ModelRequest, names: ToolNames, origin: Origin, ids: WireIds, *, strict_roles: bool
) -> Iterator[JsonObject]:
    tool, assistant = Role.TOOL, Role.ASSISTANT
    for message in request.messages:
        role = message.role
        if role is tool:
            yield from _result_messages(request, message, names, ids, strict_roles=strict_roles)
        elif role is not assistant:
            yield {"role": role.value, "content": user_content(request, message, _part)}
        elif message.is_text:  # nearly every answer of a long thread
            yield _plain_answer(message.text)
        else:
            yield _assistant_message(message, names, origin, ids)


def _result_messages(
    request: ModelRequest, message: Message, names: ToolNames, ids: WireIds, *, strict_roles: bool
) -> Iterator[JsonObject]:
    """Yield the results of a step, each as text, then their images as one message of the user that names the calls."""
    images: list[JsonObject] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            continue
        wire_id = ids.of_result(part.id)
        yield {"role": "tool", "tool_call_id": wire_id, "content": result_text(part, "it follows after the results")}
        found = [_part(request, piece) for piece in part.parts if isinstance(piece, ImagePart)]
        if found:
            what = "The image" if len(found) == 1 else f"The {len(found)} images"
            line = f"{what} that the call {wire_id} of the tool {names.to_wire(part.name)} returned:"
            images += [{"type": "text", "text": line}, *found]
    if images and strict_roles:
        yield {"role": "assistant", "content": EMPTY_ANSWER}
    if images:
        yield {"role": "user", "content": images}


def chat_message_at(
    request: ModelRequest, names: ToolNames, origin: Origin, named: NamedMessage, *, strict_roles: bool = False
) -> int | None:
    """Return which message of `request` a server named, as `ProviderError.message_index` counts them; None if unsure.

    Google counts in its own form, which has no instructions among its `contents` and the results of a step in one.

    Since: 0.2.
    """
    if "messages" in request.extra:
        return None
    if named.field == "contents":
        sizes = [int(message.role is not Role.SYSTEM) + _has_result_images(message) for message in request.messages]
        return index_in_request(request.messages, _joined_sizes(request, sizes), named.position)
    alone = (replace(request, messages=[message]) for message in request.messages)
    each = [list(chat_messages(one, names, origin, strict_roles=strict_roles)) for one in alone]
    flat = list(chat_messages(request, names, origin, strict_roles=strict_roles))
    if named.field != "messages" or named.position >= len(flat):
        return None
    content = flat[named.position]["content"]
    if named.part is not None and not (isinstance(content, list) and named.part < len(content)):
        return None  # the path is that of another form, into which a gateway made the request
    return index_in_request(request.messages, _joined_sizes(request, map(len, each)), named.position)


def _has_result_images(message: Message) -> bool:
    return message.role is Role.TOOL and any(isinstance(part, ImagePart) for part in attached_parts([message]))


def _joined_sizes(request: ModelRequest, sizes: Iterable[int]) -> list[int]:
    """Return how many messages each becomes where questions in a row are one: all but the first become none."""
    roles = [None, *(message.role for message in request.messages)]
    return [0 if roles[n] is roles[n + 1] is Role.USER else size for n, size in enumerate(sizes)]


def without_opaque(body: JsonObject) -> tuple[JsonObject, list[str]]:
    """Return the body of a request without the fields that only some servers know, and the names of these.

    They are what a server sent beside the API's own fields, and gets back.
    """
    left_out: set[str] = set()

    def plain(value: JsonObject, known: frozenset[str]) -> JsonObject:
        left_out.update(value.keys() - known)
        return {name: item for name, item in value.items() if name in known}

    messages = []
    for sent in body.get("messages", ()):
        message = plain(sent, _MESSAGE_FIELDS)
        if "tool_calls" in message:
            calls = [plain(call, _CALL_FIELDS) for call in message["tool_calls"]]
            message["tool_calls"] = [{**call, "function": plain(call["function"], _FUNCTION_FIELDS)} for call in calls]
        messages.append(message)
    return ({**body, "messages": messages} if left_out else body), sorted(left_out)


def wire_ids(origin: Origin) -> WireIds:
    """Return the ids of a request to `origin`: its own go back as they are."""
    return WireIds(is_own=lambda call: origin.own(call.provider_data) is not None)


def _part(request: ModelRequest, part: Part) -> JsonObject:
    """Return the form of a part of a user's message."""
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": data_url(request, part)}}
    if isinstance(part, FilePart):
        refuse_other_files(part)
        return {"type": "file", "file": {"filename": part.name or FILE_NAME, "file_data": data_url(request, part)}}
    return {"type": "text", "text": part.text if isinstance(part, TextPart) else ""}


def _assistant_message(message: Message, names: ToolNames, origin: Origin, ids: WireIds) -> JsonObject:
    text = text_of(message)
    calls = []
    for call in message.tool_calls:
        own = (origin.own(call.provider_data) or {}).get("extra")
        extra = dict(own) if isinstance(own, dict) else {}
        signed = extra.pop("function", None)
        function = {"name": names.to_wire(call.name), "arguments": arguments_text(call)}
        function |= signed if isinstance(signed, dict) else {}
        calls.append({**extra, "id": ids.of_call(call), "type": "function", "function": function})
    if not calls:
        return _plain_answer(text)
    thought = reasoning_fields(message, origin)
    return {"role": "assistant", "content": text or None, **thought, "tool_calls": calls}


def _plain_answer(text: str) -> JsonObject:
    return {"role": "assistant", "content": text if text and not text.isspace() else EMPTY_ANSWER}


def chat_tool(tool: ToolSpec, names: ToolNames) -> JsonObject:
    """Return a tool as it is offered."""
    function = {"name": names.to_wire(tool.name), "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}

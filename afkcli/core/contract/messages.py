"""Messages and their parts, and the provider-neutral request and response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Literal, TypeAlias

from afkcli.core.contract.jsonform import Json, JsonError, JsonObject
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.core.contract.typed_json import from_json, one_of_from_json


class Role(StrEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(StrEnum):
    """Why the model stopped, in the words that OpenTelemetry's semantic conventions use."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class ProviderData(FrozenStruct, kw_only=True):
    """Opaque JSON of one provider and API: stored, never shown, sent back unchanged to them, dropped elsewhere."""

    provider: str
    api: str
    model: str
    payload: Json


class TextPart(FrozenStruct, kw_only=True):
    """A text."""

    text: str
    provider_data: ProviderData | None = None
    type: Literal["text"] = "text"


class ReasoningPart(FrozenStruct, kw_only=True):
    """A model's reasoning, as far as its provider shows it, and whatever else of an answer only that understands.

    `compacts` is True for a compaction: its `provider_data` stands for all messages before the one that it is in, for
    the provider, API and model that made it (since 0.2).
    """

    text: str
    provider_data: ProviderData | None = None
    compacts: bool | None = None
    type: Literal["reasoning"] = "reasoning"


class ToolCallPart(FrozenStruct, kw_only=True):
    """A call that the model asks for. `invalid_arguments` is what it sent where that was no JSON object."""

    id: str
    name: str
    arguments: JsonObject
    invalid_arguments: str | None = None
    provider_data: ProviderData | None = None
    type: Literal["tool_call"] = "tool_call"


class ToolResultPart(FrozenStruct, kw_only=True):
    """The outcome of the call `id`; paired with the `ToolCallPart` of the same id."""

    id: str
    name: str
    parts: tuple[Part, ...]
    is_error: bool = False
    provider_data: ProviderData | None = None
    type: Literal["tool_result"] = "tool_result"


class ImagePart(FrozenStruct, kw_only=True):
    """An image, stored by content hash (SHA-256, hex), never by path or URL."""

    sha256: str
    media_type: str
    size: int
    name: str | None = None
    provider_data: ProviderData | None = None
    type: Literal["image"] = "image"


class FilePart(FrozenStruct, kw_only=True):
    """A file, stored by content hash (SHA-256, hex), never by path or URL."""

    sha256: str
    media_type: str
    size: int
    name: str | None = None
    provider_data: ProviderData | None = None
    type: Literal["file"] = "file"


Part: TypeAlias = TextPart | ReasoningPart | ToolCallPart | ToolResultPart | ImagePart | FilePart


class Message(FrozenStruct, kw_only=True):
    """A message of a conversation: who it is from, and its parts."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def is_text(self) -> bool:
        """Whether it is one text part, as nearly every message of a long thread is. Since: 0.2."""
        return len(self.parts) == 1 and type(self.parts[0]) is TextPart

    @property
    def text(self) -> str:
        """The text parts, joined."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is TextPart:  # as `is_text`, without a call
            return parts[0].text
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is TextPart:  # as `is_text`, without a call
            return ()
        return tuple(part for part in parts if isinstance(part, ToolCallPart))


def text_message(role: Role, text: str) -> Message:
    """Return a message of one text part."""
    return Message(role=role, parts=(TextPart(text=text),))


def part_from_json(value: Json) -> Part:
    """Return the part whose JSON form is `value`; fields that are not known are ignored.

    Raises:
        JsonError: its type is unknown, or a field is missing or of a wrong type.
    """
    if type(value) is dict and len(value) == 2 and value.get("type") == "text" and type(value.get("text")) is str:
        return TextPart(text=value["text"])  # nearly every part of a thread, so it is worth a short way
    part: Part = one_of_from_json(Part, value)
    return part


def message_from_json(value: Json) -> Message:
    """Return the message whose JSON form is `value`; raises as `part_from_json`."""
    try:
        if type(parts := value["parts"]) is list:
            return Message(role=_ROLES[value["role"]], parts=tuple(map(part_from_json, parts)))
    except (JsonError, LookupError, TypeError):
        pass
    return from_json(Message, value)  # raises the error that says where


_ROLES = {role.value: role for role in Role}


class ToolSpec(FrozenStruct, kw_only=True):
    """A tool as it is described to a model: `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: JsonObject


def no_content(sha256: str) -> bytes:
    """The `ModelRequest.content` of a request without attachments."""
    raise KeyError(sha256)


class ModelRequest(FrozenStruct, kw_only=True):
    """One model call.

    `model` is the name without the provider. `options` are the typed, portable ones (`temperature`, `top_p`,
    `max_output_tokens`, `stop`, `seed`); `extra` goes to the provider's API as it is. `output_schema` is the JSON
    Schema that the answer's text has to fit, where one is wanted. `content` gives the bytes of an `image` or `file`
    part by its `sha256`; `KeyError` where they are gone. `native_context_from` is the size in tokens from which the
    server is asked to shorten the conversation by itself; None if it is not asked (since 0.2).
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    options: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    output_schema: JsonObject | None = None
    content: Callable[[str], bytes] = no_content
    native_context_from: int | None = None


class TextDelta(FrozenStruct):
    text: str


class ReasoningDelta(FrozenStruct):
    text: str


class ToolCallDelta(FrozenStruct):
    """A piece of the arguments of the call `id`; the first piece may be empty and announces the call."""

    id: str
    name: str
    arguments: str


class OpaqueDelta(FrozenStruct):
    """So many bytes came that belong to the answer and are not shown: a signature, encrypted reasoning.

    A provider that collects such data yields this for each piece, so that the run counts it while it grows. The data
    itself comes with the `ModelResponse`. Since: 0.2.
    """

    size: int


class ModelWarning(FrozenStruct):
    """Something that the user should know of this call and that does not end it."""

    code: str
    message: str


class ContextEdit(FrozenStruct, kw_only=True):
    """What a server by itself did not show to the model of a request.

    Args:
        what: in words, as `12 tool results`.
        tokens: the size of it, as the server counted it; None if it did not say.

    Since: 0.2.
    """

    what: str
    tokens: int | None = None


class ModelResponse(FrozenStruct):
    """The end marker of a call, always last: without it the stream counts as truncated.

    `message` is the assistant's message in full, with the provider's own data; `model` the name the server answered
    with. `context_tokens` is the size of the conversation with this answer, where `usage` says more or less than that,
    because the server made a compaction in the call; `edits` is what it left out (both since 0.2).
    """

    message: Message
    finish_reason: FinishReason
    usage: Usage | None = None
    model: str | None = None
    context_tokens: int | None = None
    edits: tuple[ContextEdit, ...] = ()


ModelEvent: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | OpaqueDelta | ModelWarning | ModelResponse

"""What both APIs need of messages: texts of parts, and tool arguments between JSON text and objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from afkcli.core.errors import ErrorKind, ProviderError
from afkcli.core.jsonform import Json, JsonError, JsonObject, dumps, loads_object
from afkcli.core.messages import FilePart, ImagePart, Message, Part, TextPart, ToolCallPart, ToolResultPart

INVALID_ARGUMENTS = "invalid_arguments"


def text_of(message: Message) -> str:
    """Return the text of a message.

    Raises:
        ProviderError: `bad_request`, if it holds an image or a file.
    """
    _refuse_attachments(message.parts)
    return message.text


def result_text(part: ToolResultPart) -> str:
    """Return the outcome of a tool as the model is to read it; neither API has a field that marks an error."""
    _refuse_attachments(part.parts)
    text = "".join(piece.text for piece in part.parts if isinstance(piece, TextPart))
    return f"Error: {text}" if part.is_error else text


def arguments_text(call: ToolCallPart) -> str:
    """Return the arguments of a call as JSON text; what was no JSON goes back wrapped, because servers parse it."""
    if call.invalid_arguments is not None:
        return dumps({INVALID_ARGUMENTS: call.invalid_arguments})
    return dumps(call.arguments)


def tool_call(id: str, name: str, arguments: str, **fields: Any) -> ToolCallPart:  # noqa: A002  (the part's own name)
    """Return the call for a model's argument text, which may be empty or no JSON object at all."""
    try:
        return ToolCallPart(id=id, name=name, arguments=loads_object(arguments or "{}"), **fields)
    except JsonError:
        return ToolCallPart(id=id, name=name, arguments={}, invalid_arguments=arguments, **fields)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def decode_event(data: str) -> JsonObject:
    """Return the JSON object of one event; `ValueError` if it is none.

    This is on the path of every delta, so it does without the checks of `afkcli.core.jsonform.loads`: the texts taken
    out of an event are cleaned one by one.
    """
    try:
        value = _decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def count(usage: Mapping[str, Json], *path: str) -> int:
    """Return the token count at `path` in a usage object; 0 where a server leaves it out."""
    value: Json = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else 0


def _refuse_attachments(parts: Iterable[Part]) -> None:
    for part in parts:
        if isinstance(part, (ImagePart, FilePart)):
            raise ProviderError(
                f"the openai provider cannot send the {part.type} {part.name or part.sha256[:12]!r}; leave it out",
                kind=ErrorKind.BAD_REQUEST,
            )

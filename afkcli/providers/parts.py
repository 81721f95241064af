"""What APIs that take text need of messages: texts of parts, and tool arguments as JSON text."""

from __future__ import annotations

from collections.abc import Iterable

from afkcli.core.errors import ErrorKind, ProviderError
from afkcli.core.jsonform import dumps
from afkcli.core.messages import FilePart, ImagePart, Message, Part, TextPart, ToolCallPart, ToolResultPart
from afkcli.providers.wire import sent_arguments


def text_of(message: Message) -> str:
    """Return the text of a message.

    Raises:
        ProviderError: `bad_request`, if it holds an image or a file.
    """
    _refuse_attachments(message.parts)
    return message.text


def result_text(part: ToolResultPart) -> str:
    """Return the outcome of a tool as the model is to read it, for an API that has no field that marks an error."""
    _refuse_attachments(part.parts)
    text = "".join(piece.text for piece in part.parts if isinstance(piece, TextPart))
    return f"Error: {text}" if part.is_error else text


def arguments_text(call: ToolCallPart) -> str:
    """Return the arguments of a call as JSON text."""
    return dumps(sent_arguments(call))


def _refuse_attachments(parts: Iterable[Part]) -> None:
    for part in parts:
        if isinstance(part, (ImagePart, FilePart)):
            raise ProviderError(
                f"this provider cannot send the {part.type} {part.name or part.sha256[:12]!r}; leave it out",
                kind=ErrorKind.BAD_REQUEST,
            )

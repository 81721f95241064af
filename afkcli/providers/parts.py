"""What APIs of OpenAI's kind need of messages: texts of parts, what is attached, and tool arguments as JSON text."""

from __future__ import annotations

from collections.abc import Callable

from afkcli.core.contract.jsonform import JsonObject, dumps
from afkcli.core.contract.media_types import PDF
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    ModelRequest,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from afkcli.core.thread.attachments import note_for_model
from afkcli.providers.attached import cannot_send
from afkcli.providers.wire import sent_arguments

EMPTY_RESULT = "(no output)"
"""The text for the result of a tool that returned nothing; strict servers refuse an empty text."""

EMPTY_ANSWER = "(no text)"
"""The text for an answer without text, so that questions and answers still alternate."""

FILE_NAME = "file.pdf"
"""What a PDF without a name is called; the APIs want one."""


def text_of(message: Message) -> str:
    """Return the text of a message in which nothing may be attached.

    Raises:
        ProviderError: `bad_request`, if there is.
    """
    if not message.is_text:
        for part in message.parts:
            if isinstance(part, (ImagePart, FilePart)):
                raise cannot_send(part)
    return message.text


def user_content(
    request: ModelRequest, message: Message, form_of: Callable[[ModelRequest, Part], JsonObject]
) -> str | list[JsonObject]:
    """Return what a user's message holds: its text, or a list of parts in the form of the API where it has more.

    Args:
        request: has the contents of what is attached.
        message: the message.
        form_of: returns the API's form of a part.

    Raises:
        ProviderError: `bad_request`, if something attached has no form in the API.
    """
    if message.is_text or not any(isinstance(part, (ImagePart, FilePart)) for part in message.parts):
        return message.text
    return [form_of(request, part) for part in message.parts]


def refuse_other_files(part: FilePart) -> None:
    """Raise `ProviderError` if a file is not a PDF."""
    if part.media_type != PDF:
        raise cannot_send(part)


def result_text(part: ToolResultPart, image_note: str = "results of tools are sent as text") -> str:
    """Return the outcome of a tool as the model is to read it, for an API that has no field that marks an error.

    Args:
        part: the result.
        image_note: what becomes of an image, which is not in the text; the model gets a note that there is one.
    """
    texts = [_text_in_result(piece, image_note) for piece in part.parts]
    text = "\n".join(text for text in texts if text.strip()) or EMPTY_RESULT
    return f"Error: {text}" if part.is_error else text


def _text_in_result(part: Part, image_note: str) -> str:
    if isinstance(part, ImagePart):
        return note_for_model(part, image_note).text.strip()
    if isinstance(part, FilePart):
        return note_for_model(part, "results of tools are sent as text").text.strip()
    return part.text if isinstance(part, TextPart) else ""


def arguments_text(call: ToolCallPart) -> str:
    """Return the arguments of a call as JSON text."""
    return dumps(sent_arguments(call))

"""A conversation as plain text, in pieces of a bounded size, for the model that summarises it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

MOST_OF_RESULT = 2_000
"""The characters of one tool result that a summary is made of; the rest of a long one is rarely of use later."""
_MOST_OF_ARGUMENTS = 500
_SPEAKERS = {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.SYSTEM: "System"}


def turn_text(number: int, messages: Sequence[Message]) -> str:
    """Return the messages of a turn as text, without reasoning; attachments by their names, long results shortened."""
    lines = [line for message in messages for part in message.parts if (line := _line(message.role, part))]
    return "\n".join([f"[Turn {number}]", *lines])


def pieces(texts: Iterable[str], most: int) -> Iterator[str]:
    """Yield the texts joined to pieces of at most `most` bytes; a text that is longer loses its middle."""
    piece: list[str] = []
    size = 0
    for text in texts:
        text = without_middle(text, most)
        length = _size(text) + 2
        if piece and size + length > most:
            yield "\n\n".join(piece)
            piece, size = [], 0
        piece.append(text)
        size += length
    if piece:
        yield "\n\n".join(piece)


def without_middle(text: str, most: int) -> str:
    """Return a text of at most `most` bytes and a few: one that is longer without its middle, which a note names."""
    size = _size(text)
    if size <= most:
        return text
    data = text.encode("utf-8", "surrogatepass")
    begin, end = data[: most * 2 // 3], data[size - most // 3 :]
    note = f" [{size - len(begin) - len(end):,} bytes left out] "
    return begin.decode("utf-8", "ignore") + note + end.decode("utf-8", "ignore")


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _line(role: Role, part: Part) -> str:
    if isinstance(part, ReasoningPart) or (isinstance(part, TextPart) and not part.text.strip()):
        return ""
    if isinstance(part, TextPart):
        return f"{_SPEAKERS.get(role, 'Tool')}: {part.text}"
    if isinstance(part, ToolCallPart):
        arguments = part.invalid_arguments if part.invalid_arguments is not None else dumps(part.arguments)
        return f"Assistant called {part.name} {without_middle(arguments, _MOST_OF_ARGUMENTS)}"
    if isinstance(part, ToolResultPart):
        said = " ".join(_result_text(inner) for inner in part.parts)
        return f"{'Error' if part.is_error else 'Result'} of {part.name}: {without_middle(said, MOST_OF_RESULT)}"
    return f"{_SPEAKERS.get(role, 'Tool')}: {_attachment(part)}"


def _result_text(part: Part) -> str:
    if isinstance(part, (ImagePart, FilePart)):
        return _attachment(part)
    return part.text if isinstance(part, TextPart) else ""


def _attachment(part: ImagePart | FilePart) -> str:
    return f"[attached {part.type}{f' {part.name}' if part.name else ''}, {part.media_type}, {part.size:,} bytes]"

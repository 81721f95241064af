"""What a server answers to a call, as the texts and images that the model is given."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from afkcli.plugin import Image, JsonError, bounded, dumps, image_type_of, loads, one_line

if TYPE_CHECKING:
    from mcp_types import CallToolResult

_NAME_CHARS = 200

_DATA_URL = re.compile(r"\s*data:[^,]{0,200};base64,")
"""What some servers send before the base64, although the protocol has the base64 alone."""

Piece = str | Image


def result_pieces(result: CallToolResult, max_output: int) -> list[Piece]:
    """Return the texts and images of a result.

    Sound and the like become a short mark. Structured content becomes JSON, where no text says the same already, as
    the protocol asks servers to have it.

    Args:
        result: the result.
        max_output: the most characters of text; longer texts are cut in the middle.
    """
    pieces = [piece for part in result.content for piece in _pieces(part) if piece]
    structured = result.structured_content
    if structured is not None and not any(
        _says(part.text, structured) for part in result.content if part.type == "text"
    ):
        pieces.append(_json(structured))
    if not any(isinstance(piece, Image) for piece in pieces):
        return [bounded("\n".join(map(str, pieces)), max_output)]
    return _bounded(pieces, max_output)


def text_of(pieces: Sequence[Piece]) -> str:
    """Return pieces as text, for an error, which has no images: a mark is in the place of each."""
    return "\n".join(piece if isinstance(piece, str) else _image_mark(piece) for piece in pieces)


def _bounded(pieces: Sequence[Piece], limit: int) -> list[Piece]:
    """Return pieces with their texts cut to `limit` characters together, each by the same share."""
    total = sum(len(piece) for piece in pieces if isinstance(piece, str))
    if total <= limit:
        return list(pieces)
    return [
        bounded(piece, max(2, len(piece) * limit // total)) if isinstance(piece, str) else piece for piece in pieces
    ]


def _json(value: Any) -> str:
    try:
        return dumps(value)
    except JsonError:  # NaN, or nested too deeply
        return str(value)


def _says(text: str, structured: Any) -> bool:
    """Whether a text has the same value as JSON; servers wrap a bare value, in `result` or by another name."""
    wrapped = next(iter(structured.values())) if isinstance(structured, dict) and len(structured) == 1 else None
    if wrapped is not None and str(wrapped) == text:
        return True
    try:
        return loads(text) in (structured, *([] if wrapped is None else [wrapped]))
    except JsonError:
        return False


def _pieces(part: Any) -> Iterator[Piece]:
    match part.type:
        case "text":
            yield str(part.text)
        case "image":
            data = _decoded(part.data)
            mark = _mark("image", part.mime_type, f"{_bytes_of(part.data)} bytes", "not in base64")
            yield mark if data is None else Image(data, part.mime_type)
        case "audio":
            yield _mark("audio", part.mime_type, f"{_bytes_of(part.data)} bytes")
        case "resource_link":
            yield _mark("resource", str(part.uri), part.mime_type, None if part.size is None else f"{part.size} bytes")
        case "resource":
            yield from _resource_pieces(part.resource)
        case _:
            yield _mark(str(part.type))


def _resource_pieces(resource: Any) -> Iterator[Piece]:
    """Yield what an embedded resource is, and what is in it: text, or an image."""
    text = getattr(resource, "text", None)
    size = _bytes_of(resource.blob) if text is None else len(text.encode("utf-8", "replace"))
    mark = _mark("resource", str(resource.uri), resource.mime_type, f"{size} bytes")
    if text is not None:
        yield f"{mark}\n{text}"
        return
    yield mark
    data = _decoded(resource.blob)
    if data is not None and image_type_of(data) is not None:
        yield Image(data, resource.mime_type or "", str(resource.uri))


def _decoded(base64_text: str) -> bytes | None:
    """Return what a base64 text encodes, None if it is not base64; line breaks in it and a missing end are taken."""
    text = "".join(_DATA_URL.sub("", base64_text, count=1).split()).rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except Base64Error:
        return None


def _image_mark(image: Image) -> str:
    return _mark("image", image.media_type, f"{len(image.data)} bytes")


def _mark(*words: str | None) -> str:
    return f"[{', '.join(one_line(word)[:_NAME_CHARS] for word in words if word)}]"


def _bytes_of(base64_text: str) -> int:
    """Return the number of bytes that a base64 text encodes."""
    return max(0, len(base64_text) * 3 // 4 - base64_text[-2:].count("="))

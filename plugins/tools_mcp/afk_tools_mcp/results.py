"""What a server answers to a call, as the text that the model is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afkcli.plugin import JsonError, dumps, loads, one_line

if TYPE_CHECKING:
    from mcp_types import CallToolResult

_NAME_CHARS = 200


def result_text(result: CallToolResult) -> str:
    """Return the texts of a result; images and the like as a short mark; its structured content as JSON, where no text
    says the same already, as the protocol asks servers to have it."""
    parts = [text for text in map(_part_text, result.content) if text]
    structured = result.structured_content
    if structured is not None and not any(
        _says(part.text, structured) for part in result.content if part.type == "text"
    ):
        parts.append(_json(structured))
    return "\n".join(parts)


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


def _part_text(part: Any) -> str:
    match part.type:
        case "text":
            return str(part.text)
        case "image" | "audio":
            return _mark(part.type, part.mime_type, f"{_bytes_of(part.data)} bytes")
        case "resource_link":
            return _mark("resource", str(part.uri), part.mime_type, None if part.size is None else f"{part.size} bytes")
        case "resource":
            return _resource_text(part.resource)
    return _mark(str(part.type))


def _resource_text(resource: Any) -> str:
    text = getattr(resource, "text", None)
    size = _bytes_of(resource.blob) if text is None else len(text.encode("utf-8", "replace"))
    mark = _mark("resource", str(resource.uri), resource.mime_type, f"{size} bytes")
    return mark if text is None else f"{mark}\n{text}"


def _mark(*words: str | None) -> str:
    return f"[{', '.join(one_line(word)[:_NAME_CHARS] for word in words if word)}]"


def _bytes_of(base64_text: str) -> int:
    """Return the number of bytes that a base64 text encodes."""
    return max(0, len(base64_text) * 3 // 4 - base64_text[-2:].count("="))

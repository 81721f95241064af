"""`messages` of a prompt, in the forms in which people have them: those of Chat Completions, Responses and Messages.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from afkcli.batch.attachments import AttachmentReader
from afkcli.batch.rows import RowError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.text import collapsed

_SYSTEM = ("system", "developer")
_IGNORED = frozenset({"role", "content", "name", "type", "status", "id", "refusal", "annotations", "cache_control"})
"""Keys of a message that change nothing here, or only if they have a value."""


class Conversation(NamedTuple):
    """What `messages` say: the instructions, the messages before the last one, and the last one of the user."""

    instructions: str | None
    history: list[JsonObject]
    message: str
    attachments: list[JsonObject]


def read_conversation(messages: Any, attachments: AttachmentReader) -> Conversation:
    """Return the conversation in `messages`.

    Messages of one role that follow each other become one, with an empty line between their texts. System messages come
    first.

    Raises:
        RowError: a message has another role or contents that cannot be sent, or the last one is not the user's.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise RowError("'messages' must be a list of objects with 'role' and 'content'")
    system: list[str] = []
    merged: list[JsonObject] = []
    for number, message in enumerate(messages, 1):
        role, text, attached = _message(message, number, attachments)
        if role in _SYSTEM:
            if merged:
                raise RowError(f"message {number} has the role {role!r}, which must come before all others")
            system.append(text)
        elif merged and merged[-1]["role"] == role:
            merged[-1]["text"] = "\n\n".join(part for part in (merged[-1]["text"], text) if part)
            merged[-1]["attachments"] += attached
        else:
            merged.append({"role": role, "text": text, "attachments": attached})
    _check_order(merged)
    last = merged.pop()
    history = [item if item["attachments"] else {"role": item["role"], "text": item["text"]} for item in merged]
    return Conversation("\n\n".join(filter(None, system)) or None, history, last["text"], last["attachments"])


def _check_order(merged: list[JsonObject]) -> None:
    if not merged:
        raise RowError("'messages' has no message of the user")
    if merged[0]["role"] != "user":
        raise RowError("the first message after the system message must be the user's")
    if merged[-1]["role"] != "user":
        raise RowError("the last message must be the user's; an answer that is already there cannot be continued")


def _message(message: Any, number: int, attachments: AttachmentReader) -> tuple[str, str, list[JsonObject]]:
    """Return the role, the text and the attachments of a message."""
    if not isinstance(message, dict):
        raise RowError(f"message {number} must be an object with 'role' and 'content'")
    role = message.get("role")
    if role not in ("user", "assistant", *_SYSTEM):
        known = "system, developer, user, assistant"
        raise RowError(
            f"message {number} has the role {_brief(role)}; known: {known}{_TOOLS if _is_tool(role) else ''}"
        )
    more = next((key for key, value in message.items() if key not in _IGNORED and value not in (None, [], {})), None)
    if more is not None:
        raise RowError(f"message {number} has {more!r}, which cannot be sent{_TOOLS if 'tool' in more else ''}")
    content = message.get("content")
    if isinstance(content, str):
        return role, content, []
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list):
        raise RowError(f"message {number} must have a 'content' that is a text or a list of parts")
    texts: list[str] = []
    attached: list[JsonObject] = []
    for part in parts:
        _part(part, number, role, texts, attached, attachments)
    return role, "\n\n".join(filter(None, texts)), attached


_TOOLS = " (messages with tool calls cannot be sent; name tools with --tool)"


def _is_tool(role: object) -> bool:
    return role in ("tool", "function")


def _part(
    part: Any, number: int, role: str, texts: list[str], attached: list[JsonObject], attachments: AttachmentReader
) -> None:
    """Add one part of a message to its texts or to what it attaches."""
    if isinstance(part, str):
        texts.append(part)
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        texts.append(part["text"])
        return
    reader = _PARTS.get(str(kind))
    if reader is None:
        tools = _TOOLS if "tool" in str(kind) else ""
        raise RowError(f"message {number} has a part of the type {_brief(kind)}, which cannot be sent{tools}")
    if role != "user":
        raise RowError(f"message {number} of the {role} has {_brief(kind)}; only the user's messages may have any")
    try:
        attached.append(reader(part, attachments))
    except RowError as error:
        raise RowError(f"message {number}: {error}") from None


def _image_url(part: Mapping[str, Any], attachments: AttachmentReader) -> JsonObject:
    """The image of Chat Completions (`{"url": ...}`) or of Responses (a text)."""
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str) or not url:
        raise RowError("an image needs a URL; files that were uploaded to a provider cannot be named")
    return attachments.read({"url": url})[0]


def _file(part: Mapping[str, Any], attachments: AttachmentReader) -> JsonObject:
    """The file of Chat Completions (within `file`) or of Responses."""
    file = part.get("file") if isinstance(part.get("file"), dict) else part
    assert isinstance(file, Mapping)
    data, name = file.get("file_data") or file.get("file_url"), file.get("filename")
    if not isinstance(data, str) or not data:
        raise RowError("a file needs 'file_data'; files that were uploaded to a provider cannot be named")
    named = {"name": name} if isinstance(name, str) and name else {}
    return attachments.read({"data" if "://" not in data[:12] else "url": data, **named})[0]


def _source(part: Mapping[str, Any], attachments: AttachmentReader) -> JsonObject:
    """The image or document of Messages."""
    source = part.get("source")
    source = source if isinstance(source, dict) else {}
    title = part.get("title")
    named = {"name": title} if isinstance(title, str) and title else {}
    value = source.get("url") or source.get("data")
    if source.get("type") not in ("base64", "url", "text") or not isinstance(value, str) or not value:
        raise RowError("it needs a 'source' of the type base64, url or text")
    if source["type"] == "text":
        return attachments.of_data(value.encode(), named.get("name", "document"))
    return attachments.read({"url" if source["type"] == "url" else "data": value, **named})[0]


_PARTS: Mapping[str, Callable[[Mapping[str, Any], AttachmentReader], JsonObject]] = {
    "image_url": _image_url,
    "input_image": _image_url,
    "image": _source,
    "document": _source,
    "file": _file,
    "input_file": _file,
}


def _brief(value: object) -> str:
    return repr(collapsed(str(value), 40)) if value is not None else "None"

"""Messages in the form that the conventions give them, for those who let content be sent.

Keys that afk knows are masked here too: events have what a user and a model wrote as it is, and it leaves the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afkcli.plugin import mask_secrets

if TYPE_CHECKING:
    from afkcli.plugin import Message, Part


def text_content(role: str, text: str) -> dict[str, Any]:
    """Return a message of one text."""
    return {"role": role, "parts": [{"type": "text", "content": mask_secrets(text)}]}


def message_content(message: Message) -> dict[str, Any]:
    """Return a message with its parts; what a provider wants back unread is left out."""
    return {"role": message.role.value, "parts": [_part(part) for part in message.parts]}


def result_content(call_id: str, output: str) -> dict[str, Any]:
    """Return the message of a tool's result."""
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": mask_secrets(output)}]}


def masked(value: Any) -> Any:
    """Return JSON with the keys that afk knows masked in its texts."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, dict):
        return {masked(name): masked(item) for name, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value


def _part(part: Part) -> dict[str, Any]:
    if part.type == "text" or part.type == "reasoning":
        return {"type": part.type, "content": mask_secrets(part.text)}
    if part.type == "tool_call":
        return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": masked(part.arguments)}
    if part.type == "tool_result":
        return {"type": "tool_call_response", "id": part.id, "response": [_part(inner) for inner in part.parts]}
    return {"type": "attachment", "mime_type": part.media_type, "sha256": part.sha256, "size": part.size}

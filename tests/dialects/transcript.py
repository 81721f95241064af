"""Conversations in one form, whatever API they were sent in and however the store keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.dialects.dialect import Api

_CUT_MARK = re.compile(r"\[This answer was cut off here: .*?\]", re.DOTALL)


def sent(api: Api, body: Mapping[str, Any]) -> list[str]:
    """Return the conversation of a request: a line for each text, call and result."""
    lines: list[str] = []
    for line in _READERS[api](body):
        if line == "assistant: [cut]":  # the mark may be a message of its own
            lines[-1] += "[cut]"
        else:
            lines.append(line)
    return lines


def stored(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the messages of a stored turn in the same form."""
    lines = []
    for message in messages:
        for part in message["parts"]:
            if part["type"] == "tool_call":
                lines.append(_call(part["name"], part["arguments"]))
            elif part["type"] == "tool_result":
                lines.append(_line("result", "".join(inner["text"] for inner in part["parts"])))
            elif part["type"] == "reasoning":
                lines += [_line("reasoning", part["text"])] if part["text"] else []
            else:
                lines.append(_line(message["role"], part["text"]))
    return lines


def _chat(body: Mapping[str, Any]) -> Iterable[str]:
    for message in body["messages"]:
        role = "result" if message["role"] == "tool" else message["role"]
        text = _text(message.get("content") or "")
        # Questions in a row are one message.
        for piece in text.split("\n\n") if role == "user" else [text]:
            if piece:
                yield _line(role, piece)
        for call in message.get("tool_calls", ()):
            yield _call(call["function"]["name"], json.loads(call["function"]["arguments"]))


def _responses(body: Mapping[str, Any]) -> Iterable[str]:
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "function_call":
            yield _call(item["name"], json.loads(item["arguments"]))
        elif kind == "function_call_output":
            yield _line("result", _text(item["output"]))
        elif kind == "message":
            yield _line(item["role"], _text(item["content"]))


def _messages(body: Mapping[str, Any]) -> Iterable[str]:
    yield _line("system", _text(body.get("system", "")))
    for message in body["messages"]:
        content = message["content"]
        blocks: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "tool_use":
                yield _call(block["name"], block["input"])
            elif block["type"] == "tool_result":
                yield _line("result", _text(block["content"]))
            elif block["type"] == "text":
                yield _line(message["role"], block["text"])


def _text(content: str | Iterable[Mapping[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"call: {name.replace('__', '.')} {json.dumps(arguments)}"


def _line(role: str, text: str) -> str:
    text = text.partition("\n\n")[0] if role == "system" else text  # below are afk's own words on tools
    return f"{role}: {_CUT_MARK.sub('[cut]', text)}"


_READERS = {Api.CHAT: _chat, Api.RESPONSES: _responses, Api.MESSAGES: _messages}

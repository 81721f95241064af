"""Reasoning in Chat Completions, and the opaque data that has to come back with the tool calls of a step.

The API has no form for it, so servers have their own. A step with tool calls is sent back with what came with it:

- `reasoning_content` (DeepSeek, Moonshot, vLLM) and `reasoning` (OpenRouter, Groq) are plain text;
- `reasoning_details` (OpenRouter) are blocks, some of them signed or encrypted;
- `thinking_blocks` (LiteLLM's proxy in front of Claude) are blocks with signatures;
- `extra_content` (Google) has a signature on the message, or on a call (see `tool_call_pieces`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from afkcli.core.contract.growing import GrowingText
from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.messages import Message, ProviderData, ReasoningPart
from afkcli.providers.origin import Origin
from afkcli.providers.wire import json_size, replace_values

MAX_PIECES = 10_000
"""Of blocks that are kept for the server, which have no other limit of their number."""

_FIELDS = ("reasoning_content", "reasoning")
_THINKING = ("thinking", "reasoning")
_LISTS = ("reasoning_details", "thinking_blocks")
_EXTRA = "extra_content"
_OPAQUE = ("data", "signature")
_JOINED = ("text", "summary", "data", "thinking")
"""The fields of a block whose pieces are joined; of any other field the last value counts."""


class ReasoningPieces:
    """Takes the deltas of an answer, and keeps what has to go back with its tool calls.

    `unshown` counts the pieces of it that are not text, such as signatures. `kept` is the size in bytes of what is kept
    for the server, about as it will be stored.

    Since: 0.2.
    """

    def __init__(self) -> None:
        self.unshown = 0
        self.kept = 0
        self._field: str | None = None
        self._blank_field: str | None = None
        self._details: list[_Block] = []
        self._blocks: list[_Block] = []
        self._extra: JsonObject = {}

    def take(self, delta: JsonObject, *, is_whole: bool = False) -> str:
        """Return the text of the reasoning in a delta, or in a whole message; `ValueError` for too many blocks."""
        name = next((name for name in _FIELDS if _text(delta.get(name))), None)
        texts = [_text(delta.get(name)) if name is not None else thinking_in(delta.get("content"))]
        if name is not None:
            self._field = self._field or name
        elif self._blank_field is None:  # DeepSeek wants it back with calls even where the model did not think
            self._blank_field = next((name for name in _FIELDS if delta.get(name) == ""), None)
        details = list(_objects(delta.get("reasoning_details")))
        for n, piece in enumerate(details):
            self.kept += _add_detail(self._details, piece, is_new=is_whole or (n > 0 and piece.get("index") is None))
        texts.append("".join(_text(piece.get("text")) or _text(piece.get("summary")) for piece in details))
        blocks = list(_blocks_in(delta))
        for piece in blocks:
            self.kept += _add_block(self._blocks, piece)
        texts.append("".join(_text(piece.get("thinking")) for piece in blocks))
        if len(self._details) + len(self._blocks) > MAX_PIECES:
            raise ValueError(f"more than {MAX_PIECES} blocks of reasoning")
        self.unshown += sum(any(_text(piece.get(name)) for name in _OPAQUE) for piece in (*details, *blocks))
        self._add_extra(delta.get(_EXTRA))
        return next((text for text in texts if text), "")

    def data(self, origin: Origin) -> ProviderData | None:
        """Return what a step with calls is stored with, None where nothing has to go back."""
        payload: JsonObject = {}
        if field := self._field or self._blank_field:
            payload["field"] = field
        if self._details:
            payload["details"] = [block.whole() for block in self._details]
        whole = [block.whole() for block in self._blocks]
        blocks = [block for block in whole if block.get("signature") or block.get("type") != "thinking"]
        if blocks:
            payload["blocks"] = blocks
        if self._extra:
            payload["extra"] = self._extra
        return origin.data(**payload) if payload else None

    def _add_extra(self, extra: Json) -> None:
        """Keep Google's data of a message, but for the mark that its text is a thought."""
        for name, value in extra.items() if isinstance(extra, dict) else ():
            kept = {key: item for key, item in value.items() if key != "thought"} if isinstance(value, dict) else value
            if isinstance(kept, dict) and isinstance(self._extra.get(name), dict):
                self.kept += replace_values(self._extra[name], kept)
            elif kept:
                self.kept += replace_values(self._extra, {name: kept})


def reasoning_fields(message: Message, origin: Origin) -> JsonObject:
    """Return the fields that give the reasoning of a step with calls back to where it came from.

    Since: 0.2.
    """
    fields: JsonObject = {}
    for part in message.parts:
        own = origin.own(part.provider_data) if isinstance(part, ReasoningPart) else None
        if own is None or not isinstance(part, ReasoningPart):
            continue
        if isinstance(own.get("field"), str):
            fields[own["field"]] = fields.get(own["field"], "") + part.text
        for name, value in zip(_LISTS, (own.get("details"), own.get("blocks")), strict=True):
            if isinstance(value, list):
                fields[name] = [*fields.get(name, ()), *value]
        if isinstance(own.get("extra"), dict):
            fields[_EXTRA] = own["extra"]
    return fields


def is_thought(delta: Mapping[str, Json]) -> bool:
    """Return whether Google's compatible API marks the content of a delta as a thought.

    Where a request asks for thoughts (`include_thoughts`), they come as content with this mark, between the tags
    `<thought>` and `</thought>`. The closing tag may come with the answer, without the mark.

    Since: 0.2.
    """
    extra = delta.get(_EXTRA)
    google = extra.get("google") if isinstance(extra, dict) else None
    return isinstance(google, dict) and google.get("thought") is True


def joined_content(content: Json) -> str:
    """Return the text of a content, which some servers send as a list of parts. Since: 0.2."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return "" if content.get("type") in _THINKING else joined_content(content.get("text") or content.get("value"))
    return "".join(map(joined_content, content)) if isinstance(content, list) else ""


def thinking_in(content: Json) -> str:
    """Return the reasoning in a content that comes as a list of parts, as Mistral's does. Since: 0.2."""
    parts = _objects(content)
    thoughts = (part.get("thinking") or part.get("text") for part in parts if part.get("type") in _THINKING)
    return "".join(map(joined_content, thoughts))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: Json) -> Iterator[JsonObject]:
    yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


class _Block:
    """A block of reasoning while it comes in."""

    def __init__(self, start: JsonObject) -> None:
        self.fields = dict(start)
        self._texts: dict[str, GrowingText] = {}

    def get(self, name: str) -> Json:
        """Return the value of a field whose pieces are not joined."""
        return self.fields.get(name)

    def add(self, piece: JsonObject) -> int:
        """Take a piece of the block, and return by how many bytes it grew, about."""
        texts = {name: value for name, value in piece.items() if name in _JOINED and isinstance(value, str)}
        size = 0
        for name, value in texts.items():
            if name not in self._texts:
                self._texts[name] = GrowingText(_text(self.fields.get(name)))
                self.fields.setdefault(name, "")
            self._texts[name].append(value)
            size += len(value)
        others = {name: value for name, value in piece.items() if name not in texts and value is not None}
        return size + replace_values(self.fields, others)

    def whole(self) -> JsonObject:
        """Return the block with all its pieces."""
        return {**self.fields, **{name: str(text) for name, text in self._texts.items()}}


def _add_detail(details: list[_Block], piece: JsonObject, *, is_new: bool) -> int:
    """Add a piece of OpenRouter's `reasoning_details`: text of the same block is joined, other things come whole.

    Return by how many bytes that grew.
    """
    last = details[-1] if details and not is_new else None
    if last is None or any(last.get(name) != piece.get(name) for name in ("type", "index")) or _differ(last, piece):
        return _new_block(details, piece)
    return last.add(piece)


def _new_block(blocks: list[_Block], start: JsonObject) -> int:
    blocks.append(_Block(start))
    return json_size(start)


def _differ(last: _Block, piece: JsonObject) -> bool:
    return None not in (last.get("id"), piece.get("id")) and last.get("id") != piece["id"]


def _blocks_in(delta: JsonObject) -> Iterator[JsonObject]:
    """Yield the thinking blocks of a delta, which LiteLLM sends in two places, and its older versions in the second."""
    other = delta.get("provider_specific_fields")
    inner = other.get("thinking_blocks") if isinstance(other, dict) else None
    yield from _objects(delta.get("thinking_blocks") or inner)


def _add_block(blocks: list[_Block], piece: JsonObject) -> int:
    """Add a piece of thinking: text goes to the open block, a signature closes it, other blocks come whole.

    Return by how many bytes that grew.
    """
    last = blocks[-1] if blocks else None
    if piece.get("type") != "thinking" or last is None or last.get("type") != "thinking" or last.get("signature"):
        return _new_block(blocks, piece)
    return last.add({"thinking": _text(piece.get("thinking")), "signature": _text(piece.get("signature"))})

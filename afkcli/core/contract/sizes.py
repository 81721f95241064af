"""The size of what a turn holds: the bytes of its JSON in the thread, and at least the memory of its text.

Nothing here makes a copy of a large text, and nothing recurses, so that a value can be measured however large it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring

from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from afkcli.core.contract.structs import Struct, replace

PART_BYTES = 1_000
"""What each part counts beside its texts: its names and fields in JSON, and about its memory beside them."""

_SLICE = 1 << 16
_WIDER = {1: re.compile("[^\x00-\xff]"), 2: re.compile("[\U00010000-\U0010ffff]")}


def text_size(text: str) -> int:
    """Return the bytes of a text in JSON, without its quotes."""
    if len(text) <= _SLICE:
        return _slice_size(text)
    return sum(_slice_size(text[start : start + _SLICE]) for start in range(0, len(text), _SLICE))


def cut_text(text: str, room: int) -> str:
    """Return the longest beginning of a text that takes at most `room` bytes in JSON."""
    start, size = 0, 0
    while start < len(text):
        piece = text[start : start + _SLICE]
        of_piece = _slice_size(piece)
        if size + of_piece > room:
            return text[: start + _fitting(piece, room - size)]
        start, size = start + _SLICE, size + of_piece
    return text


def _slice_size(text: str) -> int:
    escaped = encode_basestring(text)
    return (len(escaped) if escaped.isascii() else len(escaped.encode("utf-8", "replace"))) - 2


def _fitting(piece: str, room: int) -> int:
    """Return how many characters of a short text fit into `room` bytes."""
    fits, too_many = 0, len(piece) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if _slice_size(piece[:middle]) <= room else (fits, middle)
    return fits


class Extent(Struct):
    """How much text there is: its bytes in JSON, its characters, and the bytes that each of them takes in memory.

    In memory a text takes 1, 2 or 4 bytes for each character, by its widest one. The record of a turn is one text.
    """

    json: int = 0
    chars: int = 0
    width: int = 1

    @property
    def size(self) -> int:
        return max(self.json, self.chars * self.width)

    def add(self, text: str) -> None:
        """Add a text."""
        self.json += text_size(text)
        self.chars += len(text)
        self._widen(text)

    def add_fitting(self, text: str, most: int) -> str:
        """Add as much of a text as keeps the size at `most` or less, and return it."""
        json, chars, width = self.json, self.chars, self.width
        self.json = json + (text_size(text) if len(text) > _SLICE else _slice_size(text))
        self.chars = chars + len(text)
        if not text.isascii():
            self._widen(text)
        if self.json <= most and self.chars * self.width <= most:
            return text
        if (chars + 1) * self.width > most and width < self.width:  # its first wide character alone is too much
            found = _WIDER[width].search(text)
            text, self.width = text[: found.start() if found else None], width
        text = cut_text(text[: max(0, most // self.width - chars)], max(0, most - json))
        self.json, self.chars = json + text_size(text), chars + len(text)
        return text

    def add_value(self, value: Json, most: int) -> None:
        """Add a value in JSON; that more than `most` bytes came together is enough to know, however deep it is."""
        waiting = [value]
        while waiting and self.size <= most:
            item = waiting.pop()
            if isinstance(item, str):
                self.add(item)
                self.json += 3
            elif isinstance(item, Mapping):
                self.json += 2 + 4 * len(item)
                waiting.extend(item)
                waiting.extend(item.values())
            elif isinstance(item, (list, tuple)):
                self.json += 2 + len(item)
                waiting.extend(item)
            else:  # a number takes at most 24 bytes, or about three bits for each digit
                self.json += 24 if not isinstance(item, int) else item.bit_length() // 3 + 2

    def add_part(self, part: Part, most: int) -> None:
        """Add a part of a message; `most` is as in `add_value`."""
        self.json += PART_BYTES
        if part.provider_data is not None:
            self.add_value(part.provider_data.payload, most)
        if isinstance(part, (TextPart, ReasoningPart)):
            self.add(part.text)
        elif isinstance(part, (ImagePart, FilePart)):
            self.add(part.name or "")
        else:
            self.add(part.id)
            self.add(part.name)
            if isinstance(part, ToolCallPart):
                self.add_value(part.arguments, most)
                self.add(part.invalid_arguments or "")
            else:
                for inner in part.parts:
                    self.add_part(inner, most)

    def add_messages(self, messages: Iterable[Message], most: int) -> None:
        """Add messages; `most` is as in `add_value`."""
        for message in messages:
            for part in message.parts:
                self.add_part(part, most)
                if self.size > most:
                    return

    def _widen(self, text: str) -> None:
        while self.width < 4 and not text.isascii() and _WIDER[self.width].search(text):
            self.width *= 2


def cut_message(message: Message, before: Extent, most: int) -> Message:
    """Return what of a message fits behind what there is `before` it; it has no part if nothing does.

    Of an answer that is its reasoning and its text: signatures and the like are valid for the whole answer only, and a
    tool call has to be whole. Of the results of tools it is the first ones.
    """
    parts: list[Part] = []
    extent = replace(before)
    for part in message.parts:
        kept = _cut_part(part, extent, most)
        if kept is not None:
            parts.append(kept)
    return Message(role=message.role, parts=tuple(parts))


def _cut_part(part: Part, extent: Extent, most: int) -> Part | None:
    if isinstance(part, (TextPart, ReasoningPart)):
        extent.json += PART_BYTES
        text = extent.add_fitting(part.text, most)
        kind = TextPart if isinstance(part, TextPart) else ReasoningPart
        return kind(text=text) if text else None
    if isinstance(part, ToolCallPart):
        return None
    with_it = replace(extent)
    with_it.add_part(part, most)
    if with_it.size > most:
        return None
    extent.json, extent.chars, extent.width = with_it.json, with_it.chars, with_it.width
    return part


def cut_result(result: ToolResultPart, before: Extent, most: int, note: str) -> ToolResultPart:
    """Return what of a tool's result fits behind what there is `before` it; `note` in its place if nothing does."""
    extent = replace(before)
    extent.json += 2 * PART_BYTES + text_size(result.id) + text_size(result.name)
    text = "".join(part.text for part in result.parts if isinstance(part, TextPart))
    return replace(result, parts=(TextPart(text=extent.add_fitting(text, most) or note),))

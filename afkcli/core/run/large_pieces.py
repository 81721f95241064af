"""A piece of an answer that is very large, cut into several: each event, record and line made of it stays small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from afkcli.core.contract.messages import ModelWarning, OpaqueDelta, ReasoningDelta, TextDelta, ToolCallDelta

Piece: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | OpaqueDelta | ModelWarning

MAX_PIECE_CHARS = 1 << 20
"""The longest text of one event. What is made of it (JSON, a line of a log, a record) is in memory several times."""


def is_large(chars: int) -> bool:
    """Return whether a text of so many characters is longer than that of one event may be."""
    return chars > MAX_PIECE_CHARS


def cut_piece(event: Piece) -> Iterator[Piece]:
    """Yield an event, or if its text is longer than `MAX_PIECE_CHARS` several with a part of it each."""
    if isinstance(event, (TextDelta, ReasoningDelta)) and len(event.text) > MAX_PIECE_CHARS:
        kind = type(event)
        yield from (kind(text) for text in _slices(event.text))
    elif isinstance(event, ToolCallDelta) and len(event.arguments) > MAX_PIECE_CHARS:
        yield from (ToolCallDelta(event.id, event.name, arguments) for arguments in _slices(event.arguments))
    else:
        yield event


def _slices(text: str) -> Iterator[str]:
    for start in range(0, len(text), MAX_PIECE_CHARS):
        yield text[start : start + MAX_PIECE_CHARS]

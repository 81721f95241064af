"""What of a long conversation is left out of a request so that it fits: old tool results first, then old turns.

It is cut where a turn ends, and down to a part of the window. So the next turns fit without another cut, and the
beginning of their requests stays the same to the byte: each turn keeps what was left out at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
from afkcli.core.contract.structs import FrozenStruct, replace

BYTES_PER_TOKEN = 4
"""The usual estimate for English text, on the side of too many tokens for other languages, as UTF-8 has more bytes."""
IMAGE_TOKENS = 1600
FILE_BYTES_PER_TOKEN = 20
_MESSAGE_TOKENS = 4
MARK = "[This result was left out, because the conversation became too long.]"
_MARK_TOKENS = len(MARK) // BYTES_PER_TOKEN


class Trim(NamedTuple):
    """What is left out of the turns before the one that is asked: the first `dropped` turns, and in the first `marked`
    turns the results of tools."""

    dropped: int = 0
    marked: int = 0


NOTHING = Trim()


class Size(NamedTuple):
    """The estimated tokens of a turn as it is sent, and with the results of its tools replaced by marks."""

    whole: int
    marked: int


class Room(FrozenStruct, kw_only=True):
    """What a request has room for, in tokens.

    `limit` is the window without what is reserved for the answer, `keep` the part of it that is left full by a cut,
    `fixed` the size of the instructions and the tools.
    """

    limit: int
    keep: float
    fixed: int


def cut(turns: Sequence[Size], trim: Trim, room: Room, rest: int, ratio: float = 1.0) -> Trim:
    """Return what is left out so that `turns` and the rest of the request take a part of the room.

    Marks come before drops. The newest turn is marked or dropped only if the request does not fit otherwise.

    Args:
        turns: the sizes of the turns, the oldest first.
        trim: what is left out already; nothing of it comes back.
        room: what a request has room for.
        rest: the size of what follows the turns.
        ratio: by how much the server counts more than these sizes say.
    """
    limit = room.limit / ratio
    goal = max(room.keep * limit - rest, (limit - rest) / 2)
    kept = _Kept(turns, trim, room.fixed)
    newest = len(turns) - 1
    kept.mark_until(newest, goal)
    kept.drop_until(newest, goal)
    if kept.size + rest > limit:
        kept.mark_until(len(turns), goal)
    if kept.size + rest > limit:
        kept.drop_until(len(turns), goal)
    return kept.trim


def covered(turns: Sequence[Size], room: Room, rest: int, ratio: float, summary: int) -> int:
    """Return how many of the first turns a summary has to take the place of, so that a part of the room is kept.

    The newest turn is one of them only if the request does not fit otherwise.

    Args:
        turns: the sizes of the turns, the oldest first.
        room: what a request has room for; its `fixed` size is without a summary.
        rest: the size of what follows the turns.
        ratio: by how much the server counts more than these sizes say.
        summary: the tokens of the summary.
    """
    limit = room.limit / ratio
    rest += summary
    kept = _Kept(turns, NOTHING, room.fixed)
    goal = max(room.keep * limit - rest, (limit - rest) / 2)
    kept.drop_until(len(turns) - 1, goal)
    if kept.size + rest > limit:
        kept.drop_until(len(turns), goal)
    return kept.trim.dropped


def kept_size(turns: Sequence[Size], trim: Trim) -> int:
    """Return the estimated tokens of what is sent of `turns`."""
    marked_ones = sum(size.marked for size in turns[trim.dropped : trim.marked])
    return marked_ones + sum(size.whole for size in turns[trim.marked :])


class _Kept:
    """What is kept of the turns while more and more is left out."""

    def __init__(self, turns: Sequence[Size], trim: Trim, fixed: int) -> None:
        self._turns = turns
        self.trim = trim
        self.size = fixed + kept_size(turns, trim)

    def mark_until(self, end: int, goal: float) -> None:
        """Mark the results of turns, the oldest first, until the size is at most `goal` or turn `end` is reached."""
        for number in range(self.trim.marked, end):
            if self.size <= goal:
                return
            saved = self._turns[number].whole - self._turns[number].marked
            if saved:
                self.size -= saved
                self.trim = self.trim._replace(marked=number + 1)

    def drop_until(self, end: int, goal: float) -> None:
        while self.size > goal and self.trim.dropped < end:
            self.size -= self._of(self.trim.dropped)
            dropped = self.trim.dropped + 1
            self.trim = Trim(dropped, max(dropped, self.trim.marked))  # what is dropped counts as marked

    def _of(self, number: int) -> int:
        size = self._turns[number]
        return size.marked if number < self.trim.marked else size.whole


def size_of(messages: Sequence[Message]) -> Size:
    """Return the estimated tokens of the messages of a turn."""
    whole = results = marks = 0
    for message in messages:
        whole += _MESSAGE_TOKENS
        for part in message.parts:
            if type(part) is TextPart:  # as `tokens_of`, without a call
                text = part.text
                whole += -(-len(text) // BYTES_PER_TOKEN) if text.isascii() else text_tokens(text)
                continue
            tokens = tokens_of(part)
            whole += tokens
            if isinstance(part, ToolResultPart):
                results += tokens
                marks += min(tokens, _MARK_TOKENS)
    return Size(whole, whole - results + marks)


def tokens_of(part: Part) -> int:
    """Return the estimated tokens of a part of a message.

    An image is about 1,600 at most (https://platform.claude.com/docs/en/build-with-claude/vision), a page of a PDF two
    or three thousand and often 50 kB.
    """
    if isinstance(part, TextPart):
        return text_tokens(part.text)
    if isinstance(part, ReasoningPart):
        return text_tokens(part.text) + _compaction_tokens(part)
    if isinstance(part, ToolCallPart):
        return text_tokens(part.name) + text_tokens(part.invalid_arguments or repr(part.arguments))
    if isinstance(part, ToolResultPart):
        return sum(map(tokens_of, part.parts))
    return IMAGE_TOKENS if isinstance(part, ImagePart) else _file_tokens(part)


def _compaction_tokens(part: ReasoningPart) -> int:
    """Return the estimated tokens of a compaction: its data are a text, or an encrypted one, which is longer."""
    if not part.compacts or part.provider_data is None:
        return 0
    return text_tokens(dumps(part.provider_data.payload))


def _file_tokens(part: FilePart) -> int:
    if part.media_type.startswith("text/"):
        return part.size // BYTES_PER_TOKEN
    return max(IMAGE_TOKENS, part.size // FILE_BYTES_PER_TOKEN)


def text_tokens(text: str) -> int:
    """Return the estimated tokens of a text."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)


def marked(messages: Sequence[Message], first: int | None = None) -> tuple[Message, ...]:
    """Return `messages` with each result of a tool replaced by a mark, in the `first` messages of tools or in all.

    A result that is shorter than the mark stays.
    """
    left = len(messages) if first is None else first
    found = []
    for message in messages:
        if message.role is Role.TOOL and left > 0:
            left -= 1
            message = replace(message, parts=tuple(map(_marked_part, message.parts)))
        found.append(message)
    return tuple(found)


def _marked_part(part: Part) -> Part:
    if not isinstance(part, ToolResultPart) or tokens_of(part) <= _MARK_TOKENS:
        return part
    return replace(part, parts=(TextPart(text=MARK),))

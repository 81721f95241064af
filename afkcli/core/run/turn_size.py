"""The size of the turn that a run writes, counted while it grows against `max_turn_mb`."""

from __future__ import annotations

from afkcli.core.contract.errors import LimitReachedError
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.limits import MAX_TURN_MB, MB
from afkcli.core.contract.memory import LARGE_BYTES
from afkcli.core.contract.messages import Message, ToolCallDelta, ToolResultPart
from afkcli.core.contract.sizes import PART_BYTES, Extent, cut_message, cut_result
from afkcli.core.contract.structs import replace

NOT_KEPT = "[The turn reached its limit of size, so this result was left out.]"
"""The result of a tool call of which nothing fits into the turn."""


class TurnSize:
    """Counts what is added to a turn, and says how much of it fits.

    Everything is counted before it is kept, shown or journaled. What does not fit is cut and makes the turn full; the
    code that adds to the turn then calls `check`, which ends the run.

    Args:
        max_turn_mb: the limit; None for the greatest one.
    """

    def __init__(self, max_turn_mb: float | None) -> None:
        self._max_turn_mb = MAX_TURN_MB if max_turn_mb is None else max_turn_mb
        self._limit = int(self._max_turn_mb * MB)
        self._whole = Extent()  # of the whole messages
        self._now = Extent()  # of these and the message that is being streamed
        self._calls: set[str] = set()
        self.is_full = False

    @property
    def is_large(self) -> bool:
        """Whether what is made of the whole turn takes much memory."""
        return self._now.size > LARGE_BYTES

    def check(self) -> None:
        """Raise `LimitReachedError` if something did not fit."""
        if self.is_full:
            raise LimitReachedError(f"the limit max_turn_mb={self._max_turn_mb:g} was reached", limit="max_turn_mb")

    def begin(self, messages: tuple[Message, ...]) -> None:
        """Count what the turn begins with; all of it is kept."""
        self._whole.add_messages(messages, self._limit)
        self.forget_streamed()
        self.is_full = self._now.size > self._limit

    def take_text(self, text: str) -> str:
        """Count a piece of an answer or of its reasoning, and return as much of it as fits, without lone surrogates."""
        piece = clean_text(text[: self._limit + 1])  # a character takes a byte at least
        kept = self._now.add_fitting(piece, self._limit)
        if len(kept) < len(piece):
            self.is_full = True
        return kept

    def take_call(self, piece: ToolCallDelta) -> str:
        """Count a piece of a tool call, and return as much of its arguments as fits."""
        if piece.id not in self._calls:
            self._calls.add(piece.id)
            self.take_bytes(PART_BYTES + len(piece.id) + len(piece.name))
        return self.take_text(piece.arguments)

    def take_bytes(self, size: int) -> None:
        """Count what is kept with an answer and has no text."""
        self._now.json += size
        self.is_full = self.is_full or self._now.size > self._limit

    def forget_streamed(self) -> None:
        """Count nothing of the message that was being streamed: it was dropped."""
        self._now = replace(self._whole)
        self._calls.clear()

    def fit_message(self, message: Message) -> Message:
        """Return as much of a whole message as fits in place of what was streamed of it; it may have no part left."""
        extent = replace(self._whole)
        extent.add_messages([message], self._limit)
        if extent.size <= self._limit:
            return message
        self.is_full = True
        return cut_message(message, self._whole, self._limit)

    def take_message(self, message: Message) -> Message:
        """Count a whole message in place of what was streamed of it, and return as much of it as fits."""
        message = self.fit_message(message)
        self._whole.add_messages([message], self._limit)
        self.forget_streamed()
        return message

    def take_result(self, result: ToolResultPart) -> ToolResultPart:
        """Count the result of a tool call, and return as much of it as fits; a note if that is nothing."""
        extent = replace(self._whole)
        extent.add_part(result, self._limit)
        if extent.size > self._limit:
            self.is_full = True
            result = cut_result(result, self._whole, self._limit, NOT_KEPT)
        self._whole.add_part(result, self._limit)
        self.forget_streamed()
        return result

"""A text that grows by pieces: a million small ones take the memory of the text, and no copy is made for each."""

from __future__ import annotations

_MOST_PIECES = 1024


class GrowingText:
    """Joins pieces of text.

    A list of pieces takes about 60 bytes for each beside its characters, and `text += piece` on an attribute copies the
    whole text each time. Here every 1024 pieces become one, and every 1024 of those.

    Since: 0.2.
    """

    __slots__ = ("_levels",)

    def __init__(self, text: str = "") -> None:
        self._levels: list[list[str]] = [[text] if text else []]

    def append(self, piece: str) -> None:
        """Add a piece at the end."""
        pieces = self._levels[0]
        pieces.append(piece)
        if len(pieces) > _MOST_PIECES:
            self._join(0)

    def _join(self, level: int) -> None:
        """Make one piece of those of `level`, in the level above it."""
        if level + 1 == len(self._levels):
            self._levels.append([])
        above = self._levels[level + 1]
        above.append("".join(self._levels[level]))
        self._levels[level].clear()
        if len(above) > _MOST_PIECES:
            self._join(level + 1)

    def clear(self) -> None:
        """Drop all of it."""
        self._levels = [[]]

    def __bool__(self) -> bool:
        return any(any(pieces) for pieces in self._levels)

    def __str__(self) -> str:
        """Return the text; it is joined once until more is added."""
        pieces = [piece for level in reversed(self._levels) for piece in level]
        if len(pieces) > 1:
            self._levels = [["".join(pieces)]]
        return self._levels[0][0] if self._levels[0] else ""

"""How far a block is shown for good."""

from __future__ import annotations


class Shown:
    """How far a leaf is shown for good: what is written is never written again, even if it would now look different.

    Args:
        mark: in the measure of the leaf, see `Line.mark`.
        text: the text up to there, of leaves that are text.
        widths: the widths of the columns, of a table.
        in_row: whether only a part of the last row is shown, of a table.
        begun: whether the blank line before it is shown.
    """

    __slots__ = ("begun", "in_row", "mark", "text", "widths")

    def __init__(self) -> None:
        self.begun = self.in_row = False
        self.mark = 0
        self.text = ""
        self.widths: tuple[int, ...] = ()

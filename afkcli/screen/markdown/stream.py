"""Markdown while it arrives: which lines are final, and which may still change.

Only the source from the last block on that is not shown whole is parsed again. A block that becomes very large is shown
as it is until it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afkcli.core.contract.text import visible
from afkcli.screen.markdown.half import presentable
from afkcli.screen.markdown.leaves import Leaf, is_blank_between, leaves_of
from afkcli.screen.markdown.raw import RawBlock
from afkcli.screen.markdown.shown import Shown
from afkcli.screen.markdown.styled import Line

MAX_OPEN_CHARS = 8 * 1024
"""The largest source that is parsed again and again."""
SLICE_CHARS = 32 * 1024
"""How much is parsed at once."""
_CLOSED = frozenset({"heading_open", "hr"})
_CLOSED_BY_BLANK = frozenset({"paragraph_open", "table_open"})


class Shape:
    """The lines of what is not shown for good.

    Args:
        lines: all of them.
        final: how many of them do not change any more.
        keys: the leaf and the mark of each line.
        leaves: the leaves.
        closed: how many leaves do not change any more.
    """

    __slots__ = ("closed", "final", "keys", "leaves", "lines")

    def __init__(
        self,
        lines: Sequence[Line] = (),
        final: int = 0,
        keys: Sequence[tuple[int, int]] = (),
        leaves: Sequence[Leaf] = (),
        closed: int = 0,
    ) -> None:
        self.lines = list(lines)
        self.final = final
        self.keys = list(keys)
        self.leaves = leaves
        self.closed = closed


class MarkdownStream:
    """Markdown that arrives in pieces.

    `feed` takes a piece, `shape` returns the lines that are not shown for good, and `show` notes how many of them now
    are. It neither knows the terminal nor writes to it.

    Args:
        styles: whether there are styles; without them the marks of Markdown stay.
    """

    def __init__(self, *, styles: bool) -> None:
        self._styles = styles
        self._held = ""  # a carriage return of which the newline may follow
        self._source = ""
        self._number: int | None = None  # of the list item at the beginning of the source
        self._has_before = False  # something is shown before the source, and
        self._blank_before = False  # a blank line is between
        self._done = 0  # leaves of the source that are shown for good
        self._shown = Shown()  # of the leaf after them
        self._closed = 0  # leaves that do not change any more
        self._counted = -1  # up to where in the source they were counted
        self._last_cut = 0  # where the source can be cut before the first open leaf
        self._open: Leaf | None = None
        self._raw: RawBlock | None = None
        self.has_more = False
        """Whether there is another shape behind the last one: a very large block was over."""

    def feed(self, text: str) -> None:
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        self._source += visible(text[:-1] if self._held else text)

    @property
    def rest(self) -> str:
        """The source of what is not shown whole."""
        return self._source + self._held

    def shape(self, columns: int, *, ended: bool = False) -> Shape:
        """Return the lines that are not shown for good; all of them are final if the text has `ended`."""
        self.has_more = False
        if ended:
            self._source += visible(self._held)
            self._held = ""
        if self._raw is not None:
            lines = self._raw.lines(self._source, ended=ended)
            return Shape(lines, len(lines))
        at_line = self._source.rfind("\n") + 1
        if not ended:
            self._count_closed(at_line)
        becomes_raw = not ended and len(self._source) - self._last_cut > MAX_OPEN_CHARS
        if ended or becomes_raw:
            leaves = leaves_of(self._source, styles=self._styles, number=self._number)
            self._closed, self._counted = len(leaves), -1
        else:
            source = presentable(self._source, at_line, self._open.kind if self._open is not None else "")
            leaves = leaves_of(source, styles=self._styles, number=self._number)
        if becomes_raw:
            self._raw = RawBlock.after(self._source, leaves[-1] if leaves else None, styles=self._styles)
        return self._laid_out(columns, leaves)

    def show(self, shape: Shape, count: int) -> None:
        """Note that the first `count` lines of a shape are shown for good, and take them out of it.

        The shape must be the last one, or the one before while nothing was shown in between.
        """
        if self._raw is not None:
            self._show_raw(count)
        elif count:
            self._show_leaves(shape, count)
        del shape.lines[:count]

    def _show_leaves(self, shape: Shape, count: int) -> None:
        leaf, mark = shape.keys[count - 1]
        if leaf != self._done:
            self._done, self._shown = leaf, Shown()
        self._shown.begun = True
        if mark >= 0:
            shape.leaves[leaf].content.show(self._shown, mark)
        is_whole = count == len(shape.keys) or shape.keys[count][0] != leaf
        if is_whole and leaf < shape.closed and mark >= 0:
            self._done, self._shown = leaf + 1, Shown()
        cut = self._cut(shape.leaves)
        shape.leaves = shape.leaves[cut:]
        shape.closed -= cut
        shape.keys = [(index - cut, mark) for index, mark in shape.keys[count:]]

    def _count_closed(self, at_line: int) -> None:
        """Count the leaves that do not change any more, by the lines that are complete."""
        if at_line == self._counted:
            return
        self._counted = at_line
        source = self._source[:at_line]
        leaves = leaves_of(source, styles=self._styles, number=self._number)
        self._closed, self._open = max(0, len(leaves) - 1), leaves[-1] if leaves else None
        if self._open is not None and _is_closed(self._open, source):
            self._closed, self._open = len(leaves), None
        self._last_cut = self._cut_before(leaves[: self._closed + 1])

    def _cut_before(self, leaves: Sequence[Leaf]) -> int:
        """Return the position of the last place where the source can be cut before one of these leaves."""
        lines = [leaf.cut.line for leaf in leaves if leaf.cut is not None]
        return _position_of_line(self._source, lines[-1]) if lines else 0

    def _laid_out(self, columns: int, leaves: Sequence[Leaf]) -> Shape:
        shape = Shape(leaves=leaves, closed=self._closed)
        source_lines = self._source.split("\n")
        for index in range(self._done, len(leaves)):
            shown = self._shown if index == self._done else Shown()
            if not shown.begun and self._is_blank_before(leaves, index, source_lines):
                shape.lines.append(Line((), -1, 0))
                shape.keys.append((index, -1))
            for line in leaves[index].lines(columns, shown, styles=self._styles):
                shape.lines.append(line)
                shape.keys.append((index, line.mark))
            if index < self._closed:
                shape.final = len(shape.lines)
        return shape

    def _is_blank_before(self, leaves: Sequence[Leaf], index: int, source_lines: Sequence[str]) -> bool:
        leaf = leaves[index]
        if index:
            return is_blank_between(leaves[index - 1], leaf, source_lines)
        return self._has_before and (self._blank_before or leaf.stands_apart or leaf.start > 0)

    def _cut(self, leaves: Sequence[Leaf]) -> int:
        """Forget the source of what is shown, where it can be cut; return how many leaves are forgotten."""
        if self._done < len(leaves):
            index = next((i for i in range(self._done, 0, -1) if leaves[i].cut is not None), 0)
            cut = leaves[index].cut
            if not index or cut is None:
                return 0
            self._blank_before = is_blank_between(leaves[index - 1], leaves[index], self._source.split("\n"))
            self._number = cut.number
            at = _position_of_line(self._source, cut.line)
        elif leaves and not leaves[-1].containers:
            index = len(leaves)
            self._blank_before = leaves[-1].stands_apart
            self._number = None
            at = _position_of_line(self._source, leaves[-1].end)
        else:
            return 0
        self._has_before = True
        self._source = self._source[at:]
        self._done -= index
        self._closed = max(0, self._closed - index)
        self._counted = -1
        self._last_cut = 0
        return index

    def _show_raw(self, count: int) -> None:
        assert self._raw is not None
        self._source, is_over = self._raw.shown(self._source, count)
        self._has_before = True
        self._done, self._shown, self._number, self._counted = 0, Shown(), None, -1
        if is_over:
            self._raw, self._blank_before = None, True
            self.has_more = bool(self._source)


def _is_closed(leaf: Leaf, source: str) -> bool:
    """Return whether the last leaf of complete lines does not change any more."""
    if leaf.kind == "fence":
        return leaf.is_closed
    if leaf.kind in _CLOSED_BY_BLANK:
        return not source[source.rfind("\n", 0, -1) + 1 :].strip(" >\t\n")
    return leaf.kind in _CLOSED


def _position_of_line(text: str, line: int) -> int:
    """Return the position at which a line of `text` begins, its end if there is no such line."""
    at = 0
    for _ in range(line):
        found = text.find("\n", at)
        if found < 0:
            return len(text)
        at = found + 1
    return at


def laid_out(text: str, columns: int, *, styles: bool) -> Iterator[Line]:
    """Yield the lines of a whole text."""
    stream = MarkdownStream(styles=styles)
    for at in range(0, len(text), SLICE_CHARS):
        stream.feed(text[at : at + SLICE_CHARS])
        stream.has_more = True
        while stream.has_more:
            shape = stream.shape(columns, ended=at + SLICE_CHARS >= len(text))
            yield from shape.lines[: shape.final]
            stream.show(shape, shape.final)

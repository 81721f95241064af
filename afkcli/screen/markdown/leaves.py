"""From Markdown to its leaves: the blocks that hold no other blocks, each with what stands before its lines.

A leaf that is followed by another one does not change any more, however the text continues.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from afkcli.screen.markdown.code import Code
from afkcli.screen.markdown.inline import inline
from afkcli.screen.markdown.shown import Shown
from afkcli.screen.markdown.styled import BOLD, DIM, MAGENTA, UNDERLINED, Line, Run, Styled
from afkcli.screen.markdown.tables import Table
from afkcli.screen.markdown.wrapping import wrapped

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_DEEPEST = 10_000  # what is nested deeper would be left out; so deep, the parser gives up first, with an exception
_RULE = 40


class Content(Protocol):
    """The content of a leaf."""

    def lines(self, columns: int, first: Sequence[Run], further: Sequence[Run], shown: Shown) -> list[Line]:
        """Return the lines that are not shown for good."""

    def show(self, shown: Shown, mark: int) -> None:
        """Note that the lines up to a mark are shown for good."""


class Paragraph:
    """Text that is wrapped: a paragraph, or a heading."""

    def __init__(self, content: Styled) -> None:
        self._content = content

    def lines(self, columns: int, first: Sequence[Run], further: Sequence[Run], shown: Shown) -> list[Line]:
        return list(wrapped(self._content, columns, first, further, self._start(shown)))

    def show(self, shown: Shown, mark: int) -> None:
        shown.mark = mark
        shown.text = self._content.text[:mark]

    def _start(self, shown: Shown) -> int:
        """Return where the text continues that is not shown.

        What has arrived since may have made a mark of Markdown of something that is shown as text. Then letters and
        digits are counted.
        """
        text = self._content.text
        if text.startswith(shown.text):
            return len(shown.text)
        left = sum(map(str.isalnum, shown.text))
        for position, char in enumerate(text):
            if not left and (char.isalnum() or char.isspace()):
                return position + char.isspace()
            left -= char.isalnum()
        return len(text)


class Rule:
    """A horizontal rule."""

    def lines(self, columns: int, first: Sequence[Run], further: Sequence[Run], shown: Shown) -> list[Line]:
        if shown.mark:
            return []
        width = max(3, min(_RULE, columns - sum(len(run.text) for run in first)))
        return [Line((*first, Run("─" * width)), 1, columns)]

    def show(self, shown: Shown, mark: int) -> None:
        shown.mark = mark


class Cut(NamedTuple):
    """Where the source can be cut, so that a leaf is the first one: the line, and the number of its list item."""

    line: int
    number: int | None


class Leaf(NamedTuple):
    """A block that holds no other blocks.

    Args:
        content: what it shows.
        start, end: its lines in the source.
        containers: the quotes and list items around it, the outermost first.
        cut: where the source can be cut before it; None where only a part of a block is before it.
        kind: the type of its token.
        stands_apart: whether blank lines are around it, also where the source has none.
        is_closed: whether the mark at its end has come, of a block of code.
    """

    content: Content
    start: int
    end: int
    containers: tuple[str, ...]
    cut: Cut | None
    kind: str
    stands_apart: bool = False
    is_closed: bool = False

    def lines(self, columns: int, shown: Shown, *, styles: bool) -> list[Line]:
        """Return the lines that are not shown for good."""
        if self.kind == "fence" and styles:  # it is copied, so nothing stands before it
            return self.content.lines(columns, (), (), shown)
        first, further = prefixes(self.containers, columns, styles=styles)
        return self.content.lines(columns, first, further, shown)


def prefixes(containers: Sequence[str], columns: int, *, styles: bool) -> tuple[list[Run], list[Run]]:
    """Return what stands before the first line of a leaf, and before its further ones.

    Args:
        containers: `>` for a quote, the marker of a list item before its first leaf, and as many blanks before others.
    """
    quote = "│ " if styles else "> "
    own = ""
    outer = ""
    for container in containers:
        outer += own
        own = quote if container == ">" else container
    most = max(0, columns // 2 - 4)
    outer = outer[len(outer) - most :] if len(outer) > most else outer
    first = outer + own
    further = "".join(char if char in "│> " else " " for char in first)
    style = DIM if styles else ""
    return ([Run(first, style)] if first else []), ([Run(further, style)] if further else [])


@functools.cache
def parser() -> MarkdownIt:
    """Return the parser: CommonMark with tables, HTML as text, and without what changes earlier text."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "maxNesting": _DEEPEST})
    made.enable(["table", "strikethrough"])
    made.disable("reference")  # a definition at the end would change what is shown at the beginning
    return made


def leaves_of(source: str, *, styles: bool, number: int | None = None) -> list[Leaf]:
    """Return the leaves of Markdown.

    Args:
        source: the text.
        styles: whether there are styles.
        number: the number of the first item, if the text is cut out of an ordered list.
    """
    return list(_Reader(source, styles, number).leaves())


class _Reader:
    """Reads the tokens of a text."""

    def __init__(self, source: str, styles: bool, number: int | None) -> None:
        self._lines = source.split("\n")
        self._tokens = parser().parse(source)
        self._styles = styles
        self._number = number
        self._containers: list[str] = []
        self._lists: list[int | None] = []  # the number of the next item, of ordered lists
        self._cut: Cut | None = None
        self._at = 0

    def leaves(self) -> Iterator[Leaf]:
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.level == 0 and token.map and token.nesting >= 0:
                self._cut = Cut(token.map[0], None)
            yield from self._leaf(token)
            self._at += 1

    def _leaf(self, token: Token) -> Iterator[Leaf]:
        kind = token.type
        if kind in ("bullet_list_open", "ordered_list_open", "bullet_list_close", "ordered_list_close"):
            self._list(token)
        elif kind == "list_item_open":
            self._item(token)
        elif kind == "blockquote_open":
            self._containers.append(">")
        elif kind in ("list_item_close", "blockquote_close"):
            if kind == "list_item_close" and not self._containers[-1].isspace():  # an item without content
                yield self._made(Paragraph(Styled()), token, kind="paragraph_open", lines=self._item_lines)
            self._containers.pop()
        else:
            yield from self._content(token)

    def _content(self, token: Token) -> Iterator[Leaf]:
        kind = token.type
        if kind == "inline":
            opened = self._tokens[self._at - 1]
            yield self._made(self._text(opened, token), opened)
        elif kind in ("fence", "code_block"):
            yield self._code(token)
        elif kind == "hr":
            yield self._made(Rule(), token)
        elif kind == "table_open":
            yield self._made(self._table(), token, apart=True)

    def _list(self, token: Token) -> None:
        if token.nesting < 0:
            self._lists.pop()
        elif token.type == "bullet_list_open":
            self._lists.append(None)
        else:
            number = int(token.attrGet("start") or 1) if token.attrGet("start") is not None else 1
            if token.level == 0 and self._number is not None and token.map and token.map[0] == 0:
                number = self._number
            self._lists.append(number)

    def _item(self, token: Token) -> None:
        assert token.map is not None
        number = self._lists[-1]
        if number is None:
            marker = "• " if self._styles else f"{token.markup} "
        else:
            marker = f"{number}{token.markup} "
            self._lists[-1] = number + 1
        if token.level == 1 and len(self._lists) == 1 and not self._containers:
            self._cut = Cut(token.map[0], number)
        self._item_lines = (token.map[0], token.map[0] + 1)
        self._containers.append(marker)

    def _made(
        self,
        content: Content,
        token: Token,
        *,
        kind: str = "",
        apart: bool = False,
        lines: tuple[int, int] | None = None,
    ) -> Leaf:
        start, end = lines or token.map or (0, 0)
        cut, self._cut = self._cut, None
        leaf = Leaf(content, start, end, tuple(self._containers), cut, kind or token.type, apart)
        self._containers = [each if each == ">" else " " * len(each) for each in self._containers]
        return leaf

    def _text(self, opened: Token, token: Token) -> Paragraph:
        if opened.type != "heading_open":
            return Paragraph(inline(token.children or (), styles=self._styles))
        if self._styles:
            style = {1: f"{BOLD};{UNDERLINED};{MAGENTA}", 2: f"{BOLD};{MAGENTA}"}.get(int(opened.tag[1]), BOLD)
            return Paragraph(inline(token.children or (), styles=True, base=style))
        content = inline(token.children or (), styles=False)
        marks = "#" * int(opened.tag[1])
        return Paragraph(Styled(f"{marks} {content.text}"))

    def _code(self, token: Token) -> Leaf:
        fence = token.markup if token.type == "fence" else ""
        start, end = token.map or (0, 0)
        last = self._lines[end - 1].lstrip(" >\t").rstrip() if end - 1 > start else ""
        is_closed = bool(fence) and last.startswith(fence) and not last.strip(fence[0])
        text, info = token.content, token.info.strip()
        if fence and not self._styles:
            text = f"{fence}{info}\n{text}{fence if is_closed else ''}"
        leaf = self._made(Code(text, info, styles=self._styles), token, apart=self._styles, kind="fence")
        return leaf._replace(is_closed=is_closed)

    def _table(self) -> Table:
        rows: list[list[Styled]] = []
        aligned: list[str] = []
        heading = True
        while self._tokens[self._at].type != "table_close":
            token = self._tokens[self._at]
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                heading = token.type == "th_open"
                if heading:
                    aligned.append(str(token.attrGet("style") or "").rpartition(":")[2])
            elif token.type == "inline":
                base = BOLD if heading and self._styles else ""
                rows[-1].append(inline(token.children or (), styles=self._styles, base=base))
            self._at += 1
        return Table(rows, aligned, styles=self._styles)


def is_blank_between(before: Leaf, after: Leaf, lines: Sequence[str]) -> bool:
    """Return whether a blank line is between two leaves."""
    if before.stands_apart or after.stands_apart:
        return True
    return after.start > 0 and after.start >= before.end and not lines[after.start - 1].strip(" >\t")

"""The text inside a block of Markdown, in styles; without styles the marks of Markdown stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afkcli.core.contract.text import visible
from afkcli.screen.markdown.styled import BOLD, CYAN, DIM, ITALIC, STRUCK, UNDERLINED, Styled

if TYPE_CHECKING:
    from markdown_it.token import Token

_STYLES = {"strong": BOLD, "em": ITALIC, "s": STRUCK, "link": UNDERLINED}


class _Builder:
    """Collects text and styles. All text goes through `visible`: an entity may be any character."""

    def __init__(self, base: str) -> None:
        self._texts: list[str] = []
        self._spans: list[tuple[int, int, str]] = []
        self._size = 0
        self._styles = [base] if base else []

    @property
    def size(self) -> int:
        return self._size

    def add(self, text: str, style: str = "") -> None:
        text = visible(text)
        styles = [*self._styles, style] if style else self._styles
        if styles and text:
            self._spans.append((self._size, self._size + len(text), ";".join(styles)))
        self._texts.append(text)
        self._size += len(text)

    def begin(self, style: str) -> None:
        self._styles.append(style)

    def end(self) -> None:
        if self._styles:
            self._styles.pop()

    def since(self, position: int) -> str:
        return "".join(self._texts)[position:]

    def styled(self) -> Styled:
        return Styled("".join(self._texts), self._spans)


def inline(tokens: Sequence[Token], *, styles: bool, base: str = "") -> Styled:
    """Return the text of a block's inline tokens.

    Args:
        tokens: the children of an inline token.
        styles: whether there are styles; without them, the marks of Markdown stay.
        base: the style of all of it.
    """
    builder = _Builder(base)
    links: list[tuple[str, int]] = []
    for token in tokens:
        kind = token.type
        if kind == "text":
            builder.add(token.content)
        elif kind in ("softbreak", "hardbreak"):
            builder.add("\n")
        elif kind == "code_inline":
            marks = "" if styles else token.markup
            builder.add(f"{marks}{token.content}{marks}", CYAN if styles else "")
        elif kind == "link_open":
            links.append((_address(token, "href"), builder.size))
            builder.begin(_STYLES["link"] if styles else "")
        elif kind == "link_close":
            _end_link(builder, *links.pop(), styles=styles)
        elif kind == "image":
            _image(builder, token, styles=styles)
        elif kind.endswith(("_open", "_close")):
            _mark(builder, token, styles=styles)
        else:
            builder.add(token.content)
    return builder.styled()


def _mark(builder: _Builder, token: Token, *, styles: bool) -> None:
    if not styles:
        builder.add(token.markup)
    elif token.nesting > 0:
        builder.begin(_STYLES.get(token.tag, ""))
    else:
        builder.end()


def _end_link(builder: _Builder, address: str, begun: int, *, styles: bool) -> None:
    """Write where a link leads: its text may say something else."""
    builder.end()
    said = builder.since(begun)
    if address not in (said, f"mailto:{said}", f"http://{said}", f"https://{said}"):
        builder.add(f" ({address})", DIM if styles else "")


def _image(builder: _Builder, token: Token, *, styles: bool) -> None:
    builder.add(token.content or "image")
    builder.add(f" ({_address(token, 'src')})", DIM if styles else "")


def _address(token: Token, name: str) -> str:
    """Return the address of a link or an image, with its title."""
    title = token.attrGet("title")
    address = visible(str(token.attrGet(name) or ""))
    return f'{address} "{title}"' if title else address

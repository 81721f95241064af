"""The documentation as data: its pages, their code blocks, headings, tables and links."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
_MARK = re.compile(r"^<!-- (.+) -->$")
_HEADING = re.compile(r"^(#+) (.+)$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_LIST_ITEM = re.compile(r"([-*]|\d+\.) ")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; `marks` are the HTML comments directly above it."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    def mark(self, name: str) -> str | None:
        """Return what follows `name:` in a mark, "" for the mark `name` alone, None if there is no such mark."""
        for mark in self.marks:
            key, _, value = mark.partition(":")
            if key == name:
                return value.strip()
        return None


def pages() -> list[Path]:
    """Return every page for users: the README, docs and the READMEs of the plugins."""
    found = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("plugins/*/README.md")]
    return sorted(found)


def pages_to_run() -> list[Path]:
    """Return the pages whose commands can run here; those about LiteLLM need it installed (see .ci/litellm)."""
    has_litellm = importlib.util.find_spec("litellm") is not None
    return [page for page in pages() if has_litellm or "litellm" not in str(page.relative_to(REPOSITORY))]


def all_markdown() -> list[Path]:
    """Return the pages for users and those for contributors."""
    return sorted({*pages(), *REPOSITORY.glob("*.md")})


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    marks: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        fence = _FENCE.match(line.strip())
        if fence:
            start = number
            number += 1
            while lines[number].strip() != fence[1]:
                number += 1
            text = "".join(f"{inner}\n" for inner in lines[start + 1 : number])
            yield Block(page=page, line=start + 1, language=fence[2], text=text, marks=tuple(marks))
        mark = _MARK.match(line)
        marks = [*marks, mark[1]] if mark else marks if not line.strip() else []
        number += 1


def without_blocks(text: str) -> str:
    """Return the text of a page without its fenced blocks."""
    return re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def indented_code(page: Path) -> Iterator[str]:
    """Yield the lines of a page that are code because they are indented, and not the continuation of a list."""
    before, in_list = "", False
    for line in without_blocks(page.read_text(encoding="utf-8")).splitlines():
        if line.startswith("    ") and not before.strip() and not in_list:
            yield line
        if line.strip() and not line.startswith(" "):
            in_list = bool(_LIST_ITEM.match(line))
        before = line


def links(page: Path) -> list[str]:
    """Return the targets of a page's links."""
    return _LINK.findall(without_blocks(page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, formed as code hosts form them."""
    text = without_blocks(page.read_text(encoding="utf-8"))
    headings = [found[2] for line in text.splitlines() if (found := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sections(page: Path) -> dict[str, str]:
    """Return the text under each heading of a page (up to the next one), by the heading without backticks."""
    found: dict[str, str] = {}
    heading = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        match = _HEADING.match(line)
        if match:
            heading = match[2].replace("`", "")
        else:
            found[heading] = found.get(heading, "") + line + "\n"
    return found


def first_column(section: str) -> list[list[str]]:
    """Return what is in backticks in the first cell of each row of the tables in a section."""
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [_CODE.findall(row.split("|")[1]) for row in rows]
    return [codes for codes in cells if codes]

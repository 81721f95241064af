"""Reads the page of mistakes: what is typed, and the line that it gets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.docs.pages import REPOSITORY, blocks

PAGE = REPOSITORY / "docs" / "reference" / "mistakes.md"
_PROMPT = "$ afk "


def mistakes(page: Path = PAGE) -> Iterator[tuple[str, str]]:
    """Yield what follows `afk` in each call of the page, as it is typed, and the line below it."""
    for block in blocks(page):
        lines = block.text.splitlines()
        yield from ((typed.removeprefix(_PROMPT), said) for typed, said in pairwise(lines) if typed.startswith(_PROMPT))


def words_of(typed: str) -> list[str]:
    """Return the words that bash gives a command for what was typed."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {typed}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    return done.stdout.decode().split("\0")[:-1]

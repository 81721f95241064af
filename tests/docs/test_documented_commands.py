"""Every command, script and config of the documentation works as printed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, Block, blocks, pages, pages_to_run
from tests.docs.terminal import Terminal

NOT_RUN = 12
"""How many blocks are marked `not run`; raise this number when you add one."""

LANGUAGES = {"console", "sh", "python", "toml", "json", "text"}
MARKS = {"file", "user config", "pyproject", "not run", "embedded model", "signature"}

ALL_BLOCKS = [block for page in pages() for block in blocks(page)]

needs_bash = pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="the pages are for bash")


def place(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with ModelServer() as server:
        opened = Terminal(home=tmp_path / "home", folder=tmp_path / "work", server=server)
        opened.prepare()
        yield opened


@needs_bash
@pytest.mark.parametrize("page", pages_to_run(), ids=place)
def test_a_page_works_as_printed(page: Path, terminal: Terminal) -> None:
    for block in blocks(page):
        terminal.run(block)

    if terminal.left_out:
        pytest.skip(f"all other blocks of {place(page)} work; left out: {', '.join(terminal.left_out)}")


@pytest.mark.parametrize("block", ALL_BLOCKS, ids=lambda block: block.place)
def test_a_block_has_a_known_language_and_marks(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block.place}: a block is one of {sorted(LANGUAGES)}, to be run or checked"
    for mark in block.marks:
        assert mark.partition(":")[0] in MARKS, f"{block.place}: unknown mark {mark!r}"
    assert block.mark("not run") != "", f"{block.place}: say why it is not run"


def test_the_number_of_blocks_that_are_not_run_is_known() -> None:
    not_run = [f"{block.place}: {block.mark('not run')}" for block in ALL_BLOCKS if block.mark("not run")]

    assert len(not_run) == NOT_RUN, "\n".join(not_run)


def test_json_blocks_are_valid_json() -> None:
    for block in ALL_BLOCKS:
        for line in block.text.splitlines() if block.language == "json" else ():
            json.loads(line)

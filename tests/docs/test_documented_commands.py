"""Every command, script and config of the documentation works as printed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, Block, blocks, indented_code, pages, pages_to_run
from tests.docs.terminal import SHELL_LANGUAGES, Terminal

LANGUAGES = {"console", "sh", "python", "toml", "json", "text", "yaml", "ini"}
MARKS = {"file", "user config", "pyproject", "run by", "embedded model", "signature", "after a run"}

ALL_BLOCKS = [block for page in pages() for block in blocks(page)]

needs_bash = pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="the pages are for bash")


COMMAND_LINE = re.compile(r"\$ |(afk|uv|uvx|pip|pipx|jq|git|python3?|curl|llm|ollama) ")


def place(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def str_place(block: Block) -> str:
    return block.place


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


@pytest.mark.parametrize("block", [block for block in ALL_BLOCKS if block.mark("run by") is not None], ids=str_place)
def test_a_block_that_another_test_runs_is_in_that_test(block: Block) -> None:
    runner = REPOSITORY / (block.mark("run by") or "")

    assert runner.is_file(), f"{block.place}: name the file that runs it: <!-- run by: FILE -->"
    text = "".join(path.read_text(encoding="utf-8") for path in [runner, *modules_of(runner)])
    whole = all(line in text for line in block.text.splitlines())
    assert whole or block.page.name in text, f"{block.place}: {runner.name} has neither its lines nor reads its page"


def modules_of(script: Path) -> list[Path]:
    """Return the files of our modules that a script starts by `python -m`."""
    found = re.findall(r"python -m (tests[.\w]+)", script.read_text(encoding="utf-8"))
    return [REPOSITORY / (name.replace(".", "/") + ".py") for name in found]


@pytest.mark.parametrize("page", pages(), ids=place)
def test_a_command_is_in_a_block_that_is_run(page: Path) -> None:
    indented = list(indented_code(page))
    shown = [
        f"{block.place}: {line}"
        for block in blocks(page)
        if block.language not in SHELL_LANGUAGES and block.mark("file") is None and block.mark("run by") is None
        for line in block.text.splitlines()
        if COMMAND_LINE.match(line) and "[OPTIONS]" not in line
    ]

    assert indented == [], "write code in a fenced block with a language; an indented one is not run"
    assert shown == [], "write commands in a block of sh or console, which is run"


def test_json_blocks_are_valid_json() -> None:
    for block in ALL_BLOCKS:
        for line in block.text.splitlines() if block.language == "json" else ():
            json.loads(line)

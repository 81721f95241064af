"""The terminal in memory shows what tmux shows: while an answer is drawn, and after tmux was resized in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afkcli.screen.markdown.region import Region
from afkcli.screen.markdown.stream import MarkdownStream
from tests.screen.small_terminal import SmallTerminal
from tests.terminal import Terminal

ANSWER = (
    "# Plants\n\nThey *turn* light into `energy`, word for word, until the line is full and wraps.\n\n"
    "- one\n- two 漢字 wide\n\n```python\nprint('a line of code that is longer than a narrow terminal')\n```\n\n"
    + "x" * 130
    + " and the end.\n"
)


@pytest.mark.parametrize("sizes", [[(80, 24)], [(40, 10)], [(80, 24), (40, 24)], [(40, 12), (80, 24)]])
def test_tmux_shows_the_same(sizes: list[tuple[int, int]], tmp_path: Path) -> None:
    region, memory = Region(MarkdownStream(styles=False), reflows=True), SmallTerminal(*sizes[0])
    parts: list[str] = []
    step = len(ANSWER) // len(sizes) + 1
    for number, size in enumerate(sizes):
        if number:
            memory.resize(*size)
        piece, drawn = ANSWER[number * step : (number + 1) * step], ""
        for at in range(0, len(piece), 7):
            region.feed(piece[at : at + 7])
            drawn += region.draw(*size)
        if number == len(sizes) - 1:
            drawn += region.draw(*size, ended=True)
        memory.write(drawn)
        parts.append(drawn)
        (tmp_path / f"part{number}").write_text(drawn)
    shell = "; ".join([f"cat part{number}; read go" for number in range(len(parts))])
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    columns, lines = sizes[0]
    command = ["sh", "-c", f"stty -echo; {shell}"]
    with Terminal(command, columns=columns, lines=lines, environment=environment, folder=tmp_path) as terminal:
        for number, size in enumerate(sizes):
            if number:
                terminal.resize(*size)
                terminal.key("Enter")
            last = parts[number].split()[-1][-5:]
            terminal.wait_for(last)
        wanted = [line.rstrip() for line in memory.copied().rstrip().split("\n")]
        terminal.wait_until(lambda: lines_of(terminal) == wanted, "the same lines as in memory")


def lines_of(terminal: Terminal) -> list[str]:
    return [line.rstrip() for line in terminal.copied().rstrip().split("\n")]

"""The terminal of the tests shows what a program writes and gives it what is typed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.terminal_pictures import load_scenarios, main

ECHO = """
import os, signal, sys
print("\\x1b[31mready\\x1b[0m", os.get_terminal_size().columns, os.environ["TERM"], flush=True)
signal.signal(signal.SIGWINCH, lambda *_: print("now", os.get_terminal_size().columns, flush=True))
for line in sys.stdin:
    print("got", repr(line), flush=True)
sys.exit(7)
"""


def started(folder: Path, program: str, **options: int) -> Terminal:
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    return Terminal([sys.executable, "-c", program], folder=folder, environment=environment, **options)


def test_a_program_is_typed_to_and_its_screen_read(tmp_path: Path) -> None:
    with started(tmp_path, ECHO, columns=50, lines=10) as terminal:
        terminal.wait_for("ready 50 tmux-256color")
        assert "\x1b[31mready" in terminal.screen(colours=True)
        terminal.type("hé; llo\n")
        terminal.wait_for("got 'hé; llo\\n'")
        terminal.paste("two\nlines\n")
        terminal.wait_for("got 'lines\\n'")
        terminal.resize(60, 12)
        terminal.wait_for("now 60")
        terminal.key("C-d")
        assert terminal.wait_for_end() == 7
        terminal.picture(tmp_path / "picture.svg")
    assert "ready" in (tmp_path / "picture.svg").read_text()


def test_what_has_scrolled_away_is_kept_and_a_signal_is_told(tmp_path: Path) -> None:
    program = "import os; [print('x' * 30, n) for n in range(30)]; os.abort()"
    with started(tmp_path, program, columns=20, lines=5) as terminal:
        assert terminal.wait_for_end() == 128 + 6
        assert terminal.scrolled_away() > 30
        assert f"{'x' * 30} 7\n" in terminal.copied()
        assert f"{'x' * 20}\n{'x' * 10} 7\n" in terminal.text()
        assert "x 7" not in terminal.screen()


def test_pictures_are_left_of_a_scenario_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "pictures"), "answer-dumb"]) == 0
    assert "# Photosynthesis" in (tmp_path / "pictures" / "answer-dumb.txt").read_text()
    assert (tmp_path / "pictures" / "answer-dumb.svg").read_text().startswith("<svg")
    assert main([str(tmp_path), "nothing"]) == 2
    assert "answer-dumb" in capsys.readouterr().err
    assert all(function.__doc__ for function in load_scenarios().values())

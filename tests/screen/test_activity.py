"""The line that is drawn for a moment: its words, its bar, and where it is not drawn."""

from __future__ import annotations

import os
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.core.contract.waits import observed, progress, waiting_for
from afkcli.host.descriptors import LinesForPeople
from afkcli.host.transient import TransientLine
from afkcli.screen.activity import said_after
from afkcli.screen.text import fills_line
from tests.terminal import Terminal


@pytest.mark.parametrize(
    ("text", "columns", "full"),
    [
        ("", 10, False),
        ("x" * 9, 10, False),
        ("x" * 10, 10, True),
        ("x" * 11, 10, False),
        ("x" * 20, 10, True),
        ("中" * 5, 10, True),
        ("x" + "中" * 4, 10, False),  # the next one does not fit, and is not there yet
        ("x" + "中" * 5, 10, False),
        ("e\u0301" * 10, 10, True),
        ("\x1b[2m" + "x" * 10 + "\x1b[0m", 10, True),
        ("\x1b]8;;https://example.org\x1b\\" + "x" * 9 + "\x1b]8;;\x1b\\", 10, False),
        ("\tx", 10, False),
        ("\txx", 10, True),
        ("x" * 10 + "\r" + "y" * 3, 10, False),
    ],
)
def test_whether_a_text_ends_in_the_last_column(text: str, columns: int, full: bool) -> None:
    assert fills_line(text, columns) is full


def test_the_intervals_of_appended_lines_grow() -> None:
    assert [said_after(count) for count in range(8)] == [10, 30, 60, 120, 300, 600, 1200, 1800]


class Noted:
    """An observer of waits, and each of its waits."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def begin(self, text: str, *, in_bytes: bool = False) -> Noted:
        self.told.append(("begin", text))
        return self

    def tell(self, done: float, total: float) -> None:
        self.told.append(("tell", (done, total)))

    def end(self) -> None:
        self.told.append(("end", ""))


def test_a_wait_ends_also_with_an_error() -> None:
    noted = Noted()
    with pytest.raises(RuntimeError), observed(noted), waiting_for("the gate"):
        raise RuntimeError
    assert noted.told == [("begin", "waiting for the gate"), ("end", "")]


def test_without_an_observer_nothing_is_told() -> None:
    with waiting_for("the gate"), progress("counting") as tell:
        tell(1, 2)


@pytest.fixture
def line() -> Iterator[tuple[TransientLine, int]]:
    """A transient line, and the other side of its terminal."""
    main, side = os.openpty()
    os.set_blocking(main, False)
    termios.tcsetwinsize(side, (24, 80))
    lines = LinesForPeople(side, "stderr")
    yield TransientLine(side, "utf-8", lines), main
    lines.close()
    os.close(main)
    os.close(side)


def seen(main: int) -> bytes:
    try:
        return os.read(main, 65536)
    except BlockingIOError:
        return b""


def never(text: str, columns: int) -> bool:
    return False


def test_a_line_comes_only_after_silence_and_is_erased_once(line: tuple[TransientLine, int]) -> None:
    drawn, main = line
    drawn.before_write(b"text\n")
    drawn.draw("waiting", quiet_s=3600, is_full=never)
    assert seen(main) == b""
    drawn.draw("waiting", quiet_s=0, is_full=never)
    assert b"waiting" in seen(main)
    assert drawn.before_write(b"more") != b"more"
    assert drawn.before_write(b"more") == b"more"


def test_a_stopped_terminal_holds_nothing_up(line: tuple[TransientLine, int]) -> None:
    drawn, main = line
    side = drawn._descriptor
    termios.tcflow(side, termios.TCOOFF)
    drawing = threading.Thread(target=lambda: drawn.draw("waiting", quiet_s=0, is_full=never), daemon=True)
    drawing.start()
    drawing.join(60)
    assert not drawing.is_alive()
    assert seen(main) == b""
    termios.tcflow(side, termios.TCOON)


@pytest.mark.parametrize("mode", [termios.ECHO, termios.ICANON], ids=["password", "raw"])
def test_no_line_is_drawn_while_a_program_has_the_terminal(line: tuple[TransientLine, int], mode: int) -> None:
    drawn, main = line
    side = drawn._descriptor
    drawn.draw("waiting", quiet_s=0, is_full=never)
    assert b"waiting" in seen(main)
    modes = termios.tcgetattr(side)
    modes[3] &= ~mode
    termios.tcsetattr(side, termios.TCSANOW, modes)
    drawn.draw("waiting", quiet_s=0, is_full=never)
    erased = seen(main)
    assert erased
    assert b"waiting" not in erased
    drawn.draw("waiting", quiet_s=0, is_full=never)
    assert seen(main) == b""


@pytest.mark.parametrize("size", [(1, 80), (0, 0), (24, 0)], ids=["one line", "unknown", "no width"])
def test_no_line_is_drawn_where_there_is_no_room(line: tuple[TransientLine, int], size: tuple[int, int]) -> None:
    drawn, main = line
    termios.tcsetwinsize(drawn._descriptor, size)
    drawn.draw("waiting", quiet_s=0, is_full=never)
    assert seen(main) == b""


def test_a_question_hides_the_line(line: tuple[TransientLine, int]) -> None:
    drawn, main = line
    drawn.draw("waiting", quiet_s=0, is_full=never)
    seen(main)
    with drawn.hidden():
        assert seen(main) != b""
        drawn.draw("waiting", quiet_s=0, is_full=never)
        assert seen(main) == b""
    drawn.draw("waiting", quiet_s=0, is_full=never)
    assert b"waiting" in seen(main)


def test_nothing_is_drawn_once_a_pipe_has_got_something(line: tuple[TransientLine, int]) -> None:
    drawn, main = line
    reading, writing = os.pipe()
    try:
        before_write = drawn.before_writes_to(writing)
        assert before_write is not None
        drawn.draw("waiting", quiet_s=0, is_full=never)
        seen(main)
        assert before_write(b"an answer") == b"an answer"
        assert seen(main) != b""
        drawn.draw("waiting", quiet_s=0, is_full=never)
        assert seen(main) == b""
    finally:
        os.close(reading)
        os.close(writing)


def test_a_file_takes_nothing_of_the_line(line: tuple[TransientLine, int], tmp_path: Path) -> None:
    with (tmp_path / "answer").open("wb") as file:
        assert line[0].before_writes_to(file.fileno()) is None


BAR = """
import sys
from afkcli.core.contract.waits import progress
from afkcli.host.invocation import Invocation, unblock_stderr
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages

unblock_stderr()
invocation = Invocation.of_process()
messages = Messages(invocation)
with shown_activity(invocation, messages, "beginning"):
    with progress(sys.argv[1], in_bytes=sys.argv[2] == "bytes") as tell:
        for line in sys.stdin:
            tell(*map(int, line.split()))
    messages.say("counted")
"""


@pytest.mark.parametrize(
    ("columns", "given", "shown"),
    [
        (80, "0 1000", "counting carrots [                    ] 0 of 1,000 ("),
        (80, "500 1000", "counting carrots [██████████          ] 500 of 1,000 ("),
        (80, "1200 1000", "counting carrots [████████████████████] 1,000 of 1,000 ("),
        (40, "500 1000", "counting carrots 500 of 1,000 ("),
        (20, "5 9", "c… 5 of 9 ("),
    ],
)
def test_how_far_something_has_come_is_a_bar(tmp_path: Path, columns: int, given: str, shown: str) -> None:
    command = [sys.executable, "-c", BAR, "counting carrots", "numbers"]
    environment = {**os.environ, "LANG": "C.UTF-8", "CI": ""}
    with Terminal(command, columns=columns, environment=environment, folder=tmp_path) as own:
        own.type(f"{given}\n")
        own.wait_for(shown[: columns - 8])
        own.key("C-d")
        assert own.wait_for_end() == 0
        assert own.text() == f"{given}\nafk: counted\n"


def test_bytes_are_shown_in_megabytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BAR, "importing", "bytes"]
    with Terminal(command, environment={**os.environ, "LANG": "C.UTF-8", "CI": ""}, folder=tmp_path) as own:
        own.type(f"{3 << 20} {12 << 20}\n")
        own.wait_for("importing [█████               ] 3 MB of 12 MB (")
        own.key("C-d")
        assert own.wait_for_end() == 0
